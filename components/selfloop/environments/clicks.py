"""Clicks: ``qduta|abcde|qduta+query=``, what a shopper who looks for ``qduta`` does next on a page, ``cqduta``.

A page has buttons behind ``|``, and perhaps a field to search with behind ``+``. The shopper clicks (``c``) what he
looks for where there is a button of that name; else he types it (``t``, the field, ``:`` and the text) where there is a
field; else he leaves (``x``). Levels are these three, by how much is to be said: 1 leaves, 2 clicks, 3 types.

The score is the reward of Zhang et al., "Shop-R1" (arXiv:2507.17842), which rises from level to level of detail, over
the most that there is: .5 for an action, .3 more for the right one, .2 for its attributes, and 1,000 times as much as
each of these for a text like the right one, so that leaving, which has no text, is not what pays best. ``clicks:1``
counts a text once, ``clicks:binary`` nothing but what is right in all. Their shoppers were people, whose sessions are
not to be had; this one follows a rule. Their reward for a rationale, its self-certainty, is left out: there is none.
"""

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from string import ascii_lowercase
from typing import NamedTuple

from selfloop.environments import Environment, Grade, distinct
from selfloop.errors import UserError
from selfloop.records import Task

LEAVES, CLICKS, TYPES = 1, 2, 3
LETTERS = 5
"""Letters of a name."""
FORMAT, TYPE, ATTRIBUTES, NAME = 0.5, 0.3, 0.2, 0.1
"""What an action is worth that can be read, that is of the right type, that has its attributes, and what a field's name
is, times how like it is to the right one.
"""
ALIKE = 0.75
"""How like a text must be to count."""
SCALE = 1000.0
ACTION = re.compile(r"x|c([a-z]+)|t([a-z]+):([a-z]+)")


class Action(NamedTuple):
    """What is done (``x``, ``c`` or ``t``), in which field, and the text that is clicked or typed."""

    type: str
    field: str = ""
    text: str = ""


class Clicks(Environment):
    """What a shopper does next."""

    name = "clicks"
    summary = "what a shopper does next on a page: 1 leaves, 2 clicks, 3 types; the score rises with each detail"
    levels = range(LEAVES, TYPES + 1)
    alphabet = ascii_lowercase + "|+=:"

    def __init__(self, member: str = "") -> None:
        if member not in ("", "binary") and not member.isdecimal():
            raise UserError(
                f"'clicks:{member}' is no scale: write clicks, clicks:binary, or a number such as clicks:1."
            )
        self._scale = None if member == "binary" else float(member or SCALE)

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Pages of a level, no prompt twice."""
        drawn = distinct(_pages(level, random.Random(seed)), count)
        return [
            Task(f"clicks-{level}-{seed:x}-{number}", level, "", prompt, answer, max_tokens=2 * LETTERS + 3)
            for number, (prompt, answer) in enumerate(drawn)
        ]

    def check(self, task: Task, completion: str) -> Grade:
        """Right is the whole action; the score is that of its details."""
        ok = completion == task.answer
        if self._scale is None:
            score = float(ok)
        else:
            best = FORMAT + TYPE + ATTRIBUTES + NAME + self._scale
            score = worth(parsed(completion), parsed(task.answer), self._scale) / best
        return Grade(ok, score, "correct" if ok else "another action" if parsed(completion) else "no action")


def parsed(text: str) -> Action | None:
    """The action that a text is; none where it is none."""
    found = ACTION.fullmatch(text)
    if found is None:
        return None
    return Action(text[0], found[2] or "", found[1] or found[3] or "")


def worth(done: Action | None, right: Action | None, scale: float) -> float:
    """The reward of an action beside the right one; 0 where it is none."""
    if done is None:
        return 0.0
    if right is None or done.type != right.type:
        return FORMAT
    if done.type == "x":
        return FORMAT + TYPE
    named, alike = rouge(done.field, right.field), rouge(done.text, right.text)
    return FORMAT + TYPE + ATTRIBUTES + NAME * named * (named > ALIKE) + scale * alike * (alike > ALIKE)


@lru_cache(maxsize=10_000)
def rouge(text: str, right: str) -> float:
    """ROUGE-L of letters: 2 l / (n + m), with l the length of the longest common subsequence of n and m letters."""
    row = [0] * (len(right) + 1)
    for letter in text:
        before = row
        row = [0]
        for place, other in enumerate(right):
            row.append(before[place] + 1 if letter == other else max(before[place + 1], row[place]))
    return 2 * row[-1] / (len(text) + len(right)) if text or right else 0.0


def _pages(level: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Prompts and answers, without end. Raises ``UserError`` for a level that there is not."""
    if level not in Clicks.levels:
        raise UserError(f"clicks has levels {LEAVES} to {TYPES}, not {level}.")
    while True:
        wanted, field, *buttons = ("".join(rng.choices(ascii_lowercase, k=LETTERS)) for _ in range(rng.randint(3, 4)))
        if len({wanted, field, *buttons}) < 2 + len(buttons):
            continue
        if level == CLICKS:
            buttons.insert(rng.randrange(len(buttons) + 1), wanted)
        has_field = level == TYPES or (level == CLICKS and rng.random() < 0.5)
        page = "".join(f"|{button}" for button in buttons) + f"+{field}" * has_field
        yield f"{wanted}{page}=", {LEAVES: "x", CLICKS: f"c{wanted}", TYPES: f"t{field}:{wanted}"}[level]


environment = Clicks
