from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfloop.guards import Alarm
from selfloop.records import BATCH_ROWS

from .conftest import Round, Said, alarm, reading, told


def verdicts(true_positive: int, false_positive: int, false_negative: int, true_negative: int) -> list[Said]:
    kinds = [(True, True)] * true_positive + [(True, False)] * false_positive
    kinds += [(False, True)] * false_negative + [(False, False)] * true_negative
    return [(f"{number}", "x", ok, truth) for number, (ok, truth) in enumerate(kinds)]


@pytest.mark.parametrize(("wrong", "level"), [(0, "green"), (5, "green"), (15, "yellow"), (40, "red")])
def test_believing_what_is_not_true_trips(wrong: int, level: str, evidence: Round) -> None:
    found = alarm("precision", evidence(verdicts(100 - wrong, wrong, 0, 100)))
    assert (found.value, found.level) == ((100 - wrong) / 100, level)


def test_few_believed_rollouts_say_nothing_of_precision_and_gap(evidence: Round) -> None:
    few = evidence(verdicts(0, 29, 0, 100))
    says = "29 of the 129 audited rollouts are believed, fewer than 30"
    assert reading("precision", few)[:2] == reading("gap", few)[:2] == (None, says)


@pytest.mark.parametrize(
    ("said", "level"),
    [(verdicts(100, 0, 0, 100), "green"), (verdicts(51, 49, 49, 51), "yellow"), (verdicts(100, 100, 0, 0), "red")],
    ids=["a verifier that knows", "one that guesses a little better", "one that believes everything"],
)
def test_a_verifier_that_knows_no_more_than_the_policy_trips(said: list[Said], level: str, evidence: Round) -> None:
    assert alarm("gap", evidence(said)).level == level


def test_the_gap_is_precision_minus_accuracy_and_mastery_leaves_none(evidence: Round) -> None:
    assert reading("gap", evidence(verdicts(45, 5, 15, 35))).value == pytest.approx(0.9 - 0.6)
    mastered = reading("gap", evidence(verdicts(96, 4, 0, 0)))
    assert mastered[:2] == (None, "96% of the audited rollouts are right, which leaves no gap")


@pytest.mark.parametrize("name", ["precision", "gap", "divergence"])
def test_where_no_truth_is_known_nothing_is_said(name: str, evidence: Round) -> None:
    found = reading(name, evidence([(f"{n}", "x", True, None) for n in range(100)]))
    assert found.value is None
    assert "truth" in found.says


def scored(score: float, truth: float) -> list[Said]:
    return [(f"{n}", "x", True, n < 100 * truth, score) for n in range(100)]


def test_scores_that_leave_the_truth_behind_trip(evidence: Round) -> None:
    past, found = list[dict[str, Any]](), list[Alarm]()
    for number, (score, truth) in enumerate([(0.5, 0.3), (0.7, 0.5), (0.7, 0.35), (0.9, 0.3), (0.4, 0.9)], start=1):
        found.append(alarm("divergence", evidence(scored(score, truth), past=past)))
        past.append(told(number, True, divergence=found[-1]))
    assert [each.value for each in found] == pytest.approx([0, 0, 0.15, 0.4, -0.7])
    assert [each.level for each in found] == ["green", "green", "yellow", "red", "green"]


def test_divergence_counts_from_the_first_round_that_could_be_measured(evidence: Round) -> None:
    nothing = alarm("divergence", evidence(scored(1, 0)[:20]))
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
    rows = {int(n): (bool(ok), bool(truth)) for ok, n, truth in zip(*sample, strict=True)}
    assert rows.items() <= known.items()
    assert len(rows) == len(sample.score)
