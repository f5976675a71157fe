"""Self-improving transformers: what their own answers are good for (arXiv:2502.01612)."""

from collections.abc import Mapping, Sequence
from typing import Any

from selfloop.claims import Claims, Statement

control = {"filter": {"select": ["nothing"]}}
claims = Claims(
    arms={"loop": {}, "without own answers": control},
    tuning=(10, 11, 12, 13, 14),
    seeds=tuple(range(10)),
    statements=(
        Statement(
            "Its own checked answers teach a model longer problems than the same steps without them do.",
            "solved",
            "loop",
            ("without own answers",),
            margin=1,
            missing=0,  # said after the runs, of which a guard halted one: the worst that there is
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, int]:
    """The highest level up to which every one is solved."""
    return {"solved": measured["solved"]}
