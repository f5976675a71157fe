"""The label audit: its measures against plain counts, and what the stage tells of a round."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Dataset
from selfloop.artifacts import manifest_of, sidecar_of
from selfloop.environments.addition import Addition
from selfloop.lineage.tracking import _audited
from selfloop.records import Audit, Rollout, Task, to_batch
from selfloop.verify import VerifyParams, verify_rollouts
from selfloop.verify.audit import BINS, Auditor, quarters

from ..conftest import sealed_table

Row = tuple[bool | None, float, bool | None]

judgements = st.tuples(st.none() | st.booleans(), st.floats(0, 1), st.none() | st.booleans())
groups = st.lists(st.tuples(st.integers(1, 3), st.lists(judgements, min_size=1, max_size=6)), max_size=12)


def audited(groups: Sequence[tuple[int, Sequence[Row]]], by_level: bool = True) -> dict[str, Any]:
    """The audit of groups of verdicts, in two batches."""
    made = [
        [Audit(f"t{number}", level, attempt, *row) for attempt, row in enumerate(group)]
        for number, (level, group) in enumerate(groups)
    ]
    auditor = Auditor(by_level)
    for half in (made[::2], made[1::2]):
        auditor.add(to_batch(Audit, [row for group in half for row in group]))
    return auditor.summary()


@given(groups)
@settings(max_examples=80, deadline=None)
def test_precision_recall_and_counts_agree_with_a_plain_count(given: list[tuple[int, list[Row]]]) -> None:
    told = audited(given)
    known = [(ok, truth) for _, group in given for ok, _, truth in group if truth is not None]
    believed = [truth for ok, truth in known if ok]
    true = [ok for ok, truth in known if truth]
    assert told["rollouts"] == len(known)
    assert told["true_positive"] == sum(believed)
    assert told["false_positive"] == len(believed) - sum(believed)
    assert told["false_negative"] == sum(not ok for ok in true)
    assert told["undecided"] == sum(ok is None for ok, _ in known)
    assert told["precision"] == (pytest.approx(fmean(believed), abs=1e-6) if believed else None)
    decided = any(ok is not None for ok, _ in known)
    assert told["recall"] == (pytest.approx(fmean(bool(ok) for ok in true), abs=1e-6) if true and decided else None)
    assert sum(stratum["rollouts"] for stratum in told["strata"]) == len(known)


@given(groups)
@settings(max_examples=80, deadline=None)
def test_calibration_agrees_with_a_plain_reading(given: list[tuple[int, list[Row]]]) -> None:
    told = audited(given)
    rows = [(score, truth) for _, group in given for _, score, truth in group if truth is not None]
    known = sorted((min(int(score * BINS), BINS - 1), score, truth) for score, truth in rows)
    if not known:
        assert told["ece"] is told["brier"] is None
        return
    bins = [list(each) for _, each in groupby(known, key=lambda row: row[0])]
    apart = sum(abs(sum(s for _, s, _ in each) - sum(truth for *_, truth in each)) for each in bins)
    assert told["ece"] == pytest.approx(apart / len(known), abs=1e-6)
    assert told["brier"] == pytest.approx(fmean((s - truth) ** 2 for _, s, truth in known), abs=1e-6)
    assert [(each["rollouts"], each["right"]) for each in told["bins"]] == [
        (len(each), pytest.approx(fmean(truth for *_, truth in each), abs=1e-6)) for each in bins
    ]
    assert 0 <= told["ece"] <= 1


def test_scores_that_are_no_shares_are_not_called_calibrated() -> None:
    told = audited([(1, [(None, 7.5, True), (None, 0.5, False)])])
    assert (told["ece"], told["brier"], told["bins"]) == (None, None, [])
    assert (told["precision"], told["recall"], told["undecided"]) == (None, None, 2)


def test_a_level_is_a_stratum_and_the_levels_are_in_order() -> None:
    told = audited([(10, [(True, 1.0, True)]), (2, [(True, 0.8, False), (False, 0.4, True)])])
    assert [stratum["name"] for stratum in told["strata"]] == ["level 2", "level 10"]
    assert [stratum["precision"] for stratum in told["strata"]] == [0.0, 1.0]


def test_without_levels_quarters_of_the_rollouts_by_pass_rate_are_the_strata() -> None:
    rows: dict[int, list[Row]] = {n: [(True, 0.5, attempt < n) for attempt in range(4)] for n in range(5)}
    told = audited([(1, rows[n]) for n in (4, 0, 0, 1, 2, 3, 4, 4)], by_level=False)
    assert [(stratum["name"], stratum["rollouts"]) for stratum in told["strata"]] == [
        ("hardest", 8), ("hard", 8), ("easy", 4), ("easiest", 12)
    ]  # fmt: skip
    assert [stratum["precision"] for stratum in told["strata"]] == [0.0, 0.375, 0.75, 1.0]


@given(st.dictionaries(st.floats(0, 1), st.integers(1, 50), min_size=1))
def test_quarters_hold_every_value_once_and_in_order(sizes: dict[float, int]) -> None:
    found = quarters(sizes)
    assert list(found) == sorted(found)
    assert set(found) <= {0, 1, 2, 3}
    assert [value for values in found.values() for value in values] == sorted(sizes)


@given(groups, st.booleans())
@settings(max_examples=30, deadline=None)
def test_an_audit_is_json_whatever_was_judged(given: list[tuple[int, list[Row]]], by_level: bool) -> None:
    told = audited(given, by_level)
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_the_stage_tells_its_audit_and_keeps_timings_out_of_the_digest(tmp_path: Path) -> None:
    tasks = [task for level in (1, 2) for task in Addition().tasks(level, 3, seed=0)]
    rollouts = [
        Rollout(task.id, task.level, attempt, task.prompt, text, True, 1)
        for task in tasks
        for attempt, text in enumerate([task.answer, "99999", "99999"])
    ]
    digests = []
    for name in ("one", "two"):
        place = tmp_path / name
        verdicts, audit = (Dataset(uri=str(place / table)) for table in ("verdicts", "audit"))
        verify_rollouts.into(
            verify_rollouts.out(verdicts=verdicts, audit=audit),
            VerifyParams(verifier="majority,agreement=0.6"),
            tasks=sealed_table(place / "tasks", Task, tasks),
            rollouts=sealed_table(place / "rollouts", Rollout, rollouts),
        )
        digests.append([manifest_of(each.path).digest for each in (verdicts, audit)])
        judging = sidecar_of(verdicts.path)["judging"]
        assert judging["seconds"] >= judging["slowest"] > 0
        assert judging["timeouts"] == 0
    assert digests[0] == digests[1]
    told = manifest_of(audit.path).metadata["audit"]
    assert (told["precision"], told["recall"]) == (0.0, 0.0)
    assert [stratum["name"] for stratum in told["strata"]] == ["level 1", "level 2"]
    metrics = _audited(told)
    assert metrics["audit.precision"] == metrics["audit.level_2.recall"] == 0.0
    assert metrics["audit.ece"] == pytest.approx(2 / 3, abs=1e-6)


def test_where_the_truth_shall_stay_unknown_nothing_is_checked(tmp_path: Path) -> None:
    [task] = Addition().tasks(1, 1, seed=0)
    audit = Dataset(uri=str(tmp_path / "audit"))
    verify_rollouts.into(
        verify_rollouts.out(verdicts=Dataset(uri=str(tmp_path / "verdicts")), audit=audit),
        VerifyParams(verifier="length", truth="unknown"),
        tasks=sealed_table(tmp_path / "tasks", Task, [task]),
        rollouts=sealed_table(tmp_path / "rollouts", Rollout, [Rollout(task.id, 1, 0, task.prompt, "1", True, 1)]),
    )
    told = audit.metadata["audit"]
    assert (told["rollouts"], told["precision"], told["strata"]) == (0, None, [])
