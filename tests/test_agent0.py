"""The recipe ``agent0``: two roles and what became of them, its forms, pseudo-labels that rot, rounds without tasks."""

import json
from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop.artifacts import manifest_of, read_json
from selfloop.cli.run import as_toml
from selfloop.environments import find_environment
from selfloop.environments.arithmetic import Arithmetic
from selfloop.errors import UserError
from selfloop.finetune.online.rewards import Reward
from selfloop.finetune.online.rewards.proposals import ProposalReward
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import find_origin
from selfloop.recipe import find_recipe
from selfloop.records import Rollout, Task, rows
from selfloop_recipes.claims.agent0 import no_tool

from .conftest import tracked_run, whole_run

pytestmark = pytest.mark.slow

NAME = "agent0"
SHORT = {"turns": 4}
TINY: dict[str, Any] = {
    "rounds": 2,
    "seed": 5,
    "model": NAME,
    "environment": "arithmetic",
    "base": {"levels": 1, "per_level": 200, "held_out_per_level": 8, "proposals": 200},
    "pretrain": {"steps": 120, "hidden_size": 32, "heads": 2, "intermediate_size": 64, "decay_steps": 40, "lr": 1e-2},
    "draw": {"levels": [2], "old_levels": [1], "items_per_level": 8},
    "challenge": {
        "steps": 2,
        "batch_size": 8,
        "group_size": 4,
        "max_tokens": 12,
        "reward": {"attempts": 3, "protocol": SHORT},
    },
    "learn": {"number": 48, "max_tokens": 12},
    "generate": {"samples": 3, "protocol": SHORT},
    "band": {"min_rate": 0.1, "max_rate": 1.0},
    "reinforce": {"steps": 2, "batch_size": 8, "group_size": 4, "protocol": SHORT},
    "evaluate": {"protocol": SHORT},
    "measure": {"levels": [2], "per_level": 8, "protocol": SHORT},
    "gate": {"guards": [], "require": "nothing", "confirm": 1, "tolerance": 0.8},
}
"""A whole run of two rounds in seconds: the machinery, not the learning."""
ONE = {"rounds": 1}
CONTINUE = {stage: {"when_empty": "continue"} for stage in ("learn", "band", "reinforce")}
WATCHED = "distinct+entropy+coverage+precision,warn=0.5,halt=0.4+gap+length,warn=2,halt=3+divergence"
GUARDED = {"gate": {"guards": WATCHED}}
ROLES = (NAME, f"{NAME}.executor", f"{NAME}.proposer")


ran = partial(whole_run, NAME, TINY)
tracked = partial(tracked_run, NAME, TINY)


def of_proposer(root: Path) -> Path:
    """The proposer that the first round of a run trained: the policy that began without tasks."""
    [found] = [place for place in root.glob("round-01/reinforce_policy*/candidate") if not of_tasks(place)]
    return found


def of_tasks(policy: Path) -> bool:
    """Whether a policy was trained on tasks that were given."""
    return "tasks" in manifest_of(policy).inputs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any], list[dict[str, Any]]]:
    """A run in process: its folder, its last turn, what it measured, and its rounds."""
    root = tmp_path_factory.mktemp("agent0") / "run"
    return root, *ran(root)


def test_two_roles_are_trained_and_what_became_of_them_is_told(
    finished: tuple[Path, Any, dict[str, Any], list[dict[str, Any]]],
) -> None:
    _, last, measured, rounds = finished
    assert measured.keys() >= {"beyond", "rate", "harder", "precision"}
    assert all(round["band"]["tasks"] > 0 for round in rounds)
    assert [[role["role"] for role in round["roles"]] for round in rounds] == [["executor", "proposer"]] * 2
    assert [[role["steps"] for role in round["roles"]] for round in rounds] == [[2, 2]] * 2
    made = {role["role"]: role["after"] for role in rounds[-1]["roles"]}
    assert last.executor.metadata["digest"] == made["executor"] != made["proposer"] == last.proposer.metadata["digest"]
    assert all(0 <= round["audit"]["precision"] <= 1 for round in rounds), "pseudo-labels are held against the truth"


