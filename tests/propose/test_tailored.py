"""New tasks of the kinds that failed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Dataset
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.propose import TailorParams, tailor_tasks
from selfloop.propose.tailored import TailoredTasks, allotted
from selfloop.records import Rollout, Task, Verdict, rows
from selfloop.split import trains

from ..conftest import sealed_table

CHAIN = find_environment("chain")


def tailored(place: Path, right: dict[int, list[bool]], **params: object) -> list[Task]:
    """What is drawn after attempts at one chain of each level."""
    tasks = {level: CHAIN.tasks(level, 1, 0)[0] for level in right}
    tried = [(tasks[level], number, ok) for level, oks in right.items() for number, ok in enumerate(oks)]
    rollouts = [Rollout(task.id, task.level, number, task.prompt, "x", True, 1) for task, number, _ in tried]
    verdicts = [Verdict(task.id, task.level, number, ok, float(ok), "") for task, number, ok in tried]
    given = (
        sealed_table(place / "tasks", Task, tasks.values()),
        sealed_table(place / "rollouts", Rollout, rollouts),
        sealed_table(place / "verdicts", Verdict, verdicts),
    )
    out = TailoredTasks(Dataset(uri=str(place / "out")))
    made = tailor_tasks.into(out, TailorParams(environment="chain", number=40, **params), *given)
    return list(rows(made.tailored.path, Task))


def test_levels_have_their_share_of_the_failures_and_no_held_out_item(tmp_path: Path) -> None:
    right = {2: [True] * 4, 3: [True, True, True, False], 5: [False] * 3 + [True]}
    made = tailored(tmp_path / "failures", right)
    assert Counter(task.level for task in made) == {3: 10, 5: 30}
    assert all(trains(CHAIN, task) and task.suite == "train" for task in made)
    assert Counter(task.level for task in tailored(tmp_path / "even", right, by="evenly")) == {2: 14, 3: 13, 5: 13}


def test_where_nothing_fails_all_levels_are_alike(tmp_path: Path) -> None:
    assert Counter(task.level for task in tailored(tmp_path, {1: [True], 2: [True]})) == {1: 20, 2: 20}


@given(st.dictionaries(st.integers(1, 20), st.integers(0, 500), min_size=1), st.integers(1, 3000))
def test_a_number_is_parted_by_weights(weights: dict[int, int], number: int) -> None:
    whole = sum(weights.values())
    if not whole:
        with pytest.raises(UserError, match="no task to tailor others to"):
            allotted(weights, number)
        return
    parts = allotted(weights, number)
    assert sum(parts.values()) == number
    assert all(abs(parts[level] * whole - number * weight) < whole for level, weight in weights.items())
