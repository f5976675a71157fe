"""Agent0: a proposer that follows its solver, and what tools are for (arXiv:2511.16043).

``rate`` is the mean vote rate of all proposals, before any band; ``level`` their mean level in the last round, and
``harder`` how much it rose since the first; ``beyond`` the executor's accuracy on levels above those of the base data,
``several`` that on all levels from 3 on, which one call of the tool does not solve; ``precision`` how much of what the
pseudo-labels call right is right. The labels rot of a solver that knows three levels and votes at a temperature of 1.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement

control = {"proposer": "frozen"}
sure = {"generate": {"temperature": 1.0}, "challenge": {"vote_temperature": 1.0}, "base": {"levels": 3}}
claims = Claims(
    arms={
        "agent0": {"gate": {"guards": []}},
        "frozen proposer": control | {"gate": {"guards": []}},
        "no tool": {"environment": "arithmetic:plain", "protocol": "single", "gate": {"guards": []}},
        "sure of itself": sure | {"gate": {"guards": ["precision"]}},
    },
    settings={"gate": {"require": "nothing"}, "learn": {"number": 256}, "reinforce": {"steps": 30}},
    tuning=(1, 2),
    seeds=(21, 22, 23, 24, 25),
    statements=(
        Statement("The solver is of two minds about what is proposed.", "rate", "agent0", within=(0.35, 0.65)),
        Statement("What is proposed grows harder from round to round.", "harder", "agent0", within=(0.0, 12.0)),
        Statement("It is harder than what an untrained proposer writes.", "level", "agent0", ("frozen proposer",)),
        Statement("A proposer that learns takes the executor further.", "beyond", "agent0", ("frozen proposer",)),
        Statement("On tasks of several operations a tool takes it further.", "several", "agent0", ("no tool",)),
        Statement("Most of what its pseudo-labels call right is right.", "precision", "agent0", within=(0.5, 1.0)),
        Statement("The guard halts a run whose pseudo-labels rot.", "halted", "sure of itself", within=(0.5, 1.5)),
    ),
)


def measured(rounds: Sequence[Mapping[str, Any]], accuracy: Mapping[str, float], levels: int) -> dict[str, float]:
    """What a run came to, from its history and its accuracy at the end, by level; of rounds in which was proposed."""
    rounds = [told for told in rounds if told["band"]["tasks"]]
    proposed = [told["band"]["mean_level"] for told in rounds]
    beyond = [value for level, value in accuracy.items() if int(level) > levels]
    rates = [told["band"]["mean_rate"] for told in rounds]
    precise = [told["audit"]["precision"] for told in rounds if told["audit"]["precision"] is not None]
    return {
        "beyond": fmean(beyond) if beyond else nan,
        "several": fmean(accuracy.values()),
        "rate": fmean(rates) if rates else nan,
        "level": proposed[-1] if proposed else nan,
        "harder": proposed[-1] - proposed[0] if proposed else nan,
        "precision": fmean(precise) if precise else nan,
    }
