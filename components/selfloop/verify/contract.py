"""The contract of a verifier: what it is given, and what it must give."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from selfloop.environments import Environment, unified
from selfloop.errors import UserError
from selfloop.records import Rollout, read
from selfloop.strategies import Strategy
from selfloop.texts import reason

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.generate.engines import Engine, Score
    from selfloop.policy import Policy
    from selfloop.verify.verify import VerifyParams

    Judged = tuple[pa.Array, pa.Array, pa.Array]
    """``ok`` (bool, null for no opinion), ``score`` (float) and ``reason`` (string), a row each."""
else:
    Judged = tuple

Asked = Literal["", "policy", "reward-model"]


class Verifier(Strategy):
    """What tells good rollouts from others.

    ``asks`` says of which kind of model it asks, if it asks any, and ``notes`` what it reads of how attempts were
    drawn.
    """

    kind = "verifier"
    package = "selfloop.verify.verifiers"
    asks: ClassVar[Asked] = ""
    notes: ClassVar[Score] = "nothing"

    @property
    def noted(self) -> Score:
        """What is to be noted of each attempt for it, which a training that believes it does by itself."""
        return self.notes

    @property
    def wants(self) -> Asked:
        """The kind of model that it must be handed, which the stage ``judge_rollouts`` does."""
        return self.asks

    @property
    def asks_in(self) -> str:
        """The role that it asks a policy in, where the environment offers it; empty where it asks in none."""
        return ""

    @property
    def asking(self) -> str:
        """The same as the beginning of a sentence."""
        return f"The verifier '{self.spelling()}' asks a {self.wants.replace('-', ' ')}"

    @property
    def loads(self) -> bool:
        """Whether it runs a model, which wants an image and hardware for that."""
        return bool(self.asks)

    @abstractmethod
    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """What it says of a batch of rollouts and of their tasks, row by row."""


@dataclass
class Timings:
    """How long judging took. What is judged many at once counts as equally long a row; ``timeouts`` were cut off."""

    seconds: float = 0.0
    slowest: float = 0.0
    timeouts: int = 0


class Context:
    """What a verifier may look at beyond its batch, and where it notes what it met.

    ``rollouts`` are all of the round: a table's directory, or batches in memory. ``notes`` are counts that the report
    shows, such as answers of a judge that cannot be read.
    """

    def __init__(
        self,
        params: VerifyParams,
        environment: Environment,
        rollouts: Path | Iterable[pa.RecordBatch],
        model: Policy | Engine | Path | None = None,
    ) -> None:
        """``model`` is what the verifier asks: a policy, or the directory of a reward model."""
        self.params, self.environment, self._rollouts, self._model = params, environment, rollouts, model
        self.notes: Counter[str] = Counter()
        self.timings = Timings()
        self.unread = ""

    @property
    def policy(self) -> Policy | Engine:
        """The policy to ask. Raises ``UserError`` where there is none."""
        if self._model is None or isinstance(self._model, Path):
            raise UserError(
                f"The verifier '{self.params.verifier.spelling()}' asks a policy, and it was given none: use the stage "
                "judge_rollouts, which takes one."
            )
        return self._model

    @property
    def reward_model(self) -> Path:
        """The directory of the reward model to ask. Raises ``UserError`` where there is none."""
        if not isinstance(self._model, Path):
            raise UserError(
                f"The verifier '{self.params.verifier.spelling()}' asks a reward model, and it was given none: name "
                "one with its parameter 'model', or use the stage judge_rollouts, which takes one."
            )
        return self._model

    @cached_property
    def longest(self) -> dict[int, int]:
        """The length of the longest completion of each level, over all rollouts of the round."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found: dict[int, int] = {}
        place = self._rollouts
        for batch in read(place, Rollout, ["level", "completion"]) if isinstance(place, Path) else place:
            lengths = pa.table({"level": batch["level"], "length": pc.utf8_length(batch["completion"])})
            for row in lengths.group_by("level").aggregate([("length", "max")]).to_pylist():
                found[row["level"]] = max(found.get(row["level"], 0), row["length_max"])
        return found

    def answers(self, rollouts: pa.RecordBatch) -> pa.Array:
        """The answer in each completion; empty where it gives none."""
        return answers(rollouts, self.environment)

    def votes(self, rollouts: pa.RecordBatch) -> pa.Array:
        """What votes are counted on; empty where a completion gives no answer, which has no vote."""
        return votes(rollouts, self.environment)

    def read_answers(self, texts: Sequence[str], values: Sequence[object]) -> None:
        """Note how many of a judge's answers could be read: those whose value is not ``None``."""
        unread = [text for text, value in zip(texts, values, strict=True) if value is None]
        self.notes["answers"] += len(texts)
        self.notes["answers that cannot be read"] += len(unread)
        self.unread = self.unread or next(iter(unread), "")

    def check_answers(self) -> None:
        """Refuse a judge of which not one answer could be read."""
        asked = self.notes["answers"]
        if asked and self.notes["answers that cannot be read"] == asked:
            raise UserError(
                f"Not one of the {asked} answers that the verifier '{self.params.verifier.spelling()}' got from its "
                f"policy can be read, such as {self.unread[:80]!r}: use a policy that can do what it is asked, or "
                "another verifier."
            )


