"""Tasks made of attempts."""

from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Dataset
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.propose import AboutParams, ask_about
from selfloop.propose.about import AskedTasks
from selfloop.records import Rollout, Task, Verdict, rows
from selfloop.roles import graded, source, subject

from ..conftest import sealed_table

CHAIN = find_environment("chain")
ONE, TWO, THREE = CHAIN.tasks(2, 3, 5)


def made(place: Path, tried: dict[Task, list[str]], **params: Any) -> list[Task]:
    attempts = [
        Rollout(task.id, 2, n, task.prompt, text, True, 5)
        for task, texts in tried.items()
        for n, text in enumerate(texts)
    ]
    known = {task.id: task for task in tried}
    judged = [
        Verdict(each.task, 2, each.attempt, CHAIN.check(known[each.task], each.completion).ok, 0.0, "")
        for each in attempts
    ]
    out = AskedTasks(Dataset(uri=str(place / "about")))
    ask_about.into(
        out,
        AboutParams(environment="chain", **params),
        tasks=sealed_table(place / "tasks", Task, [ONE, TWO, THREE]),
        rollouts=sealed_table(place / "rollouts", Rollout, attempts),
        verdicts=sealed_table(place / "verdicts", Verdict, judged),
    )
    return list(rows(out.about.path, Task))


RIGHT, WRONG = (
    {task: each(task) for task in (ONE, TWO, THREE)} for each in (CHAIN.demonstration, lambda t: CHAIN.spoilt(t, 1, 1))
)
TRIED = {ONE: [RIGHT[ONE], WRONG[ONE], RIGHT[ONE]], THREE: [WRONG[THREE]]}


def test_each_different_attempt_is_judged_with_the_truth_as_the_answer(tmp_path: Path) -> None:
    about = made(tmp_path, TRIED, attempts=3)
    assert [(task.id, task.answer, task.attempts) for task in about] == [
        (f"{ONE.id}~judge-0", "1", 3),
        (f"{ONE.id}~judge-1", "0", 3),
        (f"{THREE.id}~judge-0", "0", 3),
    ]
    assert [source(task.id) for task in about] == [task.cluster for task in about] == [ONE.id, ONE.id, THREE.id]
    assert {subject(task).prompt for task in about} == {ONE.prompt, THREE.prompt}


@pytest.mark.parametrize(
    ("params", "asked"),
    [
        ({"role": "again", "of": "bad"}, [ONE, THREE]),
        ({"role": "again", "of": "good"}, [ONE]),
        ({"role": "restate"}, [ONE, ONE, THREE]),
        ({"role": "better"}, [ONE]),
        ({"role": "wrong"}, [ONE, THREE]),
        ({"role": "judge", "most": 1}, [ONE, THREE]),
    ],
)
def test_roles_are_asked_about_the_attempts_that_they_take(
    tmp_path: Path, params: dict[str, Any], asked: list[Task]
) -> None:
    about = made(tmp_path, TRIED, **params)
    assert [source(task.id) for task in about] == [task.id for task in asked]
    for task in about:
        if params["role"] == "again":
            assert graded(CHAIN, task, CHAIN.demonstration(subject(task))).ok


def test_a_role_that_there_is_not_or_that_an_environment_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no role 'jugde': did you mean 'judge'"):
        AboutParams(role="jugde")
    tables = [sealed_table(tmp_path / r.__name__, r, []) for r in (Task, Rollout, Verdict)]
    out = AskedTasks(Dataset(uri=str(tmp_path / "about")))
    with pytest.raises(UserError, match="Environment 'countdown' has no role 'judge'"):
        ask_about.into(
            out, AboutParams(environment="countdown"), tasks=tables[0], rollouts=tables[1], verdicts=tables[2]
        )


def test_verdicts_on_other_rollouts_are_refused(tmp_path: Path) -> None:
    tables = {
        "tasks": sealed_table(tmp_path / "t", Task, [ONE, TWO]),
        "rollouts": sealed_table(tmp_path / "r", Rollout, [Rollout(ONE.id, 2, 0, ONE.prompt, "", True, 1)]),
        "verdicts": sealed_table(tmp_path / "v", Verdict, [Verdict(TWO.id, 2, 0, True, 1.0, "")]),
    }
    with pytest.raises(UserError, match="are of other rollouts: verify these rollouts again"):
        ask_about.into(AskedTasks(Dataset(uri=str(tmp_path / "about"))), AboutParams(environment="chain"), **tables)
