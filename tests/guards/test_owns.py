"""Proposals that their own solver bears out, and those that it does not: planted and healthy loops."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.guards import Alarm, Evidence
from selfloop.records import Audit, Rollout, Task

from ..conftest import sealed_table
from .conftest import alarm, reading, told

Proposal = tuple[str | None, str]
"""The answer that a proposal claims, and what its attempts say, a letter each."""


def round_of(place: Path, proposals: Sequence[Proposal], past: Sequence[dict[str, Any]] = ()) -> Evidence:
    tasks, rollouts, audits = list[Task](), list[Rollout](), list[Audit]()
    for number, (claim, said) in enumerate(proposals):
        about = {} if claim is None else {"claimed": claim}
        tasks.append(Task(f"t{number}", 1, "train", "?", "", metadata=json.dumps(about)))
        for attempt, letter in enumerate(said):
            rollouts.append(Rollout(f"t{number}", 1, attempt, "?", f"so {letter}", True, 2))
            audits.append(Audit(f"t{number}", 1, attempt, None, 0.0, None, letter.replace("-", "")))
    tables = {
        "tasks": sealed_table(place / "tasks", Task, tasks).path,
        "rollouts": sealed_table(place / "rollouts", Rollout, rollouts).path,
        "audit": sealed_table(place / "audit", Audit, audits).path,
    }
    return Evidence(tables, candidate={}, past=past, audited=0, seed=0)


def loop(place: Path, seed: int, share: float, rounds: int) -> list[str]:
    """The levels of a loop in which this share of proposals claims what their attempts say."""
    rng, past, found = random.Random(seed), list[dict[str, Any]](), list[Alarm]()
    for number in range(rounds):
        proposals = [("a" if rng.random() < share else "b", "aaab") for _ in range(40)]
        found.append(alarm("owns", round_of(place / f"{seed}-{number}", proposals, past)))
        past.append(told(number, True, owns=found[-1]))
    return [each.level for each in found]


@pytest.mark.parametrize("seed", range(5))
def test_a_loop_whose_claims_are_not_borne_out_halts_soon_and_a_healthy_one_never(tmp_path: Path, seed: int) -> None:
    assert "red" in loop(tmp_path, seed, 0.1, 5)
    assert "red" not in loop(tmp_path, seed + 10, 0.9, 10)


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.text("ab-", min_size=1, max_size=5)), max_size=8))
def test_it_is_the_share_of_claims_that_most_attempts_give(
    tmp_path_factory: pytest.TempPathFactory, proposals: list[Proposal]
) -> None:
    found = reading("owns", round_of(tmp_path_factory.mktemp("round"), proposals))
    agreed = []
    for claim, said in proposals:
        if claim is not None:
            votes = Counter(letter for letter in said if letter != "-").most_common(1)
            agreed.append(bool(votes) and votes[0][0] == claim)
    if agreed:
        assert found.value == pytest.approx(sum(agreed) / len(agreed))
    else:
        assert (found.value, found.says) == (None, "no task claims an answer")


def test_a_loop_without_claims_is_green_and_says_so(tmp_path: Path) -> None:
    found = alarm("owns", round_of(tmp_path, [(None, "aab")]))
    assert (found.level, found.says) == ("green", "no task claims an answer")
