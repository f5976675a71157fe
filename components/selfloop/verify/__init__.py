"""What counts as good: one contract for all verifiers, the stages that ask them, and the audit of what they say.

A verifier is a function ``(rollouts, tasks, context)`` of a batch of rollouts and of their tasks, row by row. It gives
three columns, a row each: ``ok`` (bool, null where it has no opinion), ``score`` (a number) and ``reason`` (text).
"""

from selfloop.verify.contract import Context, Judged, Verifier, asks_policy
from selfloop.verify.verifiers import VERIFIERS, askers, find_verifier
from selfloop.verify.verify import VerifiedRollouts, VerifyParams, judge, judge_rollouts, judged, verify_rollouts

__all__ = [
    "VERIFIERS",
    "Context",
    "Judged",
    "VerifiedRollouts",
    "Verifier",
    "VerifyParams",
    "askers",
    "asks_policy",
    "find_verifier",
    "judge",
    "judge_rollouts",
    "judged",
    "verify_rollouts",
]
