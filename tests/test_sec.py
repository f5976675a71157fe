"""The recipe ``sec``: a curriculum over arms, killed and resumed, continued from and refused."""

import json
import signal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop.artifacts import read_json
from selfloop.errors import UserError
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import find_origin
from selfloop.report.history import read_history

from .conftest import digests, tracked_run, whole_run
from .test_resume import driven

pytestmark = pytest.mark.slow

NAME = "sec"
TINY: dict[str, Any] = {
    "rounds": 2,
    "seed": 5,
    "model": NAME,
    "environment": "addition",
    "base": {"levels": 1, "per_level": 100, "held_out_per_level": 8},
    "pretrain": {"steps": 150, "hidden_size": 16, "heads": 2, "intermediate_size": 32, "decay_steps": 50, "lr": 1e-2},
    "draw": {"levels": [1, 2], "per_level": 30, "items_per_level": 8},
    "reinforce": {"steps": 3, "batch_size": 16, "group_size": 4, "max_tokens": 4},
    "measure": {"levels": [2, 3], "per_level": 8},
    "gate": {"guards": [], "require": "nothing"},
}
"""A whole run of two rounds in seconds: the machinery, not the learning."""


ran = partial(whole_run, NAME, TINY)
tracked = partial(tracked_run, NAME, TINY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any], list[dict[str, Any]]]:
    """A run in process that was never interrupted: its folder, its last turn, what it measured, and its rounds."""
    root = tmp_path_factory.mktemp("sec") / "run"
    return root, *ran(root)


def test_the_arms_follow_the_training_and_are_carried_on(
    finished: tuple[Path, Any, dict[str, Any], list[dict[str, Any]]],
) -> None:
    _, last, measured, rounds = finished
    assert measured.keys() == {"hardest", "beyond", "steps", "moved"}
    assert 0 <= measured["hardest"] <= 1
    courses = [round["state"]["training"]["curriculum"]["course"] for round in rounds]
    assert [[point["step"] for point in course] for course in courses] == [[1, 2, 3], [4, 5, 6]]
    first, second = courses
    assert first[0]["mass"] == {"1": 0.5, "2": 0.5}
    for before, after in pairwise([*first, *second]):  # the second round begins where the first ended
        values, mass = before["value"], after["mass"]
        assert (mass["1"] > mass["2"]) == (values["1"] > values["2"])
    assert read_json(last.training.path) == rounds[-1]["state"]["training"]


@pytest.mark.parametrize("event", ["moves", "ends"])
def test_a_run_that_is_killed_in_its_second_round_comes_to_the_same_arms_and_champion(
    finished: tuple[Path, Any, dict[str, Any], list[dict[str, Any]]], event: str, tmp_path: Path
) -> None:
    every_step = {"reinforce": {**TINY["reinforce"], "checkpoint_every": 1}}
    settings = TINY | every_step
    killed = driven(NAME, tmp_path / "run", settings, event, "reinforce_policy", "2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = driven(NAME, tmp_path / "run", settings, "never", "", "0")
    assert resumed.returncode == 0, resumed.stderr
    made, whole = digests(tmp_path / "run"), digests(finished[0])
    for output in (
        ("reinforce_policy", "state"),
        ("reinforce_policy", "candidate"),
        ("reinforce_policy", "new_champion"),
    ):
        assert len(whole[output]) == 2
        assert made[output] == whole[output]
    ran_again = json.loads(resumed.stdout)
    assert ("2 reinforce_policy" in ran_again) == (event == "moves")


@pytest.mark.parametrize("curriculum", ["uniform", "ordered", "reverse", "reestimated"])
def test_every_curriculum_over_levels_goes_through_a_round(curriculum: str, tmp_path: Path) -> None:
    last, _, [round] = ran(tmp_path, {"reinforce": {"curriculum": curriculum}, "rounds": 1})
    state = read_json(last.training.path)["curriculum"]
    assert state["strategy"] == round["state"]["training"]["curriculum"]["strategy"] == curriculum
    assert sum(arm["drawn"] for arm in state["arms"]) == 3 * 16 / 4


def test_a_run_continues_with_the_arms_of_the_one_before(client: MlflowClient, tmp_path: Path) -> None:
    tracked(tmp_path / "one", {"rounds": 1})
    _, origin, first = find_origin(f"{NAME}@champion")
    assert (origin, first) == (f"{NAME}/2", 2)
    later = {"origin": origin, "first": first, "rounds": 1}
    last = tracked(tmp_path / "two", later)
    told = read_history(last.history.path)["rounds"]
    assert [each["round"] for each in told] == [1, 2]
    assert [point["step"] for each in told for point in each["state"]["training"]["curriculum"]["course"]] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    before, after = (each["state"]["training"]["curriculum"]["arms"] for each in told)
    assert all(later["drawn"] >= earlier["drawn"] for earlier, later in zip(before, after, strict=True))
    assert sum(arm["drawn"] for arm in after) == 2 * 3 * 16 / 4

    champion = Registry(NAME).aliases()["champion"]
    others = {**later, "draw": {"levels": [1, 3]}}
    with pytest.raises(UserError, match=r"has the arms 1, 2, the tasks have 1, 3: draw tasks of the same levels"):
        tracked(tmp_path / "three", others)
    assert Registry(NAME).aliases()["champion"] == champion
    last = tracked(tmp_path / "four", others, {"reinforce": {"curriculum": "bandit,other_arms=adapt"}})
    arms = {arm["level"]: arm for arm in read_json(last.training.path)["curriculum"]["arms"]}
    assert arms.keys() == {1, 3}
    assert arms[1]["drawn"] >= before[0]["drawn"] > 0
    assert arms[1]["drawn"] + arms[3]["drawn"] == before[0]["drawn"] + 3 * 16 / 4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"environment": "reasoning-gym:knight_swap"}, "which does not offer alphabet and levels"),
        ({"environment": "countdown", "draw": {"levels": [1, 99]}}, "take level 99 out of the levels that are drawn"),
        ({"reinforce": {"curriculum": "bandet"}}, "There is no curriculum 'bandet': did you mean 'bandit'"),
        ({"draw": {"levels": [1, 1]}}, "a level stands twice"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        ran(tmp_path / "run", settings)
    assert not list(tmp_path.rglob("manifest.json"))
