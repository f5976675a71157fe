"""Policies with random weights, whose texts are long and varied."""

import pytest
from selfloop.policy import Policy, scratch_tokenizer

ALPHABET = "0123456789+-*=()<>/abcdefghijklmnopqrstuvwxyz "


@pytest.fixture(scope="session")
def wild() -> Policy:
    """A policy with random weights over letters, digits and marks."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = scratch_tokenizer(ALPHABET)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Policy(LlamaForCausalLM(config).eval(), tokenizer)
