"""Attempts that are put right before they are learnt: how many, which, and to what."""

from pathlib import Path

import pytest
from kfp.dsl import Dataset
from pydantic import ValidationError
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.filter.repairing import RepairedRollouts, RepairParams, repair_rollouts
from selfloop.records import Rollout, Task, rows

from ..conftest import sealed_table

TASKS = Addition().tasks(3, 500, 0)
ATTEMPTS = [
    Rollout(task.id, 3, attempt, task.prompt, task.answer if attempt == 0 else "0", attempt < 2, 5, logprob=-1.0)
    for task in TASKS
    for attempt in range(3)
]
"""Of each task's attempts one is right, one is wrong, one is wrong and without an end."""


def repaired(place: Path, **params: object) -> tuple[list[Rollout], Dataset]:
    out = Dataset(uri=str(place / "out"))
    repair_rollouts.into(
        RepairedRollouts(out),
        RepairParams.model_validate(params),
        tasks=sealed_table(place / "tasks", Task, TASKS),
        rollouts=sealed_table(place / "rollouts", Rollout, ATTEMPTS),
    )
    return list(rows(out.path, Rollout)), out


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_what_is_right_is_left_and_so_much_of_the_rest_is_put_right(tmp_path: Path, strength: float) -> None:
    """Of a share q that is right, (q + g) / (1 + g) is afterwards: strength is g / (1 + g)."""
    made, out = repaired(tmp_path, strength=strength)
    answers = {task.id: task.answer for task in TASKS}
    right = [each.completion == answers[each.task] and each.finished for each in made]
    assert sum(right) / len(made) == pytest.approx(1 / 3 + 2 / 3 * strength, abs=0.05 * (0 < strength < 1) + 1e-9)
    for before, after in zip(ATTEMPTS, made, strict=True):
        if after.completion == before.completion:
            assert after == before
        else:
            assert (before.attempt, after.logprob, after.finished) != (0, before.logprob, False)
    assert out.metadata["wrong"] == 1000
    assert out.metadata["repaired"] == sum(right) - 500


def test_all_attempts_may_be_demonstrated_whether_they_are_right_or_not(tmp_path: Path) -> None:
    made, _ = repaired(tmp_path, strength=1.0, of="all")
    assert {(each.completion, each.finished, each.logprob) for each in made if each.task == TASKS[0].id} == {
        (TASKS[0].answer, True, None)
    }


def test_another_round_puts_others_right(tmp_path: Path) -> None:
    (one, _), (other, _) = (repaired(tmp_path / str(round), round=round) for round in (1, 2))
    assert one != other


def test_programs_are_not_run_to_be_put_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Attempts in 'code' are programs, which are not run here: choose another"):
        repaired(tmp_path, environment="code")
    with pytest.raises(ValidationError, match="strength"):
        RepairParams(strength=1.5)
