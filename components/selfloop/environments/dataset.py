"""Any data set with a prompt and an answer: a JSONL, JSON, CSV, TSV or Parquet file, a folder of them, or the Hub's.

``dataset:PATH?prompt=question&answer=final&level=difficulty&check=number``: behind the question mark stand the names of
its columns (``extra.answer`` for a part of one, and a column of messages holds a question or an answer) and how a
completion is checked, as in a web address. What is judged on is never trained on: rows of the
split ``held_out``, or those that ``selfloop.split`` holds out where the data has none.
"""

from __future__ import annotations

import json
import math
import random
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field

from selfloop.answers import CHECKS, IN_A_BOX, agreeing, compared, stated
from selfloop.datafiles import Table, check_place, splits_of, value_at
from selfloop.environments import Environment, Grade, as_columns
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.records import Task
from selfloop.revisions import DATASETS
from selfloop.stages import validated

if TYPE_CHECKING:
    import pyarrow as pa

LEVELS = {
    **{"introductory": 1, "interview": 2, "competition": 3},
    **{"easy": 1, "medium": 2, "medium_hard": 3, "hard": 3, "very_hard": 4},
}
"""The levels that data sets have in words, as numbers."""


class Row(NamedTuple):
    """One task of a data set. ``metadata`` goes with the task, for who verifies or reports."""

    level: int
    prompt: str
    answer: str
    metadata: dict[str, Any]


class Rows(NamedTuple):
    """The rows to train on, and those to be judged on where the data keeps them apart."""

    training: list[Row]
    held_out: list[Row]


class Finite(Environment):
    """An environment whose tasks are rows, drawn without replacement; where there are fewer than asked for, all."""

    max_tokens = 2048
    place: str

    @abstractmethod
    def read(self) -> Rows:
        """Every row that there is."""

    def files(self) -> list[str]:
        """Its file or folder, or its name on the Hub."""
        return [self.place if Path(self.place).expanduser().exists() else f"{DATASETS}{self.place}"]

    @cached_property
    def _rows(self) -> dict[str, dict[int, list[Row]]]:
        training, held_out = self.read()
        if not training:
            raise UserError(f"{self.place} holds no tasks to train on: give one with more rows.")
        for row in (*training, *held_out):
            self._refuse_unusable(row)
        judged = {row.prompt for row in held_out}
        return {
            "train": by_level(row for row in training if row.prompt not in judged),
            "held-out": by_level(held_out),
        }

    def _refuse_unusable(self, row: Row) -> None:
        """Raise ``UserError`` for a row that no completion is right by."""

    @property
    def source(self) -> str:
        """Its place."""
        return self.place

    @property
    def apart(self) -> bool:
        """Whether the data has a split to be judged on."""
        return bool(self._rows["held-out"])

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """``count`` rows of one level, in an order of the seed; none of a split to be judged on."""
        return self._draw("train", level, count, seed)

    def held_out(self, level: int, count: int, seed: int) -> list[Task]:
        """``count`` rows of one level of the split to be judged on, or of the only one."""
        return self._draw("held-out" if self.apart else "train", level, count, seed)

    def _draw(self, part: str, level: int, count: int, seed: int) -> list[Task]:
        rows = self._rows[part].get(level, [])
        if not rows:
            known = ", ".join(map(str, sorted(self._rows[part])))
            other = f" of level {level}: it has some of level {known}." if known else ": give it more rows."
            raise UserError(f"{self.place} has no {part} tasks{other}")
        drawn = random.Random(seed).sample(rows, len(rows))[:count]
        return [
            Task(f"{self.name}-{part}-{level}-{seed:x}-{number}", level, "", row.prompt, row.answer, 1, self.max_tokens)
            ._replace(metadata=json.dumps(row.metadata))
            for number, row in enumerate(drawn)
        ]  # fmt: skip


