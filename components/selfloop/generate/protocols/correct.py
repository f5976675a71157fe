"""``correct``: the policy answers, is told to look again, and writes the whole answer anew.

The text is ``answer, follow-up, answer, ...``; the last answer counts (``records.final_text``). A turn that was cut at
its limit ends the attempt.
"""

from __future__ import annotations

from pydantic import Field

from selfloop.generate.protocols import Ask, Protocol, Steps, Wrote
from selfloop.records import Task

FOLLOW_UP = "\nThere may be a mistake above. Look at it again and write the whole answer anew.\n"


class Correct(Protocol):
    """Self-correction: the policy answers, is told to look again, and writes the whole answer anew (SCoRe).

    After Kumar et al., arXiv:2409.12917.
    """

    name = "correct"
    turns: int = Field(4, ge=1, description="Answers at most.")
    follow_up: str = Field(FOLLOW_UP, description="What the policy is told before it writes once more.")

    def __call__(self, task: Task) -> Steps:
        """Ask ``turns`` times."""
        wrote: Wrote = yield Ask()
        for _ in range(self.turns - 1):
            if not wrote.finished:
                return
            wrote = yield Ask(self.follow_up, as_message=True)
