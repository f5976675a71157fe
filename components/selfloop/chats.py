"""What a policy reads: prompts and messages as its own tokenizer and chat template write them.

Data never becomes control. A text that spells a control token, such as one that ends a turn, is read letter by letter:
it is cut at a mark within the token, and no tokenizer sees the pieces together. What a template makes of a text is
looked at: one that leaves the text out is given it as parts, or refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selfloop.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CUT = "\ufdd0"
"""Where a text is cut before it is tokenized: a code point that Unicode keeps out of texts."""
ANY = "0"
"""A text, to see what a tokenizer puts before one."""


def encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of prompts up to where the answer begins: each a user's message, where there is a chat template; else
    behind what the tokenizer puts before any text.
    """
    if not prompts:
        return []
    texts = [as_data(tokenizer, prompt) for prompt in prompts]
    if tokenizer.chat_template is not None:
        return tokens_of(tokenizer, rendered(tokenizer, [[message("user", text)] for text in texts]))
    first, read = beginning(tokenizer), tokens_of(tokenizer, texts)
    refuse_unknown(tokenizer, texts, read)
    return [first + row for row in read]


def refuse_unknown(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], read: Sequence[Sequence[int]]) -> None:
    """Raise ``UserError`` for a text with a piece that the tokenizer reads as padding, having no token for it."""
    pad = tokenizer.pad_token_id
    odd = next((text for text, row in zip(texts, read, strict=True) if pad in row), None)
    if odd is None or tokenizer.pad_token == tokenizer.eos_token:
        return
    pieces = [piece for piece in re.findall(r"<\w+>|.", odd, re.DOTALL) if pad in tokens_of(tokenizer, [piece])[0]]
    raise UserError(
        f"This policy has no token for {pieces[0]!r}, and is asked {odd[:60]!r}: ask a policy that knows it (one from "
        "scratch knows the marks of the roles in base.roles), or ask another thing."
    )


def message(role: str, content: str) -> dict[str, Any]:
    """A message of a chat."""
    return {"role": role, "content": content}


def rendered(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[dict[str, Any]]], answering: bool = True
) -> list[str]:
    """Chats as the chat template writes them; ``answering``: up to where the next answer begins.

    Raises ``UserError`` where the template refuses a chat, or leaves out its last message.
    """
    written = _written(tokenizer, chats, answering)
    if _lost(chats, written):
        parts = [[each | {"content": [{"type": "text", "text": each["content"]}]} for each in chat] for chat in chats]
        written = _written(tokenizer, parts, answering)
        if any(str(chat[-1]["content"]) in text for chat, text in zip(parts, written, strict=True)):
            written = [""] * len(chats)  # it took the parts for a text
    if _lost(chats, written):
        raise UserError(
            "The chat template of this policy leaves out what it is asked, or changes it: fetch the policy with "
            "chat=drop, or give it another template."
        )
    return written


def _written(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Sequence[dict[str, Any]]], answering: bool
) -> list[str]:
    try:
        return list(
            tokenizer.apply_chat_template(
                [list(chat) for chat in chats], tokenize=False, add_generation_prompt=answering
            )
        )
    except Exception as error:  # a template is a program of the policy's maker, and raises what it likes
        said = " ".join(str(error).split())[:160]
        raise UserError(
            f"The chat template of this policy cannot write what it is asked ({said}): fetch the policy with "
            "chat=drop, or give it another template."
        ) from None


def _lost(chats: Sequence[Sequence[dict[str, Any]]], written: Sequence[str]) -> bool:
    """Whether the last message of a chat is not in what is written, but for white space."""
    return any(
        chat[-1]["content"] not in text and "".join(chat[-1]["content"].split()) not in "".join(text.split())
        for chat, text in zip(chats, written, strict=True)
    )


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that the tokenizer puts before any text, such as ``<bos>``."""
    whole, bare = (tokenizer(ANY, add_special_tokens=special)["input_ids"] for special in (True, False))
    place = next((n for n in range(len(whole)) if bare and whole[n : n + len(bare)] == bare), 0)
    return list(whole[:place])


def as_data(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A text in which no control token is spelt without a cut."""
    control = _control(tokenizer, str(tokenizer.chat_template), len(tokenizer))
    while control is not None and control.search(text):
        text = control.sub(lambda found: found[0][:1] + CUT + found[0][1:], text)
    return text


@lru_cache(maxsize=8)
def _control(tokenizer: PreTrainedTokenizerBase, template: str, _: int) -> re.Pattern[str] | None:
    """What spells a control token: a special one, or one that the chat template writes."""
    added = {str(token): token.special or str(token) in template for token in tokenizer.added_tokens_decoder.values()}
    spelt = {*tokenizer.all_special_tokens, *(token for token, controls in added.items() if controls)}
    longest_first = sorted((token for token in spelt if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def tokens_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts, each cut where it is marked, without what the tokenizer would put around them."""
    pieces = [text.split(CUT) for text in texts]
    encoded = tokenizer([piece for row in pieces for piece in row], add_special_tokens=False)["input_ids"]
    rows = iter(encoded)
    return [[token for _ in row for token in next(rows)] for row in pieces]