class Answered(Finite):
    """Rows whose completions end with an answer, which is compared with that of the row."""

    check_name: str

    def _refuse_unusable(self, row: Row) -> None:
        """Raise ``UserError`` for an answer that no completion is right by: not even one that gives it."""
        where = f"{self.place}: row {row.metadata['row']}"
        try:
            is_right = CHECKS[self.check_name](row.answer, self._as_asked(row.answer)).ok
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if not is_right:
            raise UserError(
                f"{where} has the answer {row.answer[:40]!r}, by which nothing is right with check={self.check_name}: "
                "correct it, or choose another check."
            )

    def _as_asked(self, answer: str) -> str:
        """An answer as a policy is asked to write it."""
        return f"\\boxed{{{answer}}}" if self.check_name in ("number", "math") else answer

    def check(self, task: Task, completion: str) -> Grade:
        """Compare the completion's final answer with the row's."""
        return CHECKS[self.check_name](task.answer, completion)

    def check_batch(self, tasks: pa.RecordBatch, completions: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Compare a batch, mathematics in several processes."""
        if self.check_name != "math":
            return super().check_batch(tasks, completions)
        return as_columns(compared(list(zip(tasks["answer"].to_pylist(), completions.to_pylist(), strict=True))))

    def demonstration(self, task: Task) -> str:
        """The row's own solution, or its answer as it is asked for."""
        return str(json.loads(task.metadata).get("solution", self._as_asked(task.answer)))

    def extract_answer(self, completion: str) -> str:
        """The final answer, numbers in one form."""
        return stated(completion, self.check_name)

    def agree(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether two answers are one to its check."""
        return agreeing(pairs, self.check_name)


def by_level(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """Rows by their level, each prompt once, in the same order whatever that of the data is."""
    found: dict[int, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        found[row.level].setdefault(row.prompt, row)
    return {level: [prompts[prompt] for prompt in sorted(prompts)] for level, prompts in found.items()}


class Columns(BaseModel):
    """What a data set is made of; pydantic names what is not known here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field("prompt", description="Column of the prompts.")
    level: str | None = Field(None, description="Column of the levels: '3', 'Level 3', or a word such as 'easy'.")
    split: str = Field("train", description="Split to train on.")
    held_out: str | None = Field(None, description="Split to be judged on; 'test' where the data has one of that name.")
    config: str | None = Field(None, description="Configuration, where the data set has several.")
    instruction: str | None = Field(None, description="What stands below each prompt, in place of the usual.")

    def named(self) -> list[str | None]:
        """The columns that the data has to have."""
        return [self.prompt, self.level]


class Tabular(Finite):
    """A data set of one's own, whose columns are named behind its place."""

    kind: ClassVar[type[Columns]]
    usage: ClassVar[str]
    """How its columns are named."""
    columns: Columns

    def __init__(self, spec: str = "") -> None:
        if not spec:
            raise UserError(f"{self.name} is a family: write {self.name}:PATH?{self.usage}.")
        self.place, _, query = spec.partition("?")
        self.columns = validated(self.kind, dict(parse_qsl(query, keep_blank_values=True)), self.name)
        check_place(self.place)

    @abstractmethod
    def row(self, row: Mapping[str, Any], number: int) -> Iterator[Row]:
        """The task of a row, or none. Raises ``UserError`` for one that cannot be used."""

    @cached_property
    def levels(self) -> range | None:  # type: ignore[override]
        """The levels, where a column holds them; reading them also refuses data that cannot be used."""
        found = self._rows["train"]
        return range(min(found), max(found) + 1) if self.columns.level is not None else None

    def read(self) -> Rows:
        """The rows of the two splits, or all of the only one."""
        splits, wanted = splits_of(self.place, self.columns.config), self.columns
        held_out = wanted.held_out or ("test" if wanted.split != "test" and "test" in splits else None)
        for name in (wanted.split, held_out):
            if name is not None and name not in splits:
                raise unknown(f"split of {self.place}", name, splits)
        return Rows(*(list(self._read(splits[name])) if name else [] for name in (wanted.split, held_out)))

    def _read(self, table: Table) -> Iterator[Row]:
        for name in filter(None, self.columns.named()):
            if not {name, name.partition(".")[0]} & {*table.columns}:
                raise UserError(f"{self.place} has no column '{name}': its columns are {', '.join(table.columns)}.")
        for number, row in enumerate(table.rows, 1):
            yield from self.row(row, number)

    def prompt_of(self, row: Mapping[str, Any], number: int) -> str:
        """The text or the question in the column of prompts."""
        return self.text(question_of(value_at(row, self.columns.prompt)), self.columns.prompt, number)

    def level_of(self, row: Mapping[str, Any], number: int) -> int:
        """The level of a row, 1 where the data has none."""
        if self.columns.level is None:
            return 1
        value = value_at(row, self.columns.level)
        level = level_of(value)
        if level is None:
            raise UserError(
                f"{self.place}: the level of row {number} is {value!r}: levels are whole numbers, or one of "
                f"{', '.join(LEVELS)}."
            )
        return level

    def instructed(self, prompt: str, usual: str) -> str:
        """A prompt with the instruction below it, one's own or the usual one."""
        instruction = usual if self.columns.instruction is None else self.columns.instruction
        return f"{prompt}\n\n{instruction}" if instruction else prompt

    def text(self, value: object, name: str, number: int) -> str:
        """The text of a value. Raises ``UserError`` with its column and row where it is none."""
        text = text_of(value)
        if text is None:
            raise UserError(
                f"{self.place}: row {number} has no text or number in column '{name}' but {str(value)[:40]!r}."
            )
        return text


class Answers(Columns):
    """Columns with an answer, and how it is compared."""

    answer: str = Field("answer", description="Column of the answers.")
    check: Literal["exact", "number", "math", "contains"] = Field("exact", description="When a completion is right.")

    def named(self) -> list[str | None]:
        """The columns that the data has to have."""
        return [self.prompt, self.answer, self.level]


class AnyDataset(Tabular, Answered):
    """A data set of one's own, with answers."""

    name = "dataset"
    summary = "a file, folder or data set of the Hub: dataset:PATH?prompt=COLUMN&answer=COLUMN&check=number"
    kind = Answers
    usage = "prompt=COLUMN&answer=COLUMN"
    columns: Answers

    def __init__(self, spec: str = "") -> None:
        super().__init__(spec)
        self.check_name = self.columns.check

    def row(self, row: Mapping[str, Any], number: int) -> Iterator[Row]:
        """The task of a row."""
        prompt = self.instructed(self.prompt_of(row, number), IN_A_BOX if self.check_name in ("number", "math") else "")
        answer = self.text(answer_of(value_at(row, self.columns.answer)), self.columns.answer, number)
        yield Row(self.level_of(row, number), prompt, answer, {"row": str(number)})


def question_of(value: object) -> object:
    """Of a chat its question, behind the system message where it has one; of more turns, and of other values, the value
    itself. An answer at the end is no part of it.
    """
    chat = _chat(value)
    asked = chat[:-1] if chat and chat[-1][0] == "assistant" else chat
    is_question = [role for role, _ in asked] in (["user"], ["system", "user"])
    return "\n\n".join(text for _, text in asked) if is_question else value


def answer_of(value: object) -> object:
    """Of a chat the answer that it ends with; of other values the value itself."""
    chat = _chat(value)
    return chat[-1][1] if chat and chat[-1][0] == "assistant" else value


def _chat(value: object) -> list[tuple[str, str]]:
    """Roles and texts of messages; none where the value is no list of messages."""
    messages = value if isinstance(value, list) else []
    if not all(isinstance(each, Mapping) and each.keys() >= {"role", "content"} for each in messages):
        return []
    return [(each["role"], _content(each["content"])) for each in messages]


def _content(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def text_of(value: object) -> str | None:
    """A text, a finite number or a day as a text; none of anything else, of a blank, and of what is no Unicode."""
    if isinstance(value, bool | datetime) or not isinstance(value, str | int | float | Decimal | date):
        return None
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text if text.strip() and text.encode(errors="ignore").decode() == text else None


def level_of(value: object) -> int | None:
    """A level as a number: of ``3``, ``'3'``, ``'Level 3'`` and the words of ``LEVELS``; none of anything else."""
    last = "".join(str(value).split()[-1:])
    return int(last) if last.isascii() and last.isdigit() else LEVELS.get(last.lower())


environment = AnyDataset
