"""What goes wrong in a training: no number as a loss, no memory, nothing to share a batch among."""

import json
import re
import resource
from pathlib import Path

import pytest
import torch
from selfloop.errors import UserError
from selfloop.finetune import FinetuneParams
from selfloop.finetune.running.speed import peak, speed
from selfloop.finetune.running.training import memory_watched, out_of_memory
from selfloop.policy import Policy, load, save

from .. import forked
from .conftest import Finetuned, tried

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_training_that_diverges_stops_and_saves_its_texts(
    plain: Path, tmp_path: Path, finetuned: Finetuned, method: str
) -> None:
    with pytest.raises(UserError, match=r"The (loss|gradient|weights) .*step \d+ .* and training stopped") as stopped:
        finetuned(plain, "burst", tried(), method=method, steps=40, lr=1e30, warmup_steps=0, checkpoint_every=1)
    said = str(stopped.value)
    texts = json.loads(Path(re.findall(r"are in (\S+\.json)", said)[0]).read_text())
    assert len(texts) == 8
    assert {text["prompt"] for text in texts} <= {e.prompt for e in tried()}
    assert "lower lr" in said
    before = re.findall(r"the checkpoint before it is (\S+),", said)
    if before:
        assert Path(before[0], "model.safetensors").exists()
    assert not (tmp_path / "burst" / "manifest.json").exists()


@pytest.mark.parametrize("method", ["sft", "nft", "dpo"])
def test_a_policy_whose_weights_are_no_numbers_is_no_candidate(
    plain: Path, tmp_path: Path, finetuned: Finetuned, method: str
) -> None:
    """One step only: its loss and its gradient are finite, what they do to the weights is not."""
    with pytest.raises(UserError, match=r"The weights after step 1 are no longer finite .* lower lr"):
        finetuned(plain, "burst", tried(), method=method, steps=1, lr=1e39, warmup_steps=0)
    assert not (tmp_path / "burst" / "manifest.json").exists()


def test_a_policy_is_not_saved_where_a_weight_is_no_number_in_its_precision(plain: Path, tmp_path: Path) -> None:
    policy = load(str(plain))
    next(policy.model.parameters()).data[0, 0] = 7e4
    with pytest.raises(UserError, match=r"The weights model\.embed_tokens\.weight .* no longer finite as float16"):
        save(Policy(policy.model.half(), policy.tokenizer), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


WORK = """
import resource, sys
from pathlib import Path
import torch, transformers
from selfloop.errors import UserError
from selfloop.finetune.offline.encoding import Encoded
from selfloop.finetune.offline.supervised import train
from selfloop.finetune.running.training import Plan
from selfloop.policy import fresh
from selfloop.records import Example

policy = fresh(sys.argv[1])
texts = [Example("a", 1, "1+1=", "2" * 4000, 0)]
plan = Plan(2, 64, 1e-3, lambda step: 1.0, 0.0, 0, Path(sys.argv[2]), accumulate=2)
data = Encoded(policy, texts, [0] * 128)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
try:
    train(policy, data, plan)
except UserError as error:
    print(error)
"""


def test_memory_that_runs_out_is_told_with_what_to_lower(plain: Path, tmp_path: Path) -> None:
    done = forked.run("-c", WORK, str(plain), str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(
        "Memory ran out in a training step of 32 texts at once (batch_size 64, accumulate 2) of up to 4005 tokens: "
        "raise accumulate, lower batch_size or max_length, set gradient_checkpointing, or train an adapter."
    )
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_gpu_without_memory_is_told_in_the_same_words(error: Exception, tmp_path: Path) -> None:
    from selfloop.finetune.running.training import Plan

    plan = Plan.of(FinetuneParams(), 0, tmp_path, 1)

    class Nothing:
        def seen(self, first: int, last: int) -> list[dict[str, object]]:
            return []

    with (
        pytest.raises(UserError, match="Memory ran out in a training step of 64 texts"),
        memory_watched(plan, Nothing()),
    ):
        raise error
    assert not out_of_memory(RuntimeError("shapes do not fit"))


def test_the_share_of_the_peak_is_told_for_known_gpus_only() -> None:
    assert peak("NVIDIA H200") == 989e12
    assert peak("NVIDIA H100 PCIe") < peak("NVIDIA H100 80GB HBM3")
    assert peak("NVIDIA L40S") != peak("NVIDIA L4")
    assert peak("Some other chip") == 0
    told = speed(tokens=100, seconds=2, parameters=10, processes=1)
    assert told["tokens_per_second"] == 50
    assert ("mfu" in told) == bool(torch.cuda.is_available() and peak(torch.cuda.get_device_name()))
