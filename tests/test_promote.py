import shutil
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset, Model
from selfloop.artifacts import check, manifest_of, read_json, seal
from selfloop.errors import UserError
from selfloop.policy import fresh, save
from selfloop.promote import Decision, PromoteParams, decide, promote_candidate
from selfloop.records import Example, ItemResult

from .conftest import sealed_table

POLICIES, SUITES = ("champion", "candidate"), ("target", "old")
Answers = dict[str, dict[str, list[bool]]]


def answered(answers: Answers) -> list[ItemResult]:
    """Results of both policies, by suite."""
    return [
        ItemResult(policy, suite, 1, f"{suite}-{number}", 0, ok, "")
        for suite, policies in answers.items()
        for policy, oks in policies.items()
        for number, ok in enumerate(oks)
    ]


def of_100(target: tuple[int, int], old: tuple[int, int]) -> list[ItemResult]:
    """Results on a hundred items a suite, given how many the champion and the candidate solved."""
    return answered(
        {
            suite: {policy: [number < n for number in range(100)] for policy, n in zip(POLICIES, solved, strict=True)}
            for suite, solved in zip(SUITES, (target, old), strict=True)
        }
    )


@pytest.mark.parametrize(
    ("target", "old", "margin", "promoted", "reason"),
    [
        ((50, 50), (90, 90), 0.0, True, "target levels moved by +0.000, old levels by +0.000"),
        ((50, 60), (90, 95), 0.0, True, "target levels moved by +0.100, old levels by +0.050"),
        ((50, 60), (90, 88), 0.0, True, "target levels moved by +0.100, old levels by -0.020"),
        ((50, 90), (90, 80), 0.0, False, "old levels fell by 0.100, more than the 0.03 allowed"),
        ((50, 49), (90, 90), 0.0, False, "target levels moved by -0.010, less than the +0.0 asked for"),
        ((50, 54), (90, 90), 0.05, False, "target levels moved by +0.040, less than the +0.05 asked for"),
        ((50, 45), (90, 90), -0.05, True, "target levels moved by -0.050, old levels by +0.000"),
    ],
)
def test_the_gate_decides_and_says_why(
    target: tuple[int, int], old: tuple[int, int], margin: float, promoted: bool, reason: str
) -> None:
    assert decide(of_100(target, old), margin, 0.03) == Decision(
        promoted,
        reason,
        {policy: n / 100 for policy, n in zip(POLICIES, target, strict=True)},
        {policy: n / 100 for policy, n in zip(POLICIES, old, strict=True)},
    )


@given(st.integers(0, 90), st.integers(0, 10))
@example(97, 3)
def test_exactly_what_is_asked_for_or_allowed_is_enough(solved: int, change: int) -> None:
    moved = change / 100
    assert decide(of_100((solved, solved + change), (solved + change, solved)), moved, moved).promoted


oks = st.lists(st.booleans(), min_size=1, max_size=30)
both = oks.flatmap(
    lambda some: st.lists(st.booleans(), min_size=len(some), max_size=len(some)).map(lambda o: (some, o))
)


@given(both, both, st.integers(-9, 9), st.integers(0, 9))
def test_a_candidate_is_promoted_exactly_when_it_is_good_enough_on_both_suites(
    target: tuple[list[bool], list[bool]], old: tuple[list[bool], list[bool]], margin: int, tolerance: int
) -> None:
    suites = zip(SUITES, (target, old), strict=True)
    results = answered({suite: dict(zip(POLICIES, oks, strict=True)) for suite, oks in suites})
    # in whole numbers, which are exact
    gain, fall = sum(target[1]) - sum(target[0]), sum(old[0]) - sum(old[1])
    good_enough = 9 * gain >= margin * len(target[0]) and 9 * fall <= tolerance * len(old[0])
    decided = decide(results, margin / 9, tolerance / 9)
    assert decided.promoted == good_enough
    assert decided.target["candidate"] == pytest.approx(fmean(target[1]))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("missing", [*POLICIES, None])
def test_a_suite_that_not_both_answered_is_refused(suite: str, missing: str | None) -> None:
    results = [
        item
        for item in of_100((50, 60), (90, 90))
        if item.suite != suite or (missing is not None and item.policy != missing)
    ]
    with pytest.raises(UserError, match=f"The {suite} suite was not answered by both policies"):
        decide(results, 0.0, 0.03)


@pytest.fixture
def other(trained: Path, tmp_path: Path) -> Path:
    """A second policy, with another history."""
    place = tmp_path / "other"
    policy = fresh(trained)
    policy.model.lm_head.weight.data.mul_(1.01)
    save(policy, place)
    seal(place, "Model", stage="finetune_policy", params={"steps": 1}, metadata={"loss": 0.5})
    return place


@pytest.mark.parametrize("promoted", [True, False], ids=["promoted", "rejected"])
def test_whichever_is_in_force_is_handed_on_as_it_is(
    trained: Path, other: Path, tmp_path: Path, promoted: bool
) -> None:
    next_champion, decision = Model(uri=str(tmp_path / "next")), Artifact(uri=str(tmp_path / "decision"))
    results = of_100((50, 60 if promoted else 40), (90, 90))
    promote_candidate(
        PromoteParams(),
        candidate=Model(uri=str(other)),
        champion=Model(uri=str(trained)),
        results=sealed_table(tmp_path / "results", ItemResult, results),
        examples=sealed_table(tmp_path / "examples", Example, []),
        next_champion=next_champion,
        decision=decision,
    )
    in_force = other if promoted else trained
    assert manifest_of(other).digest != manifest_of(trained).digest
    assert check(next_champion.path) == manifest_of(in_force)
    assert next_champion.metadata == manifest_of(in_force).metadata | {"digest": manifest_of(in_force).digest}
    assert read_json(decision.path) == decide(results, 0.0, 0.03)._asdict()


def test_the_champion_outlives_where_it_came_from(trained: Path, other: Path, tmp_path: Path) -> None:
    next_champion = Model(uri=str(tmp_path / "next"))
    promote_candidate(
        PromoteParams(),
        candidate=Model(uri=str(other)),
        champion=Model(uri=str(trained)),
        results=sealed_table(tmp_path / "results", ItemResult, of_100((50, 60), (90, 90))),
        examples=sealed_table(tmp_path / "examples", Example, []),
        next_champion=next_champion,
        decision=Artifact(uri=str(tmp_path / "decision")),
    )
    known = manifest_of(other)
    shutil.rmtree(other)
    assert check(next_champion.path) == known


def test_a_gate_without_results_hands_nothing_on(trained: Path, other: Path, tmp_path: Path) -> None:
    empty: Dataset = sealed_table(tmp_path / "results", ItemResult, [])
    with pytest.raises(UserError, match="The target suite was not answered by both policies"):
        promote_candidate(
            PromoteParams(),
            candidate=Model(uri=str(other)),
            champion=Model(uri=str(trained)),
            results=empty,
            examples=sealed_table(tmp_path / "examples", Example, []),
            next_champion=Model(uri=str(tmp_path / "next")),
            decision=Artifact(uri=str(tmp_path / "decision")),
        )
    assert not (tmp_path / "next" / "manifest.json").exists()
