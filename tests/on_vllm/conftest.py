"""Tests with real vLLM, in an environment of its own (``make test`` makes it): tiny policies with random weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from selfloop.policy import Policy, fresh, save, scratch_tokenizer

ALPHABET = "0123456789+-*=()<>/abcdefghijklmnopqrstuvwxyz "
CONTEXT = 256


@pytest.fixture(scope="session")
def make_policy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A policy with random weights of a seed, on disk."""

    def make(seed: int) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        tokenizer = scratch_tokenizer(ALPHABET)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=CONTEXT,
            initializer_range=0.2,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        place = tmp_path_factory.mktemp("policy") / str(seed)
        save(Policy(LlamaForCausalLM(config).eval(), tokenizer), place)
        return place

    return make


@pytest.fixture(scope="session")
def base(make_policy: Callable[[int], Path]) -> Path:
    return make_policy(0)


@pytest.fixture(scope="session")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that is a LoRA adapter on ``base`` and changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    policy = fresh(base)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "o_proj"], base_model_name_or_path=str(base))
    changed = get_peft_model(policy.model, config)
    for name, weight in changed.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    place = tmp_path_factory.mktemp("adapter") / "adapter"
    save(Policy(changed, policy.tokenizer), place)
    return place


@pytest.fixture
def merged(base: Path, adapter: Path, tmp_path: Path) -> Path:
    """The same as ``base`` with ``adapter``, in one set of weights."""
    from peft import PeftModel

    policy = fresh(base)
    whole = PeftModel.from_pretrained(policy.model, adapter).merge_and_unload()
    save(Policy(whole, policy.tokenizer), tmp_path / "merged")
    shutil.copy(base / "config.json", tmp_path / "merged" / "config.json")
    return tmp_path / "merged"
