"""Agent0: a proposer that follows its solver, and what tools are for (arXiv:2511.16043).

``rate`` is the mean vote rate of all proposals, before any band; ``harder`` how much the mean level of the proposals
rose from the first round to the last; ``beyond`` the executor's accuracy on levels and problems that no proposal of the
base data has; ``precision`` how many of the pseudo-labels that were trained on are true.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement

claims = Claims(
    arms={
        "agent0": {},
        "frozen proposer": {"proposer": "frozen"},
        "no tool": {"environment": "arithmetic:plain", "protocol": "single"},
        "rotten labels": {"band": {"min_rate": 0.0, "max_rate": 0.4}, "gate": {"guards": ["precision"]}},
    },
    settings={
        "rounds": 3,
        "base": {"levels": 5, "per_level": 3000, "proposals": 1000},
        "pretrain": {
            "hidden_size": 64,
            "intermediate_size": 256,
            "layers": 2,
            "steps": 450,
            "decay_steps": 112,
            "lr": 4e-3,
        },
        "draw": {"levels": [3, 4, 5], "old_levels": [1, 2], "items_per_level": 60},
        "gate": {"require": "nothing", "guards": []},
        "measure": {"levels": [6, 7]},
    },
    tuning=(1, 2),
    seeds=(11, 12, 13, 14, 15),
    statements=(
        Statement("The solver is of two minds about what is proposed.", "rate", "agent0", within=(0.35, 0.65)),
        Statement("What is proposed grows harder.", "harder", "agent0", ("frozen proposer",)),
        Statement("A proposer that learns takes the executor further.", "beyond", "agent0", ("frozen proposer",)),
        Statement("On tasks of several operations a tool takes it further.", "beyond", "agent0", ("no tool",)),
        Statement("A run whose pseudo-labels rot is halted.", "halted", "rotten labels", within=(0.5, 1.5)),
    ),
)


def measured(rounds: Sequence[Mapping[str, Any]], accuracy: Mapping[str, float]) -> dict[str, float]:
    """What a run came to, from its history and its accuracy at the end, by level; of rounds in which was proposed."""
    rounds = [told for told in rounds if told["band"]["tasks"]]
    levels = [mean_level(told["band"]["levels"]) for told in rounds]
    rates = [told["band"]["mean_rate"] for told in rounds]
    precise = [told["audit"]["precision"] for told in rounds if told["audit"]["precision"] is not None]
    return {
        "beyond": fmean(accuracy.values()),
        "rate": fmean(rates) if rates else nan,
        "harder": levels[-1] - levels[0] if levels else nan,
        "precision": fmean(precise) if precise else nan,
    }


def mean_level(levels: Mapping[str, Mapping[str, float]]) -> float:
    """The mean level of what was proposed."""
    tasks = sum(each["tasks"] for each in levels.values())
    return sum(int(level) * each["tasks"] for level, each in levels.items()) / tasks
