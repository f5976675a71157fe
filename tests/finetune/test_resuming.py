"""A training that is killed continues from its last checkpoint and ends with the weights that it would have had."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.finetune import FinetuneParams, finetune_policy
from selfloop.finetune.running.checkpoints import MARK, latest, mark
from selfloop.records import Example, Task

from ..conftest import sealed_table
from .conftest import killed, tried

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("training_worker.py")


def job(place: Path, policy: Path, params: dict[str, Any]) -> dict[str, Any]:
    place.mkdir(parents=True, exist_ok=True)
    tables: dict[str, tuple[Any, list[Any]]] = dict.fromkeys(("replay_pool", "seed_data"), (Example, []))
    tables |= {"newest": (Example, tried()), "eval_items": (Task, [])}
    about = {"policy": str(policy), "params": {"batch_size": 8, "checkpoint_every": 3} | params}
    about |= {name: sealed_table(place / name, record, rows).path for name, (record, rows) in tables.items()}
    (place / "job.json").write_text(json.dumps(about))
    return about


def trained_here(output: Path, about: dict[str, Any]) -> tuple[Model, list[int]]:
    """The candidate that this process trains, and the steps that it took."""
    seen = list[int]()
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        return trained(output, about), seen


def trained(output: Path, about: dict[str, Any]) -> Model:
    return finetune_policy.into(
        finetune_policy.out(candidate=Model(uri=str(output)), state=Artifact(uri=f"{output}-state")),
        FinetuneParams.model_validate(about["params"]),
        policy=Model(uri=about["policy"]),
        **{name: Dataset(uri=about[name]) for name in ("newest", "replay_pool", "seed_data", "eval_items")},
    ).candidate


@pytest.mark.parametrize(
    "params",
    [{"method": "sft"}, {"method": "dpo", "adapter": "lora", "lora_rank": 2}],
    ids=["sft", "dpo on an adapter"],
)
def test_a_killed_training_ends_with_equal_weights(plain: Path, tmp_path: Path, params: dict[str, Any]) -> None:
    about = job(tmp_path, plain, params | {"steps": 10})
    killed(WORKER, tmp_path, 8)
    [scratch] = tmp_path.glob(".training-*")
    kept = latest(scratch)
    assert kept is not None
    assert kept[0].name == "checkpoint-6"
    resumed, seen = trained_here(tmp_path / "candidate.partial" / "candidate", about)
    assert seen == [7, 8, 9, 10]
    assert not list(tmp_path.glob(".training-*"))
    whole, seen = trained_here(tmp_path / "whole", about)
    assert seen == [*range(1, 11)]
    assert resumed.metadata == whole.metadata


def test_a_checkpoint_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark(tmp_path / f"checkpoint-{step}", {"total": step})
    (tmp_path / "checkpoint-12").mkdir()
    assert latest(tmp_path) == (tmp_path / "checkpoint-10", {"total": 10})
    (tmp_path / "checkpoint-10" / MARK).unlink()
    assert latest(tmp_path) == (tmp_path / "checkpoint-2", {"total": 2})


def test_another_training_does_not_continue_from_it(plain: Path, tmp_path: Path) -> None:
    class BrokenOffError(Exception):
        pass

    def break_off(done: int, total: int, unit: str) -> None:
        if done == 4:
            raise BrokenOffError

    about = job(tmp_path, plain, {"steps": 6})
    with pytest.raises(BrokenOffError), progress.watched_by(break_off):
        trained(tmp_path / "candidate", about)
    about["params"]["lr"] = 2e-3
    _, seen = trained_here(tmp_path / "candidate", about)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert len(list(tmp_path.glob(".training-*"))) == 1
