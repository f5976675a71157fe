from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfloop.guards import Alarm, Guard, watch
from selfloop.guards.gap import of_pairs
from selfloop.records import BATCH_ROWS

from .conftest import Round, Said, alarm, reading, told


def verdicts(true_positive: int, false_positive: int, false_negative: int, true_negative: int) -> list[Said]:
    kinds = [(True, True)] * true_positive + [(True, False)] * false_positive
    kinds += [(False, True)] * false_negative + [(False, False)] * true_negative
    return [(f"{number}", "x", ok, truth) for number, (ok, truth) in enumerate(kinds)]


@pytest.mark.parametrize(("wrong", "level"), [(0, "green"), (15, "green"), (30, "yellow"), (60, "red")])
def test_believing_what_is_not_true_trips(wrong: int, level: str, evidence: Round) -> None:
    found = alarm("precision", evidence(verdicts(100 - wrong, wrong, 0, 100)))
    assert (found.value, found.level) == ((100 - wrong) / 100, level)


def test_few_believed_rollouts_are_not_evidence_and_add_up_over_rounds(evidence: Round) -> None:
    nothing = evidence(verdicts(0, 0, 40, 60))
    assert reading("precision", nothing)[:2] == (None, "none of the 100 audited rollouts is believed")
    assert reading("gap", nothing)[:2] == (None, "none of the 100 audited rollouts is believed")
    past, found = list[dict[str, Any]](), list[Alarm]()
    for number in range(6):
        found.append(alarm("precision", evidence(verdicts(3, 3, 0, 10), past=past)))
        past.append(told(number, True, precision=found[-1]))
    assert {each.value for each in found} == {0.5}
    assert found[0].level == "green"
    assert "true, 50% on average of 6 tasks; not shown to be beyond 0.7" in found[0].says
    assert [each.level for each in found][-3:] == ["yellow"] * 3


def test_evidence_against_another_line_does_not_count(evidence: Round) -> None:
    first = alarm("precision", evidence(verdicts(20, 30, 0, 0)))
    again = evidence(verdicts(20, 30, 0, 0), past=[told(1, True, precision=first)])
    same, other = (watch(again, [Guard.parse(f"precision{line}")])["precision"] for line in ("", ",halt=0.69"))
    assert same.tested["lacks"]["halt"] > other.tested["lacks"]["halt"]
    assert same.tested["lacks"]["warn"] == other.tested["lacks"]["warn"]
    assert (same.tested["looks"], other.tested["looks"]) == (2, 2)


def test_an_audit_too_small_says_what_would_do(evidence: Round) -> None:
    found = alarm("precision", evidence(verdicts(0, 1, 0, 10)))
    assert found.level == "green"
    assert found.says.endswith("0.7; 1 are too few to show half of the worst within 5 rounds, 7 would do")


def test_all_that_is_believed_of_a_task_or_a_cluster_is_one_unit(evidence: Round) -> None:
    rotten: list[Said] = [(f"{n // 20}", "x", True, n >= 40) for n in range(100)]
    assert alarm("precision", evidence(rotten)).tested["units"] == 5
    assert alarm("precision", evidence(rotten)).level == "green"
    lone: list[Said] = [(f"{n}", "x", True, n >= 40) for n in range(100)]
    assert alarm("precision", evidence(lone)).level != "green"
    clusters = {f"{n}": f"{n // 20}" for n in range(100)}
    assert alarm("precision", evidence(lone, clusters=clusters)).tested["units"] == 5


@pytest.mark.parametrize(
    ("said", "level"),
    [
        (verdicts(100, 0, 0, 100), "green"),
        (verdicts(60, 40, 40, 60), "green"),
        (verdicts(200, 200, 0, 0), "red"),
    ],
    ids=["a verifier that knows", "one that guesses a little better", "one that believes everything"],
)
def test_a_verifier_that_knows_no_more_than_the_policy_trips(said: list[Said], level: str, evidence: Round) -> None:
    assert alarm("gap", evidence(said)).level == level


def test_the_gap_is_precision_minus_accuracy_of_what_it_could_be_and_mastery_leaves_none(evidence: Round) -> None:
    assert reading("gap", evidence(verdicts(45, 5, 15, 35))).value == pytest.approx((0.9 - 0.6) / (1 - 0.6))
    mastered = reading("gap", evidence(verdicts(96, 0, 4, 0)))
    assert mastered[:2] == (None, "none of the 100 audited rollouts is wrong")
    nearly = alarm("gap", evidence(verdicts(96, 4, 0, 0)))
    assert (nearly.value, nearly.level) == (0, "green"), "four errors show nothing"


