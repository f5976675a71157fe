"""What counts as good: one contract for all verifiers, the stages that ask them, and the audit of what they say.

A verifier is called with a batch of rollouts and their tasks, row by row, and with a context. It gives three columns, a
row each: ``ok`` (bool, null where it has no opinion), ``score`` (a number) and ``reason`` (text).
"""

from selfloop.verify.contract import Context, Judged, Verifier
from selfloop.verify.verify import (
    VerifiedRollouts,
    VerifyParams,
    judge,
    judge_rollouts,
    verdict_batches,
    verified_by,
    verify_rollouts,
)

__all__ = [
    "Context",
    "Judged",
    "VerifiedRollouts",
    "Verifier",
    "VerifyParams",
    "judge",
    "judge_rollouts",
    "verdict_batches",
    "verified_by",
    "verify_rollouts",
]
