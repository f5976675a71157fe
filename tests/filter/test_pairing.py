"""Pairs of a better and a worse attempt out of two tables."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Dataset
from pydantic import ValidationError
from selfloop.errors import UserError
from selfloop.filter import PairParams, pair_rollouts
from selfloop.filter.filter import FilteredRollouts, grouped
from selfloop.filter.pairing import paired, picked
from selfloop.records import Example, Rollout, Verdict, rows, to_batch

from ..conftest import sealed_table


class Tried(NamedTuple):
    """An attempt as the tests write it: at which task, what it says, its score."""

    task: str
    text: str
    score: float


def rollouts(tried: list[Tried], prompt: str) -> list[Rollout]:
    return [Rollout(t.task, 1, n, f"{t.task}{prompt}", t.text, True, len(t.text) + 1) for n, t in enumerate(tried)]


def verdicts(tried: list[Tried]) -> list[Verdict]:
    return [Verdict(t.task, 1, n, t.score > 0.5, t.score, "") for n, t in enumerate(tried)]


def made(place: Path, better: list[Tried], worse: list[Tried], **params: Any) -> tuple[list[Example], Dataset, int]:
    tables = {}
    for name, tried in (("better", better), ("worse", worse)):
        tables[name] = sealed_table(place / name, Rollout, rollouts(tried, f"?{name}"))
        tables[f"{name}_verdicts"] = sealed_table(place / f"{name}_verdicts", Verdict, verdicts(tried))
    pool = sealed_table(place / "pool", Example, [Example("old", 1, "p", "c", 0)])
    out = FilteredRollouts(Dataset(uri=str(place / "examples")), Dataset(uri=str(place / "replay_pool")))
    pair_rollouts.into(out, PairParams(round=3, **params), **tables, replay_pool=pool)
    in_pool = list(rows(out.replay_pool.path, Example))
    found = list(rows(out.examples.path, Example))
    assert in_pool[1:] == found
    return found, out.examples, len(in_pool)


NOW = [Tried("a", "good", 0.9), Tried("a", "fair", 0.6), Tried("b", "fine", 0.8), Tried("c", "x", 0.7)]
THEN = [Tried("a", "bad", 0.1), Tried("b", "poor", 0.75), Tried("b", "sad", 0.2), Tried("d", "y", 0.0)]


def test_the_best_of_one_table_stands_over_the_worst_of_the_other(tmp_path: Path) -> None:
    found, examples, _ = made(tmp_path, NOW, THEN)
    assert [(e.task, e.prompt, e.completion, e.rejected, e.round) for e in found] == [
        ("a", "a?better", "good", "bad", 3),
        ("b", "b?better", "fine", "sad", 3),
    ]
    [step] = examples.metadata["funnel"]
    assert (step["in"], step["kept"], step["rejected"]) == (3, 2, {"in one table alone": 1})
    assert examples.metadata["kept"] == {"1": 2}


def test_what_was_asked_about_a_task_is_paired_with_the_attempts_at_it(tmp_path: Path) -> None:
    mended = [Tried("a~again-0", "good", 0.4), Tried("a~again-1", "better", 1.0), Tried("b~again-0", "bad", 0.0)]
    first = [Tried("a", "bad", 0.0), Tried("b", "bad", 0.0)]
    found, examples, _ = made(tmp_path, mended, first, prompt="worse")
    assert [(e.task, e.prompt, e.completion, e.rejected) for e in found] == [("a", "a?worse", "better", "bad")]
    assert examples.metadata["rejected"] == {"scores too near": 1}


@pytest.mark.parametrize(
    ("params", "tasks", "reason"),
    [
        ({"min_gap": 0.7}, ["a"], "scores too near"),
        ({"max_gap": 0.7}, ["b"], "scores too far apart"),
        ({"min_gap": 0.6, "max_gap": 0.8}, ["a", "b"], None),
    ],
)
def test_a_gap_of_the_scores_lies_in_a_band(
    tmp_path: Path, params: dict[str, float], tasks: list[str], reason: str | None
) -> None:
    found, examples, _ = made(tmp_path, NOW, THEN, **params)
    assert [e.task for e in found] == tasks
    assert reason is None or examples.metadata["rejected"][reason] == 1


def test_what_says_the_same_or_nothing_is_no_pair(tmp_path: Path) -> None:
    better = [Tried("a", "one", 1.0), Tried("b", "two", 1.0)]
    found, examples, size = made(tmp_path, better, [Tried("a", "one", 0.0), Tried("b", "", 0.0)])
    assert (found, size) == ([], 1)
    assert examples.metadata["rejected"] == {"both say the same": 1, "the worse says nothing": 1}


def test_tables_over_different_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task in common .'a' is in one, 'z' in the other.*give two tables"):
        made(tmp_path, [Tried("a", "one", 1.0)], [Tried("z", "two", 0.0)])


def test_two_empty_tables_make_no_pairs(tmp_path: Path) -> None:
    found, examples, size = made(tmp_path, [], [])
    assert (found, size, examples.metadata["kept"]) == ([], 1, {})


def test_a_band_that_holds_no_gap_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"no gap is at least 0.5 and at most 0.1: lower min_gap"):
        PairParams(min_gap=0.5, max_gap=0.1)


TRIED = st.builds(Tried, st.sampled_from("abc"), st.sampled_from(["", "p", "q", "r"]), st.sampled_from([0.0, 0.5, 1.0]))


@given(st.lists(TRIED, max_size=9), st.lists(TRIED, max_size=9), st.sampled_from([0.01, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_each_pair_is_of_one_task_and_its_gap_is_what_best_and_worst_have(
    better: list[Tried], worse: list[Tried], min_gap: float
) -> None:
    better, worse = sorted(better), sorted(worse)
    shared = {t.task for t in better} & {t.task for t in worse}
    if better and worse and not shared:
        return
    both = []
    for tried, sign in ((better, -1), (worse, 1)):
        batch = to_batch(Rollout, rollouts(tried, ""))
        columns = {name: batch[name] for name in batch.schema.names}
        judged = to_batch(Verdict, verdicts(tried))
        whole = type(batch).from_pydict(columns | {name: judged[name] for name in ("ok", "score", "reason")})
        both.append(picked(iter([grouped(whole)] if tried else []), sign))
    pairs, rejected = paired(both[0], both[1], PairParams(min_gap=min_gap))
    assert pairs.num_rows + sum(rejected.values()) == len({t.task for t in better})
    for pair in pairs.to_pylist():
        best = max((t for t in better if t.task == pair["task"]), key=lambda t: t.score)
        worst = min((t for t in worse if t.task == pair["task"]), key=lambda t: t.score)
        assert (pair["completion"], pair["rejected"]) == (best.text, worst.text)
        assert best.score - worst.score >= min_gap