@pytest.mark.parametrize(
    ("settings", "reward", "band"),
    [
        ({}, "agent0", (0.25, 0.75)),
        ({"form": "code", "environment": "arithmetic:claims"}, "agent0-code", (0.3, 0.8)),
        ({"form": "r-zero", **no_tool}, "r-zero", (0.3, 0.8)),
    ],
)
def test_a_form_says_the_reward_and_the_band(
    settings: dict[str, Any], reward: str, band: tuple[float, float], tmp_path: Path
) -> None:
    resolved = find_recipe(NAME).resolve(settings)
    assert (resolved.band.min_rate, resolved.band.max_rate) == band
    wide = {"challenge": {"max_tokens": 40}, "learn": {"max_tokens": 40}}
    last, _, [round] = ran(tmp_path, settings, wide, ONE)
    trained = of_proposer(tmp_path)
    asked = Reward.parse(manifest_of(trained).params["reward"])
    assert isinstance(asked, ProposalReward)
    assert (asked.name, asked.attempts) == (reward, 3)
    assert asked.protocol.spelling() == resolved.generate.protocol.spelling()
    assert manifest_of(last.proposer.path).digest == manifest_of(trained).digest
    assert round["band"]["kept"] > 0


def test_the_agent_of_the_released_code_claims_answers_that_it_works_out_with_the_tool(tmp_path: Path) -> None:
    claims = {"form": "code", "environment": "arithmetic:claims", "learn": {"max_tokens": 24}}
    ran(tmp_path, claims, {"challenge": {"max_tokens": 24}}, ONE)
    [proposed] = tmp_path.glob("round-01/propose_by_policy*/tasks")
    tasks = list(rows(proposed, Task))
    claimed = [json.loads(task.metadata)["claimed"] == task.answer for task in tasks]
    assert sum(claimed) > len(claimed) / 2 > 0
    trained = of_proposer(tmp_path)
    wrote = [manifest_of(made).params["protocol"] for made in (trained, proposed)]
    assert wrote == ["tools,tools=op,turns=14"] * 2
    assert any(rollout.segments for rollout in rows(trained.with_name("rollouts"), Rollout))
    assert max(told["valid"] for told in manifest_of(trained).metadata["proposals"]) > 0


def test_a_frozen_proposer_stays_what_it_was(tmp_path: Path) -> None:
    last, _, [round] = ran(tmp_path, dict(find_recipe(NAME).control), ONE)
    proposer = next(role for role in round["roles"] if role["role"] == "proposer")
    assert proposer["before"] == proposer["after"] == last.proposer.metadata["digest"]
    assert last.executor.metadata["digest"] != proposer["after"]


@pytest.mark.parametrize(
    ("require", "moved"), [({"require": "nothing"}, True), ({"margin": 1.0, "require": "better"}, False)]
)
def test_both_roles_are_promoted_or_neither(
    require: dict[str, Any], moved: bool, client: MlflowClient, tmp_path: Path
) -> None:
    last = tracked(tmp_path, ONE, {"gate": require})
    registries = [Registry(name) for name in ROLES]
    assert [len(each.versions()) for each in registries] == [2, 2, 2]
    assert [each.aliases()["champion"] for each in registries] == [1 + moved] * 3
    assert json.loads(registries[0].find("candidate").tag("roles")) == {"executor": 2, "proposer": 2}
    in_force = [last.executor.metadata["digest"], last.proposer.metadata["digest"]]
    assert registries[0].find("champion").tag("digests").split(",") == in_force
    assert [each.find("champion").tag("digest") for each in registries[1:]] == in_force


class Inflated(Arithmetic):
    """Arithmetic as somebody teaches it who writes a nought behind every result."""

    name = "inflated"

    def demonstration(self, task: Task) -> str:
        return super().demonstration(task) + "0"


