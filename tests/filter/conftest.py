"""Judged rollouts, through a single selector or through the whole stage."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from kfp.dsl import Dataset
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.filter.filter import Step, selected
from selfloop.filter.selecting import Context
from selfloop.records import Example, Rollout, Verdict, rows, to_batch

from ..conftest import sealed_table

if TYPE_CHECKING:
    import pyarrow as pa


class Judged(NamedTuple):
    """A rollout and what the verifier said of it."""

    rollout: Rollout
    ok: bool | None
    score: float
    reason: str

    @property
    def verdict(self) -> Verdict:
        said: dict[str, Any] = {"task": self.rollout.task, "level": self.rollout.level, "attempt": self.rollout.attempt}
        said |= {"ok": self.ok, "score": self.score, "reason": self.reason, "truth": None}
        return Verdict(**{name: said[name] for name in Verdict._fields})


def judged(
    task: str,
    level: int,
    attempt: int,
    completion: str,
    ok: bool | None,
    reason: str = "wrong answer",
    score: float | None = None,
    **rollout: Any,
) -> Judged:
    given: dict[str, Any] = {"prompt": f"{task}?", "finished": True, "tokens": len(completion)} | rollout
    made = Rollout(task=task, level=level, attempt=attempt, completion=completion, **given)
    return Judged(made, ok, float(ok or 0) if score is None else score, "correct" if ok else reason)


def group(task: str, *attempts: tuple[str, bool | None] | tuple[str, bool | None, float], **given: Any) -> list[Judged]:
    """The attempts at a task: what was said, whether it is correct, and its score."""
    return [
        judged(task, 1, number, said, ok, score=score[0] if score else None, **given)
        for number, (said, ok, *score) in enumerate(attempts)
    ]


def joined(given: Iterable[Judged]) -> "pa.RecordBatch":
    """Rollouts beside their verdicts, as they are before they are grouped."""
    import pyarrow as pa

    given = list(given)
    batch = to_batch(Rollout, [each.rollout for each in given])
    columns = [pa.array([getattr(each, name) for each in given]) for name in ("ok", "score", "reason")]
    columns[0] = columns[0].cast(pa.bool_())
    return pa.RecordBatch.from_arrays([*batch.columns, *columns], names=[*batch.schema.names, "ok", "score", "reason"])


class Selected:
    """What some selectors keep of judged rollouts, and what each of them counted."""

    def __init__(
        self, place: Path, params: FilterParams, batches: list["pa.RecordBatch"], before: Counter[int] | None = None
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        steps = [Step(selector) for selector in params.select]
        kept = list(selected(iter(batches), steps, Context(before or Counter()), place))
        self.rows = [row for batch in kept for row in batch.drop_columns(["group"]).to_pylist()]
        self.texts = [row["completion"] for row in self.rows]
        self.funnel = [step.report() for step in steps]


class Filtered:
    """What the stage made of judged rollouts."""

    def __init__(
        self, place: Path, params: FilterParams, given: Sequence[Judged], before: Sequence[Example] = ()
    ) -> None:
        examples, pool = (Dataset(uri=str(place / name)) for name in ("examples", "new_pool"))
        filter_rollouts.into(
            filter_rollouts.out(examples=examples, replay_pool=pool),
            params,
            rollouts=sealed_table(place / "rollouts", Rollout, [each.rollout for each in given]),
            verdicts=sealed_table(place / "verdicts", Verdict, [each.verdict for each in given]),
            replay_pool=sealed_table(place / "replay_pool", Example, before),
        )
        self.examples, self.pool = list(rows(examples.path, Example)), list(rows(pool.path, Example))
        self.metadata = json.loads(json.dumps(dict(examples.metadata)))
        self.kept, self.rejected = self.metadata["kept"], self.metadata["rejected"]
        self.funnel = self.metadata["funnel"]
        self.texts = [example.completion for example in self.examples]
        self.files = sorted(path.name for path in Path(examples.path).iterdir())


Keep = Callable[..., Filtered]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """``keep(rollouts, "correct", "rate,min_rate=0.5")`` runs the stage with these selectors."""

    def run(given: Sequence[Judged], *select: str, before: Sequence[Example] = (), **params: Any) -> Filtered:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        return Filtered(place, FilterParams(select=list(select), **params), given, before)

    return run
