"""SEC on a staircase: twelve arms of chains, 2 to 24 steps, whose pass rates fall step by step (arXiv:2505.14970).

    selfloop claim selfloop_recipes.claims.sec_staircase:recipe --tuning

The design in which SEC's claim can be true or false, beside that of ``sec``, whose few near arms gave a null result. A
base that saw few long chains solves single ones with chances between 0 and 1, a frontier is several arms wide, and what
makes long chains right is what makes short ones right, so that it can carry beyond the arms.

``area`` is the accuracy of the candidates on the arms' held-out items, over all rounds; ``reached`` the most steps up
to which every measured level is solved four times of five, 0 where none is; ``beyond`` the accuracy at 32 steps, which
no arm has; ``informative`` the share of groups that had an advantage, which is how a curriculum should help. The oracle
knows the pass rates: where it has no more area than uniform, choosing levels is not worth anything here, and SEC is not
to blame. Where ``informative`` is higher and ``area`` is not, what is drawn is not what holds a policy back.

Nothing of it was measured yet, nor planned: it takes two tuning runs of each arm to say what can be decided. One base
was looked at, on seed 7: it solves .45, .21, .13 and .02 of the chains of 2, 4, 6 and 8 steps. Pass rates are graded,
over six arms at first, but no level is solved yet: where ``reached`` stays at 0 in tuning, give the base more steps.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Recipe

from selfloop_recipes.claims import informative
from selfloop_recipes.sec import STAIRCASE, Sec, State, improve, start

ROUNDS, STEPS = 10, 50
SOLVED, BEYOND = 0.8, 32
SHARE = (0.0, 1.0)
CURRICULA = {
    "bandit": "bandit,tau=0.2",
    "hot bandit": "bandit,tau=1.0",
    "uniform": "uniform",
    "ordered": f"ordered,horizon={ROUNDS * STEPS}",
    "reverse": f"reverse,horizon={ROUNDS * STEPS}",
    "oracle": "oracle,every=20",
    "weakness": "weakness",
    "weakest": "weakest",
    "cyclical": "cyclical",
    "reestimated": f"reestimated,horizon={ROUNDS * STEPS}",
}
claims = Claims(
    arms={name: {"reinforce": {"curriculum": spelt}} for name, spelt in CURRICULA.items()},
    settings=STAIRCASE
    | {"rounds": ROUNDS, "gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(71, 81)),
    statements=(
        Statement("Choosing levels by their pass rates pays here.", "area", "oracle", ("uniform",), bounds=SHARE),
        Statement("A bandit over levels pays.", "area", "bandit", ("uniform",), bounds=SHARE),
        Statement("From hard to easy is worse than any order.", "area", "reverse", ("uniform",), "lower", bounds=SHARE),
        Statement("It comes further than equal phases do.", "reached", "bandit", ("ordered",), bounds=(0, BEYOND)),
        Statement("It carries further beyond the arms.", "beyond", "bandit", ("uniform",), bounds=SHARE),
        Statement("More of its groups teach something.", "informative", "hot bandit", ("uniform",), bounds=SHARE),
        Statement("Drawing what is failed and stays so pays.", "area", "weakness", ("uniform",), bounds=SHARE),
        Statement("So does half for the weakest level.", "area", "weakest", ("uniform",), bounds=SHARE),
        Statement("Easy levels now and then pay.", "area", "cyclical", ("uniform",), bounds=SHARE),
        Statement("More than they do once and for all.", "area", "cyclical", ("ordered",), bounds=SHARE),
        Statement("Looking again how hard levels are pays.", "area", "reestimated", ("ordered",), bounds=SHARE),
        Statement("The colder the more of them do.", "informative", "bandit", ("hot bandit",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to, from its rounds and from its accuracy at the end, by level."""
    accuracy = {int(level): value for level, value in measured["accuracy"].items()}
    return {
        "area": fmean(fmean(round["accuracy"]["candidate"].values()) for round in rounds),
        "reached": reached(accuracy, SOLVED),
        "beyond": accuracy.get(BEYOND, nan),
        "informative": informative(rounds),
    }


def reached(accuracy: Mapping[int, float], solved: float) -> float:
    """The highest level up to which all that were measured are solved so often; 0 where the lowest is not."""
    highest = 0
    for level in sorted(accuracy):
        if accuracy[level] < solved:
            break
        highest = level
    return float(highest)


recipe = Recipe("sec-staircase", Sec, State, start, improve, paper="arXiv:2505.14970", figures=figures, claims=claims)
