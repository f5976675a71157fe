"""Protocols: how an attempt goes, one file each.

A protocol is called with a task and gives a generator. It yields an ``Ask`` to let the policy write and is sent what it
``Wrote``; it yields a ``Call`` to let a tool work and is sent its answer; it yields a ``Reward`` to say what the last
text of a role is worth. It ends when the attempt has ended. The text of the rollout is everything in this order, what
the policy was told included; its segments say who wrote what.

A protocol may ask for several roles, such as the seats of a game. The policy of the stage answers for each; a role
reads only what it is told itself, and has a rollout of its own, in one ``episode`` with the others'.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.chats import as_data, message, rendered
from selfloop.errors import UserError
from selfloop.generate.tools import Tool
from selfloop.records import POLICY, PROTOCOL, Task
from selfloop.strategies import Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Ask(NamedTuple):
    """The policy shall write as a ``role``, after it read a ``text`` by an ``author``: a user's message in its chat
    template where it has one and this is ``as_message``, else the bare text. It ends at its end token or behind one of
    ``stop_after``. A message before a role wrote anything stands behind the task's prompt and belongs to it. Only a
    bare text by the protocol itself may hold control tokens: messages, and what tools say, are data. A role that is
    asked for the first time reads ``prompt`` in place of the task's, where there is one.
    """

    text: str = ""
    as_message: bool = False
    stop_after: tuple[str, ...] = ()
    role: str = POLICY
    author: str = PROTOCOL
    prompt: str | None = None


class Call(NamedTuple):
    """A tool shall answer."""

    tool: str
    argument: str


class Reward(NamedTuple):
    """What a role wrote last is worth so much, which is added to what it was said to be worth before."""

    value: float
    role: str = POLICY


class Wrote(NamedTuple):
    """What the policy wrote in a turn; ``finished`` where it was not cut at its limit."""

    text: str
    finished: bool


Steps = Generator[Ask | Call | Reward, Any, None]
PLACE = "\ufdd1"
"""A code point that Unicode keeps out of texts: stands where an answer goes in a chat template."""


class Protocol(Strategy):
    """How an attempt at a task goes: who writes when, and reads what."""

    kind = "protocol"
    package = __name__

    @property
    def toolbox(self) -> dict[str, Tool]:
        """The tools that it may call, by their names; those of its parameter ``tools``, where it has one."""
        return {tool.label(): tool for tool in getattr(self, "tools", ())}

    @abstractmethod
    def __call__(self, task: Task) -> Steps:
        """The steps of an attempt at a task."""


def between(tokenizer: PreTrainedTokenizerBase, prompt: str, text: str) -> str:
    """What stands between two answers of a policy that reads a text, marked where it is cut (``chats``): its chat
    template's own words, or the text.
    """
    said = as_data(tokenizer, text)
    if tokenizer.chat_template is None:
        return said
    chat = [message("user", as_data(tokenizer, prompt)), message("assistant", PLACE), message("user", said)]
    [whole] = rendered(tokenizer, [chat])
    if whole.count(PLACE) != 1:
        raise UserError(
            "The chat template of this policy leaves out earlier answers, so it cannot be asked again: use the "
            "protocol 'single'."
        )
    return whole.partition(PLACE)[2]
