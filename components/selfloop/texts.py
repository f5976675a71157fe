"""Texts that programs, policies and others wrote, made harmless to show to a person."""

from __future__ import annotations

import re
import unicodedata

LONGEST_REASON = 80
LONGEST_WORD, LONGEST_SENTENCE = 400, 4000
UNWORDED = re.compile(r"[^\w .,;:'()+=%-]+")
"""What a reason does not hold: nothing that a terminal, Markdown, HTML or a table would take for its own."""


def plain(text: str) -> str:
    """A text in which no character moves a cursor, colours, hides or turns what stands around it."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return chr(0x2400 + ord(character)) if ord(character) < 0x20 else "\N{REPLACEMENT CHARACTER}"


def reason(text: str) -> str:
    """The words of a reason, on one line, of which there are few."""
    words = " ".join(UNWORDED.sub(" ", text).split())
    return words if len(words) <= LONGEST_REASON else f"{words[: LONGEST_REASON - 3]}..."


def bounded(sentence: str) -> str:
    """A sentence of bounded length, its words as well: what was typed may stand in it. The middle is left out, since a
    sentence begins with what is wrong and ends with the remedy.
    """
    words = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda found: _without_middle(found[0], LONGEST_WORD), sentence)
    return _without_middle(words, LONGEST_SENTENCE)


def _without_middle(text: str, most: int) -> str:
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"
