"""Protocols: how an attempt goes, one file each, found by name or as ``module:function``.

A protocol is a generator function of its ``Rules``. It yields an ``Ask`` to let the policy write and is sent what it
``Wrote``; it yields a ``Call`` to let a tool work and is sent its answer. It ends when the attempt has ended. The text
of the rollout is everything in this order, what the policy was told included; ``observed`` marks what others wrote.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Generator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.errors import UserError
from selfloop.lookup import imported, unknown

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase


class Rules(NamedTuple):
    """What a protocol goes by: turns at most, what a policy is told that shall try again, the tools that there are."""

    turns: int
    follow_up: str
    tools: tuple[str, ...]


class Ask(NamedTuple):
    """The policy shall write, after it was ``told`` a text: a user's message in its chat template where it has one and
    this is ``as_message``, else the bare text. It ends at its end token or at one of ``marks``, which stays.
    """

    told: str = ""
    as_message: bool = False
    marks: tuple[str, ...] = ()


class Call(NamedTuple):
    """A tool shall answer."""

    tool: str
    argument: str


class Wrote(NamedTuple):
    """What the policy wrote in a turn; ``finished`` where it was not cut at its limit."""

    text: str
    finished: bool


Steps = Generator[Ask | Call, Any, None]
Protocol = Callable[[Rules], Steps]
PLACE = "\ue000"
"""A character for private use: stands where an answer goes in a chat template."""


@cache
def protocols() -> dict[str, Protocol]:
    """Every protocol that comes with selfloop, by name."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    return {module.__name__.rpartition(".")[2]: module.protocol for module in modules}


def find_protocol(name: str) -> Protocol:
    """The protocol of this name. Raises ``UserError`` with the nearest name where there is none."""
    if ":" in name:
        found: Protocol = imported("protocol", name)
        return found
    known = protocols()
    if name not in known:
        raise unknown("protocol", name, known)
    return known[name]


def between(tokenizer: PreTrainedTokenizerBase, prompt: str, told: str) -> str:
    """What stands between two answers of a policy that is told a text: its chat template's own words, or the text."""
    if tokenizer.chat_template is None:
        return told
    chat = [("user", prompt), ("assistant", PLACE), ("user", told)]
    messages = [{"role": role, "content": content} for role, content in chat]
    whole: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    if whole.count(PLACE) != 1:
        raise UserError(
            "The chat template of this policy leaves out earlier answers, so it cannot be asked again: use the "
            "protocol 'single'."
        )
    return whole.partition(PLACE)[2]


def final(completion: str, observed: str) -> str:
    """The text that counts: what the policy wrote behind the last thing that it was told."""
    ranges = json.loads(observed)
    return completion[ranges[-1][1] :] if ranges else completion


def counted(rollouts: pa.RecordBatch) -> pa.RecordBatch:
    """Rollouts with the text that counts in place of their completion, as whoever judges them reads them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.equal(rollouts["observed"], "[]")).as_py() is not False:
        return rollouts
    pairs = zip(rollouts["completion"].to_pylist(), rollouts["observed"].to_pylist(), strict=True)
    texts = pa.array([final(completion, observed) for completion, observed in pairs], pa.string())
    return rollouts.set_column(
        rollouts.schema.get_field_index("completion"), rollouts.schema.field("completion"), texts
    )
