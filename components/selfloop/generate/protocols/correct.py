"""Self-correction in k turns: the policy answers, is told to look again, and writes the whole answer anew.

The text is ``answer, follow-up, answer, ...``; the last answer counts (``records.final_text``). A turn that was cut at
its limit ends the attempt. After SCoRe (Kumar et al., arXiv:2409.12917).
"""

from selfloop.generate.protocols import Ask, Rules, Steps, Wrote


def protocol(rules: Rules) -> Steps:
    """Ask ``turns`` times."""
    wrote: Wrote = yield Ask()
    for _ in range(rules.turns - 1):
        if not wrote.finished:
            return
        wrote = yield Ask(rules.follow_up, as_message=True)
