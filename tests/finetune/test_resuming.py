"""A training that is killed goes on from its last checkpoint and ends with the weights that it would have had."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Model
from selfloop.artifacts import manifest_of
from selfloop.finetune import FinetuneParams, finetune_policy
from selfloop.finetune.checkpoints import MARK, latest, mark
from selfloop.records import Example, Task

from ..conftest import sealed_table
from .conftest import tried

WORKER = Path(__file__).with_name("training_worker.py")


def job(place: Path, policy: Path, params: dict[str, Any]) -> dict[str, Any]:
    place.mkdir(parents=True, exist_ok=True)
    tables = {"newest": (Example, tried()), "kept": (Example, []), "base": (Example, []), "items": (Task, [])}
    about = {"policy": str(policy), "params": {"batch_size": 8, "checkpoint_every": 3} | params}
    about |= {name: sealed_table(place / name, record, rows).path for name, (record, rows) in tables.items()}
    (place / "job.json").write_text(json.dumps(about))
    return about


def worked(place: Path, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WORKER), str(place), str(kill_at)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)


def uninterrupted(place: Path, about: dict[str, Any]) -> Model:
    made = Model(uri=str(place / "whole"))
    finetune_policy(
        FinetuneParams.model_validate(about["params"]),
        policy=Model(uri=about["policy"]),
        **{name: Model(uri=about[name]) for name in ("newest", "kept", "base", "items")},
        candidate=made,
    )
    return made


@pytest.mark.parametrize(
    "params",
    [{"method": "sft"}, {"method": "dpo"}, {"method": "nft", "adapter": "lora", "lora_rank": 2}],
    ids=["sft", "dpo", "nft on an adapter"],
)
def test_a_killed_training_ends_with_equal_weights(plain: Path, tmp_path: Path, params: dict[str, Any]) -> None:
    about = job(tmp_path, plain, params | {"steps": 10})
    first = worked(tmp_path, kill_at=8)
    assert first.returncode == -signal.SIGKILL
    [scratch] = tmp_path.glob(".training-*")
    kept = latest(scratch)
    assert kept is not None
    assert kept[0].name == "checkpoint-6"
    second = worked(tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.split() == ["7", "8", "9", "10"]
    assert not list(tmp_path.glob(".training-*"))
    made, whole = manifest_of(tmp_path / "candidate.partial" / "candidate"), uninterrupted(tmp_path, about)
    assert made.digest == whole.metadata["digest"]
    assert made.metadata["loss"] == whole.metadata["loss"]
    assert made.metadata["steps"] == 10


def test_a_checkpoint_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark(tmp_path / f"checkpoint-{step}", {"total": step})
    (tmp_path / "checkpoint-12").mkdir()
    assert latest(tmp_path) == (tmp_path / "checkpoint-10", {"total": 10})
    (tmp_path / "checkpoint-10" / MARK).unlink()
    assert latest(tmp_path) == (tmp_path / "checkpoint-2", {"total": 2})


def test_another_training_does_not_go_on_from_it(plain: Path, tmp_path: Path) -> None:
    job(tmp_path, plain, {"steps": 6})
    assert worked(tmp_path, kill_at=4).returncode == -signal.SIGKILL
    job(tmp_path, plain, {"steps": 6, "lr": 2e-3})
    assert worked(tmp_path).stdout.split() == ["1", "2", "3", "4", "5", "6"]
    assert len(list(tmp_path.glob(".training-*"))) == 1