ROTTEN = {
    "policy": "wrong",
    "reinforce": {"steps": 4, "batch_size": 16},
    "gate": {"guards": "precision,warn=0.5,halt=0.4", "require": "better"},
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learnt from somebody else's wrong answers, and proposes well."""
    from kfp.dsl import Artifact, Dataset, Model
    from selfloop.finetune import pretrain_policy
    from selfloop.propose import draw_base

    root, settings = tmp_path_factory.mktemp("wrong"), find_recipe(NAME).resolve(TINY).for_round(0)
    named = {name: Dataset(uri=str(root / name)) for name in ("examples", "held_out", "replay_pool")}
    taught = {"environment": f"{__name__}:Inflated"}
    draw_base.into(
        draw_base.out(**named, progress=Artifact(uri=str(root / "progress"))),
        settings.base.model_copy(update=taught),
    )
    pretrain_policy.into(
        pretrain_policy.out(policy=Model(uri=str(root / "policy"))),
        settings.pretrain.model_copy(update=taught | {"steps": 240}),
        examples=named["examples"],
        held_out=named["held_out"],
    )
    return root / "policy"


def test_a_run_whose_pseudo_labels_rot_is_halted_with_the_champion_intact(
    wrong: Path, client: MlflowClient, selfloop: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    settings = find_recipe(NAME).resolve(TINY, ROTTEN, {"policy": str(wrong)})
    (tmp_path / "rotten.toml").write_text(as_toml(settings))
    halted = selfloop("run", NAME, "--config", "rotten.toml", "--output", "run")
    assert halted.returncode == 3, halted.stdout + halted.stderr
    assert "guard 'precision' halted the loop" in halted.stderr
    for name in ROLES:
        assert Registry(name).aliases()["champion"] == 1
    experiments = [each.experiment_id for each in client.search_experiments()]
    logged = [
        made.data.metrics["audit.precision"]
        for made in client.search_runs(experiments)
        if "audit.precision" in made.data.metrics
    ]
    assert logged
    assert max(logged) < 0.7
    [told] = (tmp_path / "run").glob("round-01/close_round*/decision")
    assert read_json(told)["verdict"] == "halted"
    assert read_json(told)["guards"]["precision"]["value"] < 0.7


SILENT: dict[str, Any] = {"learn": {"max_tokens": 1}}
NARROW: dict[str, Any] = {"band": {"min_rate": 0.45, "max_rate": 0.46}}


@pytest.mark.parametrize(
    ("empty", "says"),
    [(SILENT, "None of the 48 texts that the policy wrote"), (NARROW, r"No task lies in the band from 0.45 to 0.46")],
    ids=["silent", "narrow"],
)
def test_a_round_without_tasks_stops_the_loop_or_is_gone_through(
    empty: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        ran(tmp_path / "stops", empty)
    last, measured, rounds = ran(tmp_path / "continues", empty, CONTINUE, GUARDED, {"gate": {"require": "better"}})
    assert [round["decision"]["verdict"] for round in rounds] == ["rejected"] * 2
    assert [round["tasks"] for round in rounds] == [0, 0]
    assert [round["empty"] for round in rounds] == ["There were no rollouts"] * 2
    executors = [round["roles"][0] for round in rounds]
    assert [role["steps"] for role in executors] == [0, 0]
    assert {role["after"] for role in executors} == {last.executor.metadata["digest"]}
    assert isnan(measured["rate"]) == isnan(measured["harder"]) == (empty is SILENT)
    assert isnan(measured["precision"])


def test_a_loop_that_stops_for_want_of_tasks_leaves_its_champion_in_force(client: MlflowClient, tmp_path: Path) -> None:
    tracked(tmp_path / "good", ONE)
    _, origin, first = find_origin(f"{NAME}@champion")
    assert (origin, first) == (f"{NAME}/2", 2)
    before = [Registry(name).aliases() for name in ROLES]
    for name, empty in {"silent": SILENT, "narrow": NARROW}.items():
        with pytest.raises(UserError):
            tracked(tmp_path / name, ONE, empty, {"origin": origin, "first": first})
        assert [Registry(name).aliases() for name in ROLES] == before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"reinforce": {"protocol": {"tools": ["opp"]}}}, "There is no tool 'opp': did you mean 'op'"),
        ({"challenge": {"reward": {"protocol": {"tools": ["opp"]}}}}, "There is no tool 'opp': did you mean 'op'"),
        ({"generate": {"protocol": "tool"}}, "There is no protocol 'tool': did you mean 'tools'"),
        ({"environment": "countdown"}, "'countdown', which does not offer proposals"),
        ({"form": "code"}, "'arithmetic', which does not offer claims"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        ran(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_claims_are_offered_by_the_flavour_that_shows_them() -> None:
    assert "claims" in find_environment("arithmetic:claims").offers
    assert "claims" not in find_environment("arithmetic").offers
