"""Multi-Agent Evolve: what a judge comes to that nothing ties to the truth (arXiv:2510.23595).

``judged`` is the share of a candidate's judgements of its own attempts that is right in the last round, ``rotted`` how
much it fell since the first; ``gained`` is what the last candidate is better on held-out items than the policy that the
loop began with. The paper tells of no judge that rots, and rewards it for its form alone. In the arm ``exact`` the same
policy is trained as many steps on the environment's tasks by their answers, and nothing teaches it to judge.

Not ready to be measured: with the base as it is the judge begins at chance (one run, seed 1, first round: it believed
569 of 800 attempts, of which 30 % were right, as of all), so that it has nothing to lose.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

from selfloop_recipes.claims import gained
from selfloop_recipes.claims.self_rewarding import judged

CHANGE = (-1.0, 1.0)
EXACT = {
    "reinforce": {
        "curriculum": "in-turn",
        "protocol": "single",
        "reward": "verified",
        "algorithm": "grpo",
        "group_size": 8,
    }
}
UNFILTERED = {"reinforce": {"protocol": "multi-agent-evolve,quality=0"}}
NOBODY: Mapping[str, Any] = {"gate": {"guards": []}}
"""Watched by no guard, so that every round is taken."""
forms = {"unfiltered": Form("Every proposal is of use, whatever its judge says.", UNFILTERED, "arXiv:2510.23595")}
claims = Claims(
    arms={
        "evolve": NOBODY,
        "unfiltered": {**NOBODY, "form": "unfiltered"},
        "exact": {**NOBODY, **EXACT},
        "watched": {"gate": {"guards": "divergence"}},
    },
    settings={"rounds": 8, "gate": {"require": "nothing"}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(61, 71)),
    statements=(
        Statement("The solver gets better.", "gained", "evolve", within=(0.02, 1.0), bounds=CHANGE),
        Statement(
            "Dropping what the judge finds poor takes the solver further.",
            "gained",
            "evolve",
            ("unfiltered",),
            bounds=CHANGE,
        ),
        Statement("The judge rots.", "rotted", "evolve", within=(0.05, 1.0), bounds=CHANGE),
        Statement(
            "It rots more than that of a policy trained to solve alone.",
            "rotted",
            "evolve",
            ("exact",),
            bounds=CHANGE,
        ),
        Statement("The guard sees it.", "halted", "watched", within=(0.5, 1.0), bounds=(0.0, 1.0)),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    first, last = rounds[0], rounds[-1]
    return {
        "accuracy": fmean(measured["accuracy"].values()),
        "gained": gained(rounds),
        "judged": judged(last["audit"]),
        "rotted": judged(first["audit"]) - judged(last["audit"]),
    }
