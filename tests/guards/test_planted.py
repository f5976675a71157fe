"""The guards on real policies: loops that go wrong trip them, one that does not is green all the way."""

import sys
from pathlib import Path

import pytest
from kfp.dsl import Artifact, Dataset, Model
from selfloop.finetune import PretrainParams, pretrain_policy
from selfloop.propose import BaseParams, draw_base

from . import planted
from .planted import COLLAPSING, DRIFTING, HACKED, HEALTHY, Round, rounds


def levels(told: list[Round], name: str) -> set[str]:
    return {round.alarms[name].level for round in told}


@pytest.fixture(scope="session")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that adds numbers of up to three digits and begins to add longer ones."""
    root = tmp_path_factory.mktemp("able")
    base = {name: Dataset(uri=str(root / name)) for name in ("examples", "held_out", "kept")}
    draw_base(BaseParams(levels=3, per_level=5000, seed=13), **base, curriculum=Artifact(uri=str(root / "curriculum")))
    pretrain_policy(
        PretrainParams(hidden_size=32, intermediate_size=128, steps=800, lr=6e-3, warmup_steps=50, decay_steps=150),
        examples=base["examples"],
        held_out=base["held_out"],
        policy=Model(uri=str(root / "policy")),
    )
    return root / "policy"


def test_a_majority_vote_that_collapses_trips(trained: Path, tmp_path: Path) -> None:
    told = list(rounds(trained, tmp_path, 5, COLLAPSING, seed=10, gated=False))
    for name in ("distinct", "entropy"):
        assert told[0].alarms[name].level == "green"
        assert told[-1].alarms[name].level != "green"
    for name in ("precision", "divergence"):
        assert "red" in levels(told, name)
    assert "green" not in {round.alarms["gap"].level for round in told[-2:]}


def test_a_majority_vote_that_drifts_from_the_truth_trips(able: Path, tmp_path: Path) -> None:
    told = list(rounds(able, tmp_path, 5, DRIFTING, seed=10, gated=False))
    first, last = (round.alarms["precision"] for round in (told[0], told[-1]))
    assert first.level != "red"
    assert last.level == "red"


def test_a_judge_that_is_hacked_trips(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planted", planted)
    told = list(rounds(trained, tmp_path, 4, HACKED, seed=10, gated=False))
    assert told[-1].score > told[0].score
    assert told[-1].truth < told[0].truth
    assert told[0].alarms["divergence"].level == "green"
    assert told[-1].alarms["divergence"].level == "red"
    assert "red" in levels(told, "precision")


def test_a_healthy_loop_is_green_all_the_way(able: Path, tmp_path: Path) -> None:
    told = list(rounds(able, tmp_path, 5, HEALTHY, seed=13))
    assert told[-1].told["state"]["frontier"] > 3
    seen = {name for round in told for name, alarm in round.alarms.items() if alarm.value is not None}
    assert seen >= {"distinct", "entropy", "precision", "gap", "length", "forgetting", "contamination", "divergence"}
    assert {alarm.level for round in told for alarm in round.alarms.values()} == {"green"}