def answers(rollouts: pa.RecordBatch, environment: Environment) -> pa.Array:
    """The answer in each completion; empty where it gives none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = rollouts["completion"].dictionary_encode()
    found = pa.array([environment.extract_answer(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(found), ""), "", found).take(encoded.indices)


def votes(rollouts: pa.RecordBatch, environment: Environment) -> pa.Array:
    """What votes are counted on: the answers, those at one task that say the same in one spelling."""
    import pyarrow as pa

    said, groups = answers(rollouts, environment), defaultdict(list)
    if type(environment).agree is Environment.agree:
        return said
    for row, task in enumerate(rollouts["task"].to_pylist()):
        groups[task].append(row)
    order = list(chain.from_iterable(groups.values()))
    spelt = unified([said.take(pa.array(rows)).to_pylist() for rows in groups.values()], environment)
    by_row = dict(zip(order, chain.from_iterable(spelt), strict=True))
    return pa.array([by_row[row] for row in range(len(said))], pa.string())


def said(rollouts: pa.RecordBatch, environment: Environment) -> pa.Array:
    """The same, and null where the environment does not tell an answer from the rest of a completion."""
    import pyarrow as pa

    if type(environment).extract_answer is Environment.extract_answer:
        return pa.nulls(rollouts.num_rows, pa.string())
    return votes(rollouts, environment)


def called(verifier: Verifier, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """What a verifier says of a batch, checked. Raises ``UserError`` where it fails or breaks the contract."""
    name = verifier.spelling()
    timings, began = context.timings, perf_counter()
    before, slowest = timings.seconds, timings.slowest
    try:
        given = verifier(rollouts, tasks, context)
    except UserError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        where = _failing(verifier, rollouts, tasks, context)
        raise UserError(
            f"The verifier '{name}' failed on {where} ({what}): mend it, or have it say so as a verdict."
        ) from error
    spent = perf_counter() - began
    timings.seconds = before + spent  # what it called in turn is part of it
    if timings.slowest == slowest and rollouts.num_rows:  # it did not time each item by itself
        timings.slowest = max(slowest, spent / rollouts.num_rows)
    return _checked(name, given, rollouts.num_rows)


def ended(rollouts: pa.RecordBatch, ok: pa.Array, score: pa.Array, reason: pa.Array) -> Judged:
    """The same where the policy ended its completion by itself; what it did not end is wrong."""
    import pyarrow.compute as pc

    finished = rollouts["finished"]
    return (
        pc.if_else(finished, ok, False),
        pc.if_else(finished, score, 0.0),
        pc.if_else(finished, reason, "no end token"),
    )


def _failing(verifier: Verifier, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> str:
    """The first task on whose rollouts alone a verifier fails as well; asking a model again would cost too much."""
    import pyarrow.compute as pc

    names = pc.unique(rollouts["task"]).to_pylist()
    for name in [] if verifier.wants else names:
        mine = pc.equal(rollouts["task"], name)
        try:
            verifier(rollouts.filter(mine), tasks.filter(mine), context)
        except Exception:
            return f"the rollouts of task '{name}'"
    return f"the rollouts of the tasks '{names[0]}' to '{names[-1]}'" if names else "a batch without rollouts"


def _checked(name: str, given: object, rows: int) -> Judged:
    import pyarrow.compute as pc

    if not isinstance(given, tuple) or len(given) != 3:
        what = f"{type(given).__name__}{f' of {len(given)}' if isinstance(given, tuple) else ''}"
        raise UserError(f"The verifier '{name}' gave {what}: let it give a tuple (ok, score, reason).")
    columns = []
    for what, values in zip(("ok", "score", "reason"), given, strict=True):
        column = _column(name, what, values)
        if len(column) != rows:
            raise UserError(
                f"The verifier '{name}' gave {len(column)} rows of '{what}' for {rows} rollouts: let it give one each."
            )
        if what != "ok" and column.null_count:
            raise UserError(f"The verifier '{name}' gave a '{what}' that is missing: only 'ok' may be.")
        columns.append(column)
    if not pc.all(pc.is_finite(columns[1])).as_py() and rows:
        raise UserError(f"The verifier '{name}' gave a score that is not a finite number: let it give one.")
    return columns[0], columns[1], _in_words(columns[2])


def _in_words(reasons: pa.Array) -> pa.Array:
    """Reasons go into reports, terminals and metrics: what a verifier quotes of a completion must do no harm there."""
    import pyarrow as pa

    encoded = reasons.dictionary_encode()
    return pa.array(map(reason, encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices)


def _column(name: str, what: str, values: Any) -> pa.Array:
    import pyarrow as pa

    kinds: dict[str, tuple[Any, Callable[[pa.DataType], bool], str]] = {
        "ok": (pa.bool_(), pa.types.is_boolean, "bool, or null where it has no opinion"),
        "score": (pa.float64(), lambda t: pa.types.is_floating(t) or pa.types.is_integer(t), "a number"),
        "reason": (pa.string(), lambda t: pa.types.is_string(t) or pa.types.is_large_string(t), "text"),
    }
    kind, fits, wanted = kinds[what]
    try:
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
        raise UserError(f"The verifier '{name}' gave a '{what}' that is no column: let it be {wanted}.") from None
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not fits(column.type) and not pa.types.is_null(column.type):
        raise UserError(f"The verifier '{name}' gave '{what}' as {column.type}: let it be {wanted}.")
    return column.cast(kind)
