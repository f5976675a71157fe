"""``cost``: what the loop has spent, by stage and by round, and for a point of accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selfloop.costs import Spent, per_point, quantity, spent, spent_in
from selfloop.report.sections import RunHistory, Templated


class Cost(Templated):
    """What the loop has spent: tokens drawn and trained on, hours, and money where prices are known."""

    name = "cost"
    title = "Cost"
    heading = "What it cost"

    def values(self, run: RunHistory) -> Mapping[str, Any] | None:
        """The sums by stage and by round."""
        return costs(run.moments)

    @classmethod
    def filters(cls) -> tuple[Callable[..., Any], ...]:
        """How money reads."""
        return (money,)


def money(amount: float) -> str:
    """An amount in USD."""
    return quantity("usd", amount).removesuffix(" USD")


def costs(moments: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What some rounds came to: by stage, by round, for a point of accuracy, and why the loop ended; none of rounds of
    which nothing is known.
    """
    total = spent_in(moments)
    if not total.seconds:
        return None
    calls: dict[str, list[Mapping[str, Any]]] = {}
    for entry in (entry for moment in moments for entry in moment["stages"]):
        calls.setdefault(entry["stage"], []).append(entry)
    return {
        "total": total,
        "by_stage": {stage: spent(entries) for stage, entries in calls.items()},
        "by_round": rows(moments),
        "point": [quantity(name, amount) for name, amount in per_point(moments).items()],
        "over": moments[-1].get("ends", ""),
    }


def rows(moments: Sequence[Mapping[str, Any]]) -> dict[str, Spent]:
    """What each round came to; the first are the start, and the rounds before those that are kept one by one."""
    first, *later = moments
    before = f"start to {later[0]['round'] - 1}" if later and later[0]["round"] > 1 else "start"
    return {before: spent_in([first]), **{str(each["round"]): spent_in([each]) for each in later}}
