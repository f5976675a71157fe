"""Tasks of a policy's own, learnt by imitation and by reward in turn: what either does alone, in as many steps.

``gained`` is what the last candidate is better on held-out items than the policy that the loop began with, ``level``
the mean level of what it proposed last.
"""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from selfloop.claims import Claims, Statement

from selfloop_recipes.claims import gained

GAIN = (-1.0, 1.0)
claims = Claims(
    arms={
        "both": {},
        "imitation": {"learns": "by imitation", "finetune": {"steps": 80}},
        "reward": {"learns": "by reward", "reinforce": {"steps": 80}},
        "any task": {"band": {"min_rate": 0.0, "max_rate": 1.0}},
    },
    settings={"rounds": 5, "gate": {"require": "nothing", "guards": []}},
    tuning=(1, 2),
    seeds=tuple(range(131, 141)),
    statements=(
        Statement("It gets better on tasks of its own.", "gained", "both", within=(0.02, 1.0), bounds=GAIN),
        Statement("In turn is better than by imitation alone.", "gained", "both", ("imitation",), bounds=GAIN),
        Statement("It is better than by reward alone.", "gained", "both", ("reward",), bounds=GAIN),
        Statement(
            "Tasks that it half solves teach more than all of them.", "gained", "both", ("any task",), bounds=GAIN
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    levels = [round["band"]["mean_level"] for round in rounds if round["band"]["tasks"]]
    return {"gained": gained(rounds), "level": levels[-1] if levels else nan}
