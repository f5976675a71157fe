"""Tools that a policy may call: from text to text, one file each.

A tool's name is also its mark: ``<calc>1+1</calc>``. What goes wrong is an answer too (``error: ...``), for the policy
to read; a tool that raises ends the stage. Tools answer in threads, unless they say ``at_once = True``: such a tool
takes next to no time, and which attempts are decoded beside one another does not depend on how long it took.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from selfloop.strategies import Strategy


class Tool(Strategy):
    """What a policy may call in the middle of an attempt, with a text, and reads the answer of.

    One that answers ``at_once`` is called where it is wanted, and not in a thread.
    """

    kind = "tool"
    package = __name__
    at_once: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, argument: str) -> str:
        """The answer."""
