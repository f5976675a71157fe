"""A training in two processes that accelerate starts: it is the same training."""

from pathlib import Path

import pytest
import torch
from selfloop import progress
from selfloop.errors import UserError
from selfloop.policy import load

from .conftest import Finetuned, tried

pytestmark = pytest.mark.slow

CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
machine_rank: 0
main_process_port: 0
mixed_precision: 'no'
num_machines: 1
num_processes: 2
rdzv_backend: static
same_network: true
use_cpu: false
"""


@pytest.fixture
def two(tmp_path: Path) -> str:
    path = tmp_path / "two.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes would share one GPU")
def test_two_processes_train_as_one_does(plain: Path, two: str, finetuned: Finetuned) -> None:
    alone = finetuned(plain, "alone", tried(), steps=4)
    seen: list[tuple[int, int]] = []
    with progress.watched_by(lambda done, total, unit: seen.append((done, total))):
        both = finetuned(plain, "both", tried(), steps=4, accelerate_config=two)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name, weights in load(alone.path).model.state_dict().items():
        assert torch.allclose(weights, load(both.path).model.state_dict()[name], atol=1e-5)
    assert both.metadata["steps"] == 4


def test_what_a_process_refuses_is_told(trained: Path, tmp_path: Path, finetuned: Finetuned) -> None:
    one = tmp_path / "one.yaml"
    one.write_text(CONFIG.replace("MULTI_GPU", "'NO'").replace("num_processes: 2", "num_processes: 1"))
    with pytest.raises(UserError, match="packing cannot keep this policy's position scheme"):
        finetuned(trained, "packed", tried(), method="sft,packing=true", accelerate_config=str(one))


def test_processes_that_would_train_alone_are_refused(
    plain: Path, finetuned: Finetuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfloop.finetune.running.training.processes", lambda: 2)
    with pytest.raises(UserError, match="2 processes were started, but each would train alone: start them with"):
        finetuned(plain, "alone", tried())
    with pytest.raises(UserError, match="batch_size 9 cannot be shared by 2 processes in 1 parts: give a multiple of"):
        finetuned(plain, "odd", tried(), batch_size=9)


def test_a_configuration_that_is_not_there_is_refused(plain: Path, finetuned: Finetuned) -> None:
    with pytest.raises(UserError, match=r"There is no accelerate configuration at nowhere\.yaml: make one with"):
        finetuned(plain, "none", tried(), accelerate_config="nowhere.yaml")
