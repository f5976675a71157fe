"""The stage that ends a round, as a recipe has it: here one with two roles and some state."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp.dsl import HTML, Artifact, Metrics, Model
from selfloop.artifacts import check, manifest_of, seal
from selfloop.errors import HaltedError
from selfloop.policy import fresh, save
from selfloop.recipe import Recipe
from selfloop.settings import Settings

from .conftest import sealed_value


class Turn(NamedTuple):
    solver: Model
    proposer: Model
    memory: Artifact
    goes_on: bool


def _never(*_: Any) -> Any:
    raise AssertionError


RECIPE: Recipe[Settings] = Recipe("two-roles", Settings, _never, _never, Turn, roles=("solver", "proposer"))


@pytest.fixture
def other(trained: Path, tmp_path: Path) -> Path:
    """A second policy, with another history."""
    place = tmp_path / "other"
    policy = fresh(trained)
    policy.model.lm_head.weight.data.mul_(1.01)
    save(policy, place)
    seal(place, "Model", stage="finetune_policy", params={"steps": 1}, metadata={"loss": 0.5})
    return place


def _promoted(tmp_path: Path, last: Path, candidate: Path, decision: dict[str, Any]) -> dict[str, Artifact]:
    memory = sealed_value(tmp_path / "memory", {"frontier": 1})
    new = {name: kind(uri=str(tmp_path / "new" / name)) for name, kind in RECIPE.state.items()}
    promote = RECIPE.promote
    promote.into(
        promote.made(
            {f"new_{name}": artifact for name, artifact in new.items()}
            | {"metrics": Metrics(uri=str(tmp_path / "metrics"))}
        ),
        RECIPE.run_params(RECIPE.resolve().for_round(1)),
        decision=sealed_value(tmp_path / "decision", decision),
        memory=memory,
        next_memory=memory,
        **{role: Model(uri=str(last)) for role in RECIPE.roles},
        **{f"next_{role}": Model(uri=str(candidate)) for role in RECIPE.roles},
    )
    assert manifest_of(new["memory"].path) == manifest_of(memory.path), "the state goes on in any case"
    return {role: new[role] for role in RECIPE.roles}


def test_a_role_is_a_policy_that_goes_from_round_to_round() -> None:
    assert list(RECIPE.state) == ["solver", "proposer", "memory"]
    for role in ("memory", "judge"):
        with pytest.raises(TypeError, match=f"Role '{role}' of recipe 'two-roles' is no Model in Turn"):
            Recipe("two-roles", Settings, _never, _never, Turn, roles=(role,))


class Told(NamedTuple):
    champion: Model
    report: HTML
    goes_on: bool


def test_a_page_for_people_does_not_go_from_round_to_round() -> None:
    with pytest.raises(TypeError, match="'report' of recipe 'told' is a page for people"):
        Recipe("told", Settings, _never, _never, Told)


@pytest.mark.parametrize(("verdict", "promoted"), [("promoted", True), ("rejected", False), ("pending", False)])
def test_whichever_is_in_force_is_handed_on_as_it_is_for_every_role(
    trained: Path, other: Path, tmp_path: Path, verdict: str, promoted: bool
) -> None:
    told = {"promoted": promoted, "verdict": verdict, "reason": "so"}
    in_force = manifest_of(other if promoted else trained)
    assert manifest_of(other).digest != manifest_of(trained).digest
    for made in _promoted(tmp_path, trained, other, told).values():
        assert check(made.path) == in_force
        assert made.metadata == in_force.metadata | {"digest": in_force.digest}


def test_a_guard_that_halted_the_loop_fails_the_stage_and_nothing_is_handed_on(
    trained: Path, other: Path, tmp_path: Path
) -> None:
    told = {"promoted": False, "verdict": "halted", "reason": "guard 'precision' halted the loop: 0.1; look there"}
    with pytest.raises(HaltedError, match=r"guard 'precision' halted the loop.*The champion stays in force"):
        _promoted(tmp_path, trained, other, told)
    assert not list((tmp_path / "new").rglob("manifest.json"))


def test_the_champion_outlives_where_it_came_from(trained: Path, other: Path, tmp_path: Path) -> None:
    new = _promoted(tmp_path, trained, other, {"promoted": True, "verdict": "promoted", "reason": "so"})
    known = manifest_of(other)
    shutil.rmtree(other)
    assert check(new["solver"].path) == known
