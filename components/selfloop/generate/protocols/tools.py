"""Tool use: the policy writes a call between marks, ``<calc>6*7</calc>``, reads ``<result>42</result>`` and goes on.

The text holds calls and results in their order; what stands behind the last result counts (``records.final_text``).
"""

from selfloop.generate.protocols import Ask, Call, Rules, Steps, Wrote
from selfloop.records import TOOL


def protocol(rules: Rules) -> Steps:
    """Ask, and answer calls, until a turn ends without one or ``turns`` are over."""
    marks = tuple(f"</{tool}>" for tool in rules.tools)
    wrote: Wrote = yield Ask(marks=marks)
    for _ in range(rules.turns - 1):
        call = called(wrote.text, rules.tools)
        if call is None:
            return
        answer: str = yield call
        wrote = yield Ask(f"<result>{answer}</result>", marks=marks, told_by=TOOL)


def called(text: str, tools: tuple[str, ...]) -> Call | None:
    """The call that a text ends with: what stands between the last opening mark of a tool and its closing one."""
    for tool in tools:
        if text.endswith(f"</{tool}>"):
            return Call(tool, text.removesuffix(f"</{tool}>").rpartition(f"<{tool}>")[2])
    return None