shares = st.floats(0, 1)


@given(st.lists(st.tuples(shares, shares, shares), min_size=2, max_size=8), st.floats(-1, 0.9))
def test_pairs_are_no_better_than_the_best(tasks: list[tuple[float, float, float]], line: float) -> None:
    """Of each task: the share that is believed, the share that is wrong, and how far they lie in one another."""
    believed, wrong, where = (np.array(column) for column in zip(*tasks, strict=True))
    least = np.maximum(believed + wrong - 1, 0)
    both = least + where * (np.minimum(believed, wrong) - least)
    assert (of_pairs(believed, wrong, both, line) >= -(1 - line) / 2 - 1e-9).all()


@pytest.mark.parametrize("name", ["precision", "gap", "divergence"])
def test_where_no_truth_is_known_nothing_is_said(name: str, evidence: Round) -> None:
    found = reading(name, evidence([(f"{n}", "x", True, None) for n in range(100)]))
    assert found.value is None
    assert "truth" in found.says


def scored(score: float, truth: float) -> list[Said]:
    return [(f"{n}", "x", True, n < 400 * truth, score) for n in range(400)]


def test_scores_that_leave_the_truth_behind_trip(evidence: Round) -> None:
    past, found = list[dict[str, Any]](), list[Alarm]()
    for number, (score, truth) in enumerate([(0.5, 0.3), (0.7, 0.5), (0.7, 0.15), (0.9, 0.1), (0.4, 0.9)], start=1):
        found.append(alarm("divergence", evidence(scored(score, truth), past=past)))
        past.append(told(number, True, divergence=found[-1]))
    assert [each.value for each in found] == pytest.approx([0, 0, 0.35, 0.6, -0.7])
    assert [each.level for each in found] == ["green", "green", "yellow", "red", "green"]


def test_divergence_counts_from_the_first_round_that_could_be_measured(evidence: Round) -> None:
    nothing = alarm("divergence", evidence([(f"{n}", "x", True, None) for n in range(20)]))
    first = alarm("divergence", evidence(scored(0.8, 0.6), past=[told(1, True, divergence=nothing)]))
    assert (nothing.value, first.value) == (None, 0)
    past = [told(1, True, divergence=nothing), told(2, True, divergence=first), told(3, True, divergence=nothing)]
    assert reading("divergence", evidence(scored(0.8, 0.4), past=past)).value == pytest.approx(0.2)


def test_the_sample_is_drawn_by_the_seed_from_the_whole_table(evidence: Round) -> None:
    rows = BATCH_ROWS + 10_000
    said: list[Said] = [(f"{n}", "x", True, None if n % 2 else True, float(n)) for n in range(rows)]
    some, same, other = (evidence(said, audited=1000, seed=seed).sample for seed in (1, 1, 2))
    assert some.score.tolist() == same.score.tolist() != other.score.tolist()
    assert len({*some.score}) == 1000
    assert not (some.score % 2).any()  # only what is known
    assert np.quantile(some.score / rows, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.06)


def test_what_is_audited_does_not_depend_on_what_the_verifier_says(evidence: Round) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    one, another = (
        evidence([(f"{n}", "x", bool(ok), bool(truth[n])) for n, ok in enumerate(oks)], audited=100).sample
        for oks in (rng.random(400) < 0.5, np.ones(400, bool))
    )
    assert one.truth.tolist() == another.truth.tolist()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None])), max_size=60), st.integers(1, 80))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sample_holds_known_verdicts_and_all_of_them_where_there_are_few(
    evidence: Round, given: list[tuple[bool, bool | None]], audit: int
) -> None:
    sample = evidence([(f"{n}", "x", ok, truth, n) for n, (ok, truth) in enumerate(given)], audited=audit).sample
    known = {n: (ok, truth) for n, (ok, truth) in enumerate(given) if truth is not None}
    assert len(sample.score) == min(audit, len(known))
    rows = {int(n): (bool(ok), bool(truth)) for ok, n, truth, _ in zip(*sample, strict=True)}
    assert rows.items() <= known.items()
    assert len(rows) == len(sample.score)
