"""Agent0 on chains: a proposer that was shown easy tasks, and an executor whose errors scatter (arXiv:2511.16043).

    selfloop claim selfloop_recipes.claims.agent0_chains:recipe --tuning

The design in which it can be true or false that a proposer which learns takes its executor further, beside that of
``agent0``, whose executor meets a cliff behind its base data and whose frozen proposer has the frontier already. Here
pass rates fall step by step, wrong answers scatter over 97 values, so that a majority of votes is seldom wrong, and the
proposer was shown one and two steps alone.

``band`` is the share of proposals that lie in the band, which is how a proposer should help; ``reached`` the most steps
up to which the executor solves every second chain, 0 where it solves fewer of one step; ``level`` the mean steps of the
last round's proposals; ``follows`` the correlation between the executor's accuracy on held-out items in a round and the
mean steps that are proposed in the next; ``precision`` how much of what the pseudo-labels call right is right; ``new``
the share of its texts that are tasks, and new ones. Where ``band`` is higher and ``reached`` is not, what is proposed
is not what holds the executor back.

Nothing of it was measured yet, nor planned: it takes two tuning runs of each arm to say what can be decided.
What a tool is worth cannot be said here: a call has more tokens than a step, so that steps and operations stand no
longer in line.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import nan
from statistics import StatisticsError, correlation, fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Recipe

from selfloop_recipes.agent0 import Agent0, State, improve, start
from selfloop_recipes.claims.agent0 import CHAINS, SHARE, control, forms
from selfloop_recipes.claims.agent0 import figures as of_agent0
from selfloop_recipes.claims.sec_staircase import reached

SOLVED = 0.5
STEPS = (0, 12)
claims = Claims(
    arms={
        "agent0": {},
        "frozen proposer": control,
        "adversary": {"form": "adversary"},
        "zero-sum": {"form": "adversary", "challenge": {"reward": {"quality": 0.0}}},
    },
    settings=CHAINS | {"rounds": 6, "gate": {"require": "nothing", "guards": []}},
    tuning=(1, 2),
    seeds=tuple(range(81, 91)),
    statements=(
        Statement("More of what it proposes lies in the band.", "band", "agent0", ("frozen proposer",), bounds=SHARE),
        Statement("What it proposes is harder.", "level", "agent0", ("frozen proposer",)),
        Statement("It takes the executor further.", "reached", "agent0", ("frozen proposer",), bounds=STEPS),
        Statement(
            "What is proposed follows what the executor can do.",
            "follows",
            "agent0",
            within=(0.0, 1.0),
            missing=0.0,
            bounds=(-1.0, 1.0),
        ),
        Statement(
            "A proposer that plays against it does, too.", "reached", "adversary", ("frozen proposer",), bounds=STEPS
        ),
        Statement(
            "In a game of zero sum less of what it writes is a task.",
            "new",
            "zero-sum",
            ("adversary",),
            "lower",
            bounds=SHARE,
        ),
        Statement("Most pseudo-labels are right.", "precision", "agent0", within=(0.7, 1.0), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to, from its rounds and from the executor's accuracy at the end, by level."""
    bands = [band["kept"] / band["tasks"] for round in rounds if (band := round["band"])["tasks"]]
    of_all = of_agent0(s, rounds, measured)
    return {
        "band": fmean(bands) if bands else nan,
        "new": fmean(round["band"].get("tasks", 0) / s.learn.number for round in rounds),
        "reached": reached({int(level): value for level, value in measured["accuracy"].items()}, SOLVED),
        "follows": follows(rounds),
        **{name: of_all[name] for name in ("level", "precision")},
    }


def follows(rounds: Sequence[Mapping[str, Any]]) -> float:
    """The correlation of a round's accuracy with the next one's mean level; none where one of them does not change."""
    pairs = [
        (fmean(before["accuracy"]["candidate"].values()), after["band"]["mean_level"])
        for before, after in pairwise(rounds)
        if after["band"]["tasks"]
    ]
    try:
        return correlation(*zip(*pairs, strict=True)) if len(pairs) > 1 else nan
    except StatisticsError:  # one of them is constant
        return nan


recipe = Recipe(
    "agent0-chains",
    Agent0,
    State,
    start,
    improve,
    forms=forms,
    figures=figures,
    claims=claims,
    paper="arXiv:2511.16043",
)
