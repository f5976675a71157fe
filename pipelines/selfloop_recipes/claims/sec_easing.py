"""Sub-circuits first: sums of few places before sums of many.

After Odonnat et al., "Easing Optimization Paths: a Circuit Perspective".

    selfloop claim selfloop_recipes.claims.sec_easing:recipe --tuning

``hardest`` is the accuracy at the end on sums of all six places, ``whole`` that of all levels. The arms take as many
steps: in the order of the places, all levels alike, and the hardest alone. Nothing of it was measured yet, nor planned.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Recipe

from selfloop_recipes.sec import Sec, State, improve, start

ROUNDS, STEPS, LEVELS = 8, 50, [1, 2, 3, 4, 5, 6]
SHARE = (0.0, 1.0)
ARMS: dict[str, dict[str, Any]] = {
    "ordered": {"reinforce": {"curriculum": f"ordered,horizon={ROUNDS * STEPS}"}},
    "uniform": {"reinforce": {"curriculum": "uniform"}},
    "direct": {"reinforce": {"curriculum": "uniform"}, "draw": {"levels": LEVELS[-1:], "per_level": 6000}},
}
claims = Claims(
    arms=ARMS,
    settings={
        "environment": "sparse-sums",
        "rounds": ROUNDS,
        "base": {"levels": len(LEVELS), "per_level": 6000, "tail": 0.5},
        "pretrain": {"steps": 1000, "decay_steps": 250},
        "draw": {"levels": LEVELS, "per_level": 1000, "items_per_level": 50},
        "reinforce": {"steps": STEPS, "batch_size": 128, "max_tokens": 2},
        "gate": {"require": "nothing", "guards": []},
        "schedule": {"patience": 100},
        "measure": {"levels": LEVELS, "per_level": 500},
    },
    tuning=(1, 2),
    seeds=tuple(range(151, 161)),
    statements=(
        Statement("Parts first, the whole is found.", "hardest", "ordered", ("direct",), bounds=SHARE),
        Statement("Their order is what does it.", "hardest", "ordered", ("uniform",), bounds=SHARE),
        Statement("What comes last loses nothing of the first.", "whole", "ordered", ("direct",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to at the end."""
    accuracy = {int(level): value for level, value in measured["accuracy"].items()}
    return {"hardest": accuracy[LEVELS[-1]], "whole": fmean(accuracy.values())}


recipe = Recipe("sec-easing", Sec, State, start, improve, figures=figures, claims=claims)
