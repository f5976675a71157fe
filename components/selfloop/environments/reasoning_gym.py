"""Every taskset of reasoning-gym (arXiv:2505.24760) by name, ``reasoning-gym:countdown``, with its own verifier.

Level n sets every attribute of the taskset's curriculum to its n-th level, or to its last. The same seed gives the same
tasks; in isomorphic_strings, knight_swap, polynomial_multiplication, ransom_note and word_ladder only under the same
PYTHONHASHSEED, and not always in codeio, which runs programs to make its tasks.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import random
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from selfloop.answers import boxed
from selfloop.environments import Environment, Grade, as_columns
from selfloop.errors import UserError, needing
from selfloop.lookup import unknown
from selfloop.records import Task

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.workers import Outcome

MATHEMATICS = re.compile(
    r"""(?: \*\*\s*(?:\d{1,3}|[A-Za-z]|\(\s*-?\d{1,3}\s*(?:/\s*\d{1,3}\s*)?\))(?![\w.]|\s*\*\*)  # no towers of powers
          | \*(?!\*) | [\s\d+/(),-] | (?<=\d)\. | \.(?=\d)
          | \b(?:[A-Za-z]|a?(?:sin|cos|tan)h?|exp|log|sqrt|pi|Integral)\b )*""",
    re.VERBOSE,
)
"""What may be handed to a verifier that has sympy parse it, which evaluates it as Python."""


INSTRUCTION = "\n\nPut the final answer in <answer></answer> tags."
SENTENCE = re.compile(r"\banswer(?: is|:)(.+)", re.IGNORECASE)
PROCESSES, SECONDS, MEBIBYTES = 2, 10.0, 4096
"""What checking may take: how many processes, how long for one answer, and the address space of each."""
UNCHECKABLE = ("timeout", "out of memory", "crashed")


class ReasoningGym(Environment):
    """One taskset of reasoning-gym."""

    name = "reasoning-gym"
    summary = "the procedural tasksets of reasoning-gym, each as reasoning-gym:NAME"

    def __init__(self, taskset: str = "") -> None:
        with needing("The environment 'reasoning-gym'", "reasoning-gym"):
            from reasoning_gym.factory import CURRICULA, DATASETS
        if not taskset:
            raise UserError("reasoning-gym is a family: write reasoning-gym:NAME, as in reasoning-gym:countdown.")
        known = DATASETS.keys() - {"composite"}  # it mixes the others and has no tasks of its own
        if taskset not in known:
            raise unknown("reasoning-gym taskset", taskset, known)
        self.taskset = taskset
        self._kind, default = DATASETS[taskset]
        self._configs = _levels(CURRICULA[taskset]()) if taskset in CURRICULA else []
        if self._configs:
            self.levels = range(1, len(self._configs) + 1)
        else:
            self._configs = [default()]
        self._verifiers: dict[int, Any] = {}
        score = self._kind.score_answer
        self._parses = "parse_expr" in score.__code__.co_names
        if "eval" in score.__code__.co_names:
            # It evaluates what the policy wrote, to accept a list; this reads a list and runs nothing.
            score.__globals__["eval"] = ast.literal_eval

    def entries(self, level: int, count: int, seed: int) -> list[dict[str, Any]]:
        """Tasks as reasoning-gym makes them: ``question``, ``answer`` (``None`` where it knows none), ``metadata``."""
        # Item i is made from seed + i, and numpy takes less than 2**32; drawn, so that near seeds share no items.
        start = random.Random(seed).randrange(2**31)
        with redirect_stdout(sys.stderr):  # some tasksets print while they make a task
            dataset = self._dataset(level, seed=start, size=max(count, 1))
            return [dataset[number] for number in range(count)]

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Tasks of one level; the metadata holds, as JSON, what the verifier needs of the entry."""
        made = []
        for number, entry in enumerate(self.entries(level, count, seed)):
            prompt, answer = entry.pop("question"), entry["answer"] or ""
            kept = json.dumps(_pack(entry))
            id, asked = f"{self.taskset}-{level}-{seed:x}-{number}", f"{prompt}{INSTRUCTION}"
            made.append(Task(id, level, "", asked, answer, metadata=kept))
        return made

    def demonstration(self, task: Task) -> str:
        """The answer in the tags that are asked for."""
        return f"<answer>{task.answer}</answer>"

    def extract_answer(self, completion: str) -> str:
        """What stands in the last <answer> tags or box, or behind "answer is" in the last line, or else all of it."""
        from reasoning_gym.utils import extract_answer

        tagged = extract_answer(completion)
        said = boxed(completion) if tagged is None else str(tagged)
        if said is None:
            sentence = SENTENCE.search(completion.strip().rpartition("\n")[2])
            said = sentence[1].strip(" *").removesuffix(".") if sentence else completion
        return said.strip()

    def check(self, task: Task, completion: str) -> Grade:
        """What reasoning-gym's verifier says of the answer in a completion."""
        answer = self.extract_answer(completion)
        if self._parses and not MATHEMATICS.fullmatch(answer):
            return Grade(False, 0.0, "not plain mathematics")
        if task.level not in self._verifiers:
            self._verifiers[task.level] = self._dataset(task.level, seed=0, size=1)
        verifier = self._verifiers[task.level]
        entry = _unpack(json.loads(task.metadata)) | {"question": task.prompt.removesuffix(INSTRUCTION)}
        try:
            scored = float(verifier.score_answer(answer, entry))
        except Exception as error:
            verifier.score_answer(entry["answer"], entry)  # raises if the fault is not in the completion
            return Grade(False, 0.0, f"unreadable answer ({type(error).__name__})")
        score = min(1.0, max(0.0, scored))
        # Most verifiers give part of the credit for an answer that can be read; all of it, up to rounding, is solved.
        ok = score >= 1 - 1e-9
        return Grade(ok, score, "correct" if ok else "wrong answer")

    def check_batch(self, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Grade a batch in processes of their own: one that takes longer than 10 seconds for an answer is killed."""
        from selfloop.workers import pool

        if not tasks.num_rows:
            return as_columns([])
        items = [
            (self.taskset, list(task.values()), completion)
            for task, completion in zip(tasks.to_pylist(), completions.to_pylist(), strict=True)
        ]
        outcomes = pool(f"{__name__}:graded", PROCESSES, SECONDS, MEBIBYTES, (self.taskset,)).map(items)
        return as_columns([self._grade(*each) for each in zip(outcomes, tasks["id"].to_pylist(), strict=True)])

    def _grade(self, outcome: Outcome, task: str) -> Grade:
        if not outcome.failure:
            return Grade(*outcome.value)
        if outcome.failure in UNCHECKABLE:
            return Grade(False, 0.0, outcome.failure)
        raise UserError(
            f"The verifier of reasoning-gym:{self.taskset} fails on the answer of task '{task}' itself "
            f"({outcome.failure}): take another taskset or level."
        )

    def _dataset(self, level: int, seed: int, size: int) -> Any:
        if not 1 <= level <= len(self._configs):
            raise UserError(f"reasoning-gym:{self.taskset} has levels 1 to {len(self._configs)}, not {level}.")
        return self._kind(config=dataclasses.replace(self._configs[level - 1], seed=seed, size=size))


@cache
def _environment(taskset: str) -> ReasoningGym:
    return ReasoningGym(taskset)


def graded(taskset: str, task: Sequence[Any] = (), completion: str = "") -> Grade | None:
    """In a child: what ``check`` says of a completion; without a task, the taskset is only made ready."""
    environment = _environment(taskset)
    return environment.check(Task(*task), completion) if task else None


def _levels(curriculum: Any) -> list[Any]:
    """The configuration of each level, without those that reasoning-gym itself refuses (every one of knight_swap's)."""
    configs = []
    for level in range(max(len(attribute.levels) for attribute in curriculum.attributes.values())):
        curriculum.set_global_level(level)  # an attribute with fewer levels stays at its last
        config = curriculum.generate_configuration()
        try:
            getattr(config, "validate", lambda: None)()
        except AssertionError:
            continue
        configs.append(config)
    return configs


def _pack(value: Any) -> Any:
    """A value as JSON, exactly: a tag names what JSON lacks. Raises ``TypeError`` for what is not known here."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_pack(item) for item in value]
        case tuple() | set() if type(value) in (tuple, set):
            return {type(value).__name__: [_pack(item) for item in value]}
        case dict():
            return {"dict": [[_pack(key), _pack(item)] for key, item in value.items()]}
        case Fraction():
            return {"Fraction": str(value)}
    raise TypeError(f"A task of reasoning-gym holds a {type(value)}, which cannot be kept.")


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    return {"tuple": tuple, "set": set, "dict": dict, "Fraction": Fraction}[kind](_unpack(content))


environment = ReasoningGym
