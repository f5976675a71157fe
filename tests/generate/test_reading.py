"""A small Llama read by its weights alone, against transformers' own forward pass."""

import copy

import pytest
import torch
from selfloop.generate.engines import reading
from selfloop.generate.engines.llama import ROOM, is_plain
from selfloop.generate.engines.reading import ByLibrary, BySelf, Lanes, reader_of
from selfloop.policy import Policy, settle_threads
from torch import Tensor

ROWS, LONGEST = 7, 9


def prompts(policy: Policy, padded: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and positions (rows, tokens) of prompts of one or of several lengths."""
    drawn = torch.Generator().manual_seed(3)
    tokens = torch.randint(2, len(policy.tokenizer), (ROWS, LONGEST), generator=drawn)
    mask = torch.ones_like(tokens)
    if padded:
        for row in range(ROWS):
            mask[row, :row] = 0
    return tokens, mask, (mask.cumsum(1) - 1).clamp(min=0)


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "of one length"])
def test_a_small_llama_is_read_as_by_its_library(wild: Policy, padded: bool) -> None:
    """Across rows that leave, return in another order, and more tokens than there was room for at first.

    Bits were equal on AMD EPYC; processors may add up in another order where matrices are joined.
    """
    settle_threads(wild.model)
    tokens, mask, positions = prompts(wild, padded)
    readers = BySelf(wild.model), ByLibrary(wild.model)
    drawn = torch.Generator().manual_seed(4)
    with torch.inference_mode():
        for step in range(2 * ROOM + LONGEST):
            ours, theirs = (reader.read(tokens, mask, positions) for reader in readers)
            assert ours.shape == (len(tokens), len(wild.tokenizer))
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
            tokens = torch.randint(2, len(wild.tokenizer), (len(tokens), 1), generator=drawn)
            mask, positions = torch.cat([mask, torch.ones_like(tokens)], 1), positions[:, -1:] + 1
            if step in (2, 6):
                kept = torch.tensor([4, 0, 0, 2] if step == 2 else [1, 3])
                for reader in readers:
                    reader.keep(kept)
                tokens, mask, positions = tokens[kept], mask[kept], positions[kept]


def test_rows_with_the_same_text_are_read_once_until_they_part(wild: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counting(BySelf):
        def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
            read.append(len(tokens))
            return super().read(tokens, mask, positions)

    monkeypatch.setattr(reading, "reader_of", Counting)
    settle_threads(wild.model)
    prompts = [[5, 6, 7], [5, 6, 7], [8, 9], [5, 6, 7], [8, 9]]
    written = [[3, 4, 5, 6], [3, 4, 6, 6], [3, 4, 5, 6], [4, 4, 5, 6], [3, 4, 5, 6]]
    lanes, alive = Lanes(wild, prompts), [True] * 5
    with torch.inference_mode():
        for step in range(4):
            logits = lanes.read()
            for row in range(5):
                if alive[row]:
                    alone = torch.tensor([prompts[row] + written[row][:step]])
                    torch.testing.assert_close(logits[row], wild.model(alone).logits[0, -1])
            alive[3] = step < 1
            lanes.write([tokens[step] for tokens in written], alive)
    assert read == [2, 3, 2, 3]


def test_only_a_small_llama_without_variations_is_read_so(wild: Policy) -> None:
    assert isinstance(reader_of(wild.model), BySelf)
    for name, value in {
        "attention_dropout": 0.1,
        "hidden_act": "gelu",
        "num_key_value_heads": 1,
        "_attn_implementation": "eager",
    }.items():
        other = copy.deepcopy(wild.model)
        setattr(other.config, name, value)
        assert isinstance(reader_of(other), ByLibrary), name
    other = copy.deepcopy(wild.model)
    assert is_plain(other)
    assert not is_plain(other.to(torch.bfloat16))
    assert is_plain(other.float())
    other.gradient_checkpointing_enable()
    assert not is_plain(other)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_plain(wild.model)
