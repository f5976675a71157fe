"""Any data set of programming problems with tests, as APPS, LiveCodeBench, code_contests, MBPP and HumanEval are.

``programs:PATH?prompt=question&tests=input_output&level=difficulty&answer=solutions``: behind the question mark stand
the names of its columns, as for ``dataset``. ``selfloop.problems`` knows the shapes that tests have. Programs read
standard input, or are functions, a row at a time; they run in the sandbox and are judged outside it, as ``code`` is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from selfloop import problems
from selfloop.datafiles import value_at
from selfloop.environments import say_once
from selfloop.environments.code import Tested, metadata
from selfloop.environments.dataset import Columns, Row, Rows, Tabular, text_of
from selfloop.errors import UserError
from selfloop.programs import defines
from selfloop.records import Task

SETUP = "test_setup_code"
"""The column of MBPP with what its programs and tests find there."""
FENCE = "Answer with it in a ```python fence."
READS = f"Write a Python program that reads standard input and writes to standard output. {FENCE}"
FUNCTION = f"Write the Python function `{{}}`. {FENCE}"
METHOD = f"Write the method `{{}}` of a class `Solution` in Python. {FENCE}"
LEETCODE = """\
import bisect, collections, functools, heapq, itertools, math, operator, random, re, string, sys
from typing import *
from bisect import *
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import *
from builtins import pow
"""
"""What stands before functions that are judged by examples: such problems name types that they do not import."""


class Problems(Columns):
    """The columns of programming problems."""

    tests: str = Field("tests", description="Column of the tests, or several with commas between them.")
    function: str | None = Field(None, description="Column of the name of the function that the tests call.")
    starter: str | None = Field(None, description="Column of code to begin with, which is shown below the prompt.")
    setup: str | None = Field(None, description="Column of code that runs before a program, if not test_setup_code.")
    answer: str | None = Field(None, description="Column of a right program, or of several, for demonstrations.")
    seconds: float = Field(5.0, gt=0, description="Seconds that all tests of a program have together.")
    unusable: Literal["refuse", "leave-out"] = Field("refuse", description="What becomes of rows without usable tests.")

    def named(self) -> list[str | None]:
        """The columns that the data has to have."""
        return [self.prompt, *self.tests.split(","), self.function, self.starter, self.setup, self.answer, self.level]


class Programs(Tested, Tabular):
    """Programming problems of a data set."""

    name = "programs"
    summary = (
        "programming problems with their tests, of programs or functions: programs:PATH?prompt=COLUMN&tests=COLUMN"
    )
    kind = Problems
    usage = "prompt=COLUMN&tests=COLUMN"
    columns: Problems

    def __init__(self, spec: str = "") -> None:
        super().__init__(spec)
        self.seconds = self.columns.seconds
        self._left_out: list[str] = []

    def read(self) -> Rows:
        """The rows of both splits; says how many were left out."""
        rows = super().read()
        if self._left_out:
            say_once(f"{self.place}: {len(self._left_out)} rows are left out. The first: {self._left_out[0]}")
        return rows

    def row(self, row: Mapping[str, Any], number: int) -> Iterator[Row]:
        """The task of a row, or none where its tests cannot be used and such rows are left out."""
        try:
            yield self._problem(row, number)
        except UserError as error:
            if self.columns.unusable == "refuse":
                said = str(error).rstrip(".")
                raise UserError(f"{said}; or leave such rows out with unusable=leave-out.") from None
            self._left_out.append(str(error))

    def demonstration(self, task: Task) -> str:
        """The row's own program. Raises ``UserError`` where it has none."""
        if not task.answer:
            raise UserError(
                f"{self.place} gives row {json.loads(task.metadata)['row']} no program to show: name the column of "
                "right programs with answer=COLUMN, or begin with a policy that needs to be shown none."
            )
        return task.answer

    def _problem(self, row: Mapping[str, Any], number: int) -> Row:
        prompt, starter = self.prompt_of(row, number), self._part(row, self.columns.starter)
        try:
            problems.refuse_checker(row)
            tests = self._tests(row, starter)
            before = self._setup(row) + self._before(tests, prompt)
            kept = json.loads(metadata(tests.asserts or tests.examples, tests.function, before))
        except problems.UnusableError as error:
            raise UserError(f"{self.place}: row {number} {error}.") from None
        except UserError as error:
            raise UserError(f"{self.place}: row {number}: {error}") from None
        is_method = bool(tests.examples) and problems.is_method(starter)
        kept |= {"row": str(number)} | ({"class": "Solution"} if is_method else {})
        asked = f"{prompt}\n\nBegin with this code:\n```python\n{starter.rstrip()}\n```" if starter.strip() else prompt
        usual = (METHOD if is_method else FUNCTION).format(kept["function"]) if kept["function"] else READS
        answer = self._answer(row, before, kept["function"])
        return Row(self.level_of(row, number), self.instructed(asked, usual), answer, kept)

    def _tests(self, row: Mapping[str, Any], starter: str) -> problems.Problem:
        named = self._part(row, self.columns.function) or _func_name(row.get("metadata"))
        values = [value_at(row, column) for column in self.columns.tests.split(",")]
        return problems.problem_of(values, named or problems.defined_by(starter))

    def _before(self, tests: problems.Problem, prompt: str) -> str:
        """What stands before a program: the prompt, where it is code that a completion continues."""
        if tests.examples:
            return LEETCODE if tests.function else ""
        return prompt if defines(prompt, tests.function) else ""

    def _answer(self, row: Mapping[str, Any], before: str, function: str) -> str:
        """A right program as the policy is asked to write it, empty where the row has none."""
        found = problems.solution_of(value_at(row, self.columns.answer)) if self.columns.answer else ""
        if not found.strip() or self.columns.instruction == "":
            return found if found.strip() else ""
        whole = before + found if defines(before, function) and not defines(found, function) else found
        return f"```python\n{whole.strip()}\n```"

    def _setup(self, row: Mapping[str, Any]) -> str:
        setup = self._part(row, self.columns.setup or SETUP).rstrip()
        return setup and f"{setup}\n"

    def _part(self, row: Mapping[str, Any], column: str | None) -> str:
        return (column and text_of(value_at(row, column))) or ""


def _func_name(about: object) -> str:
    """The function that LiveCodeBench names in its column ``metadata``, an object or JSON."""
    try:
        about = json.loads(about) if isinstance(about, str) else about
    except ValueError:
        return ""
    return str(about.get("func_name") or "") if isinstance(about, Mapping) else ""


environment = Programs
