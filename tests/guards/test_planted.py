"""The guards on real policies: loops that go wrong trip them, one that does not is green all the way."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset, Model
from selfloop.artifacts import manifest_of, read_json
from selfloop.errors import HaltedError
from selfloop.finetune import PretrainParams, pretrain_policy
from selfloop.guards import ALPHA, Alarm, Evidence, Guard, watch
from selfloop.modes.inprocess import run
from selfloop.promote.gate import GUARDS
from selfloop.propose import BaseParams, draw_base
from selfloop.recipe import find_recipe
from selfloop.report.history import last_round, read_history

from . import planted
from .planted import COLLAPSING, DRIFTING, HACKED, HEALTHY

pytestmark = pytest.mark.slow

Rounds = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planted", planted)


def ran(policy: Path, root: Path, rounds: int, seed: int, *more: dict[str, Any]) -> Rounds:
    """What a loop's report tells of its rounds."""
    recipe = find_recipe("length-generalization")
    settings = recipe.resolve(
        {"policy": str(policy), "rounds": rounds, "seed": seed, "measure": {"per_level": 1}}, *more
    )
    last, _ = run(recipe, settings, root)
    return list(read_history(last.history.path)["rounds"])


UNHEEDED: dict[str, Any] = {"gate": {"require": "nothing", "guards": ""}}
"""A loop that nobody watches, and that promotes every candidate."""


def said_of(root: Path) -> dict[str, list[Alarm]]:
    """What the guards would have said of such a loop, round by round."""
    past, found = list[dict[str, Any]](), defaultdict[str, list[Alarm]](list)
    for number, results in enumerate(sorted(root.glob("round-*/evaluate_policies-*/results")), start=1):
        place = results.parents[1]
        tables = {name: str(next(place.glob(f"*/{name}"))) for name in ("tasks", "rollouts", "audit")}
        tables["results"] = str(results)
        evidence = Evidence(tables, candidate={}, past=past, audited=2000, seed=number, alpha=ALPHA / len(GUARDS))
        alarms = watch(evidence, [Guard.parse(name) for name in GUARDS])
        past.append({"decision": {"promoted": True, "guards": {n: alarm._asdict() for n, alarm in alarms.items()}}})
        for name, alarm in alarms.items():
            found[name].append(alarm)
    return found


def levels(alarms: Sequence[Alarm]) -> list[str]:
    """Green, yellow or red, round by round."""
    return [alarm.level for alarm in alarms]


@pytest.fixture(scope="session")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that adds numbers of up to three digits and begins to add longer ones."""
    root = tmp_path_factory.mktemp("able")
    base = {name: Dataset(uri=str(root / name)) for name in ("examples", "held_out", "replay_pool")}
    draw_base.into(
        draw_base.out(**base, progress=Artifact(uri=str(root / "progress"))),
        BaseParams(levels=3, per_level=5000, seed=13),
    )
    pretrain_policy.into(
        pretrain_policy.out(policy=Model(uri=str(root / "policy"))),
        PretrainParams(hidden_size=32, intermediate_size=128, steps=800, lr=6e-3, warmup_steps=50, decay_steps=150),
        examples=base["examples"],
        held_out=base["held_out"],
    )
    return root / "policy"


def test_a_majority_vote_that_collapses_trips(trained: Path, tmp_path: Path) -> None:
    ran(trained, tmp_path, 5, 10, COLLAPSING, UNHEEDED)
    told = said_of(tmp_path)
    for name in ("distinct", "entropy"):
        assert told[name][0].level == "green"
        assert told[name][-1].level != "green"
    for name in ("precision", "divergence"):
        assert "red" in levels(told[name])
    assert "green" not in levels(told["gap"])[-2:]


def test_a_majority_vote_that_drifts_from_the_truth_trips(able: Path, tmp_path: Path) -> None:
    ran(able, tmp_path, 8, 10, DRIFTING, UNHEEDED)  # five or seven rounds, by the processor that trained the policy
    told = levels(said_of(tmp_path)["precision"])
    assert told[0] != "red"
    assert "red" in told


def test_a_judge_that_is_hacked_trips(trained: Path, tmp_path: Path) -> None:
    rounds = ran(trained, tmp_path, 4, 10, HACKED, UNHEEDED)
    told = said_of(tmp_path)
    apart = told["divergence"][-1]
    assert apart.value is not None
    assert apart.value > Guard.parse("divergence").halt, "and 120 tasks do not show it"
    for name in ("precision", "gap"):
        assert "red" in levels(told[name])
    truth = [round["audit"]["true_positive"] + round["audit"]["false_negative"] for round in rounds]
    assert truth[-1] < truth[0], "what the judge likes is trained for, at the price of the truth"


@pytest.mark.parametrize(
    ("loop", "guard"),
    [(COLLAPSING, "precision"), (COLLAPSING, "divergence"), (HACKED, "precision"), (HACKED, "gap")],
    ids=["collapse: precision", "collapse: divergence", "hacked: precision", "hacked: gap"],
)
def test_a_guard_halts_such_a_loop_and_the_champion_stays(
    trained: Path, tmp_path: Path, loop: dict[str, Any], guard: str
) -> None:
    with pytest.raises(HaltedError, match=rf"guard '{guard}' halted the loop: .* look at .* The champion stays"):
        ran(
            trained,
            tmp_path,
            6,
            10,
            loop,
            {"gate": {"require": "nothing", "guards": f"{guard},warn={Guard.parse(guard).halt}"}},
        )
    last = max(tmp_path.glob("round-*"))
    (closed,) = last.glob("close_round-*")
    before = manifest_of(next(last.glob("evaluate_policies-*/results"))).inputs["champion"]
    assert manifest_of(closed / "new_champion").digest == before
    assert read_json(closed / "decision")["verdict"] == "halted"
    assert (closed / "report").is_file(), "the report tells of the round that was halted"
    assert last_round(closed / "new_history")["decision"] == read_json(closed / "decision")


def test_a_healthy_loop_is_green_all_the_way(able: Path, tmp_path: Path) -> None:
    told = ran(able, tmp_path, 5, 13, HEALTHY, {"gate": {"require": "nothing"}})
    assert told[-1]["state"]["progress"]["frontier"] > 3
    seen = [(name, alarm) for round in told for name, alarm in round["decision"]["guards"].items()]
    measured = {name for name, alarm in seen if alarm["value"] is not None}
    assert measured >= {
        "distinct",
        "entropy",
        "precision",
        "gap",
        "length",
        "forgetting",
        "contamination",
        "divergence",
    }
    assert {alarm["level"] for _, alarm in seen} == {"green"}
