"""Structured outputs with transformers: a regular expression says which tokens may come next (outlines-core)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selfloop.errors import UserError
from selfloop.generate.engines.contract import Form

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class Guide:
    """Where one text stands in its form."""

    def __init__(self, index: Any, ends: Collection[int]) -> None:
        from outlines_core import Guide as State

        self._state, self._ends = State(index), ends

    def allowed(self) -> list[int]:
        """The tokens that the text may continue with; an end token among them where it may end."""
        tokens: list[int] = self._state.get_tokens()
        return tokens

    def advance(self, token: int) -> None:
        """Continue with a token that is allowed."""
        if token not in self._ends:
            self._state.advance(token, return_tokens=False)


def guided(logits: torch.Tensor, guides: Collection[tuple[int, Guide]]) -> torch.Tensor:
    """Logits (rows, vocabulary) in which each of these rows can only continue as its guide allows."""
    import torch

    shut = torch.zeros_like(logits, dtype=torch.bool)
    for row, guide in guides:
        shut[row] = True
        shut[row, guide.allowed()] = False
    return logits.masked_fill(shut, -torch.inf)


def open_guides(
    tokenizer: PreTrainedTokenizerBase, form: Form, ends: Sequence[int], known: int, count: int
) -> list[Guide]:
    """Guides for so many texts of one form, in the first ``known`` tokens.

    Raises ``UserError`` where outlines-core is not installed, or a form cannot be read or written with these tokens.
    """
    if not ends:
        raise UserError("A policy without an end token cannot end a text of a form: use the form 'free'.")
    index = _index(tokenizer, regex_of(form), ends[0], known)
    return [Guide(index, ends) for _ in range(count)]


def regex_of(form: Form) -> str:
    """A form as a regular expression."""
    try:
        from outlines_core.json_schema import build_regex_from_schema
    except ImportError:
        raise UserError(
            f"The form '{form.kind}' needs outlines-core with this engine: install it, or use vllm."
        ) from None
    if form.kind == "choice":
        return "|".join(f"({re.escape(choice)})" for choice in form.choices)
    if form.kind == "regex":
        return form.pattern
    try:
        return str(build_regex_from_schema(form.schema))
    except Exception as error:  # the library has no type of its own for what it cannot read
        raise UserError(f"The JSON schema cannot be followed ({error}): change json_schema.") from None


@lru_cache(maxsize=8)
def _index(tokenizer: PreTrainedTokenizerBase, pattern: str, end: int, known: int) -> Any:
    from outlines_core import Index, Vocabulary

    by_bytes: dict[bytes, list[int]] = {}
    for token, written in token_bytes(tokenizer):
        if token < known:
            by_bytes.setdefault(written, []).append(token)
    try:
        return Index(pattern, Vocabulary(end, by_bytes))
    except Exception as error:
        raise UserError(f"The policy's tokens cannot write what '{pattern}' asks for ({error}): change it.") from None


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, bytes]]:
    """The tokens of a text, without special ones, and the bytes that each stands for."""
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["decoder"])
    special, bytes_of = set(tokenizer.all_special_ids), _byte_level() if '"ByteLevel"' in decoder else None
    for written, token in tokenizer.get_vocab().items():
        if token in special or not written:
            continue
        if bytes_of is not None:
            if all(character in bytes_of for character in written):
                yield token, bytes(bytes_of[character] for character in written)
        elif byte := re.fullmatch("<0x([0-9A-F]{2})>", written):
            yield token, bytes.fromhex(byte[1])
        else:
            yield token, written.replace("\u2581", " ").encode()


def _byte_level() -> dict[str, int]:
    """The characters that byte-level tokenizers write bytes as: visible ones for themselves, others from 256 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + index): byte for index, byte in enumerate(hidden)}
