"""Tiny policies as Hugging Face directories are, of any kind of model: a token a byte, and special tokens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def byte_policy(
    place: Path,
    special: Sequence[str] = ("<pad>", "<eos>"),
    eos: str = "<eos>",
    pad: str = "<pad>",
    bos: str | None = None,
    template: str | None = None,
    kind: str = "llama",
    unknown: int = 0,
    configured: Any = None,
    **size: Any,
) -> Path:
    """A policy with random weights. The last ``unknown`` of its tokens have no embedding; ``configured`` is what its
    generation_config.json names as end tokens; a ``bos`` stands before every text.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    words = {token: number for number, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), *special])}
    inner = Tokenizer(models.BPE(words, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    inner.add_special_tokens(list(special))
    if bos:
        inner.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, words[bos])])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, pad_token=pad, bos_token=bos)
    tokenizer.chat_template = template
    torch.manual_seed(0)
    known = len(words) - unknown
    ends = {
        "eos_token_id": words[eos],
        "pad_token_id": min(words[pad], known - 1),
        "bos_token_id": words.get(bos or ""),
    }
    config = AutoConfig.for_model(kind, vocab_size=known, **ends, **SIZE | size)
    AutoModelForCausalLM.from_config(config).float().save_pretrained(place)
    tokenizer.save_pretrained(place)
    if configured is not None:
        (place / "generation_config.json").write_text(json.dumps({"eos_token_id": configured}))
    return place
