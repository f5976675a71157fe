"""SEC: steps to the hardest arm, levels beyond the arms, and where the mass goes (arXiv:2505.14970).

``steps`` is when a candidate first has ``reached`` on the hardest arm, in steps; ``beyond`` the accuracy on levels that
are no arms; ``moved`` by how much the mean level that is drawn rises from the first quarter of the draws to the last.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement

ROUNDS, STEPS = 6, 40
OTHERS = ("uniform", "ordered", "reverse")


CURRICULA = {
    "bandit": "bandit,tau=0.5",
    "uniform": "uniform",
    "ordered": f"ordered,horizon={ROUNDS * STEPS}",
    "reverse": f"reverse,horizon={ROUNDS * STEPS}",
}
control = {"reinforce": {"curriculum": "uniform"}}
claims = Claims(
    arms={name: {"reinforce": {"curriculum": spelt}} for name, spelt in CURRICULA.items()},
    settings={
        "rounds": ROUNDS,
        "gate": {"require": "nothing", "guards": []},  # the paper has no gate
        "schedule": {"patience": 100},
    },
    setups={
        "addition": {
            "environment": "addition",
            "draw": {"levels": [2, 3, 4]},  # of the hundred sums of level 1 most are held-out items of a round
            "reached": 0.8,
            "pretrain": {"steps": 300, "decay_steps": 75},
            "measure": {"levels": [4, 5]},
        },
        "countdown": {"reached": 0.2},
    },
    tuning=(1, 2),
    seeds=tuple(range(31, 41)),
    statements=(
        Statement(
            "A bandit over levels comes to the hardest arm in fewer steps than other orders do.",
            "steps",
            "bandit",
            OTHERS,
            better="lower",
            missing=(ROUNDS + 1) * STEPS,
            bounds=(STEPS, (ROUNDS + 1) * STEPS),
        ),
        Statement(
            "It is more accurate beyond the levels that it trained on.", "beyond", "bandit", OTHERS, bounds=(0, 1)
        ),
        Statement(
            "What it draws moves from easy levels to hard ones.", "moved", "bandit", ("uniform",), bounds=(-2, 2)
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to, from its history and its accuracy at the end, by level."""
    accuracy, levels, target, steps = measured["accuracy"], s.draw.levels, s.reached, s.reinforce.steps
    masses = [point["mass"] for round in rounds for point in round["state"]["training"]["curriculum"]["course"]]
    drawn = [sum(int(level) * share for level, share in mass.items()) for mass in masses]
    quarter, hardest = max(1, len(drawn) // 4), str(max(levels))
    reached = [round["round"] * steps for round in rounds if round["accuracy"]["candidate"].get(hardest, 0) >= target]
    beyond = [value for level, value in accuracy.items() if int(level) not in levels]
    return {
        "hardest": accuracy.get(hardest, nan),
        "beyond": fmean(beyond) if beyond else nan,
        "steps": reached[0] if reached else nan,
        "moved": fmean(drawn[-quarter:]) - fmean(drawn[:quarter]) if drawn else nan,
    }
