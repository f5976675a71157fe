"""``tools``: the policy writes a call between marks, ``<calc>6*7</calc>``, reads ``<result>42</result>`` and continues.

The text holds calls and results in their order; what stands behind the last result counts (``records.final_text``).
"""

from __future__ import annotations

from pydantic import Field

from selfloop.generate.protocols import Ask, Call, Protocol, Steps, Wrote
from selfloop.generate.tools import Tool
from selfloop.generate.tools.calc import Calc
from selfloop.records import TOOL, Task


class Tools(Protocol):
    """The policy calls tools: it writes a call between marks, reads the answer behind it and continues."""

    name = "tools"
    tools: list[Tool] = Field([Calc()], description="Those that it may call.")
    turns: int = Field(4, ge=1, description="Turns at most.")

    def __call__(self, task: Task) -> Steps:
        """Ask, and answer calls, until a turn ends without one or ``turns`` are over."""
        names = tuple(self.toolbox)
        ends = tuple(f"</{name}>" for name in names)
        wrote: Wrote = yield Ask(stop_after=ends)
        for _ in range(self.turns - 1):
            call = called(wrote.text, names)
            if call is None:
                return
            answer: str = yield call
            wrote = yield Ask(f"<result>{answer}</result>", stop_after=ends, author=TOOL)


def called(text: str, tools: tuple[str, ...]) -> Call | None:
    """The call that a text ends with: what stands between the last opening mark of a tool and its closing one."""
    for tool in tools:
        if text.endswith(f"</{tool}>"):
            return Call(tool, text.removesuffix(f"</{tool}>").rpartition(f"<{tool}>")[2])
    return None
