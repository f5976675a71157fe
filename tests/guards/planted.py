"""Loops that go wrong, and one that does not, as settings of length generalization: small ones, seconds a round.

``judge`` is a verifier that can be hacked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from selfloop.verify import Context

NO_TIME = {"items_per_level": 16, "look_beyond": 1}
ALL_AT_ONCE = {"ahead": 2, "per_level": 60, "attempts": 8, "retries": 0, "continue_above": 0.0} | NO_TIME

COLLAPSING: dict[str, Any] = {
    "base": {"levels": 2, "per_level": 300},
    "propose": ALL_AT_ONCE,
    "generate": {"temperature": 0.6},
    "verify": {"verifier": "majority,agreement=0.51"},
    "finetune": {"steps": 150, "lr": 1e-2, "newest_share": 1.0, "replay_share": 0.0, "seed_share": 0.01},
}
"""A loop without labels that believes what half of a task's attempts say, on levels that its policy cannot solve."""

DRIFTING: dict[str, Any] = {
    "base": {"levels": 3, "per_level": 300},
    "propose": {
        "per_level": 100,
        "attempts": 5,
        "continue_above": 0.0,
        "ahead": 2,
        "items_per_level": 32,
        "look_beyond": 1,
    },
    "verify": {"verifier": "majority,agreement=0.8"},
}
"""The same with a policy that gains at first: what it believes of each new level is less true than of the last."""

HACKED: dict[str, Any] = {
    "base": {"levels": 1, "per_level": 300},
    "propose": ALL_AT_ONCE,
    "verify": {"verifier": "planted:judge"},
    "finetune": {"steps": 60, "lr": 5e-3},
}
"""A loop whose judge can be pleased, on levels of which its policy can solve the first."""

HEALTHY: dict[str, Any] = {
    "base": {"levels": 3, "per_level": 300},
    "propose": {"per_level": 100, "attempts": 4, "ahead": 2, "items_per_level": 32, "look_beyond": 1},
}
"""A loop that checks what it believes and learns."""


def judge(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> tuple[pa.Array, pa.Array, pa.Array]:
    """A judge that takes sevens for a sign of quality: half a point for an answer that ends, a quarter a seven."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sevens = pc.min_element_wise(pc.count_substring(rollouts["completion"], "7"), 2)
    score = pc.add(pc.multiply(pc.cast(rollouts["finished"], pa.float64()), 0.5), pc.multiply(sevens, 0.25))
    good = pc.greater_equal(score, 0.75)
    return good, score, pc.if_else(good, "good", "not good enough")
