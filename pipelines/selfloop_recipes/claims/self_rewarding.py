"""Self-rewarding: what a policy's own judgements are worth, and which pairs go on teaching.

``gained`` is what the last candidate is better on held-out items than the policy that the loop began with; ``judged``
is the share of what the last round's judge called good or bad that it was right about, and ``right`` the share of what
the last round attempted that is right: in the form ``self``, of what it said of itself. Every arm attempts as many
tasks as often, and takes as many steps.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

from selfloop_recipes.claims import gained

WEAK = {"base": {"per_role": 50}}
"""A judge that was hardly shown judging."""
NOBODY = {"verify": {"verifier": "accept-all"}, "pair": {"min_gap": 0.0}}
"""Nobody judges: a pair is what its two sources make it."""


def asking(role: str, of: str = "all") -> dict[str, Any]:
    """Settings with which what is asked about attempts is asked in a role."""
    return {"base": {"roles": ["judge", role]}, "about": {"role": role, "of": of}}


MENDING = asking("again", "bad") | {"pair": {"prompt": "worse"}}
forms = {
    "temporal": Form(
        "What a next policy does best, over what the first did worst.",
        {"pairs": ["next over first"]},
        "arXiv:2508.06026",
    ),
    "anchored": Form(
        "What the champion does best, over what the first policy did worst; a guard sees whether it prefers its own.",
        {"pairs": ["tried over first"], "gate": {"guards": "+self-preference"}},
        "arXiv:2404.13076",
    ),
    "weak": Form(
        "What the champion does, over what the first policy did: nobody judges.",
        {"pairs": ["tried over first"]} | NOBODY,
        "arXiv:2405.04086",
    ),
    "spin": Form(
        "What the environment demonstrates, over what the champion does: nobody judges.",
        {"pairs": ["shown over tried"]} | NOBODY,
        "arXiv:2401.01335",
    ),
    "steered": Form(
        "What it does, over what it does when it is asked for a wrong attempt.",
        {"pairs": ["tried over asked"]} | asking("wrong") | {"pair": {"min_gap": -1.0}},
        "arXiv:2410.17131",
        frozenset({"wrong"}),
    ),
    "made-worse": Form(
        "An attempt, over what it makes of it when it is asked to make it worse: nobody judges.",
        {"pairs": ["tried over asked"]} | asking("worse") | NOBODY,
        "arXiv:2409.17534",
        frozenset({"worse"}),
    ),
    "mended": Form(
        "A mended attempt over the one that it was shown.",
        {"pairs": ["asked over tried"]} | MENDING,
        needs=frozenset({"again"}),
    ),
    "three-sources": Form(
        "Its best over its worst, then mended over tried, then tried over what it does when it is hot.",
        {"pairs": ["tried over tried", "asked over tried", "tried over hot"], "finetune": {"steps": 17}} | MENDING,
        "arXiv:2503.04813",
        frozenset({"again"}),
    ),
    "spliced": Form(
        "It learns to mend: its best mending of a bad attempt over its worst, each judged in that attempt's place.",
        {"pairs": ["asked over asked"]} | asking("again", "bad"),
        "arXiv:2403.15482",
        frozenset({"again"}),
    ),
    "grounded": Form(
        "Its judge is told what a tool makes of each step.",
        {"base": {"roles": ["grounded"]}, "verify": {"verifier": "judge,role=grounded,samples=4,max_tokens=2"}},
        "arXiv:2504.19276",
        frozenset({"grounded"}),
    ),
    "self": Form(
        "It says of tasks whether it will be right, and learns from what its own attempt came to.",
        {
            "pairs": ["asked over asked"],
            "base": {"roles": ["self"]},
            "about": {"role": "self", "most": 1},
            "generate": {"greedy_first": True},
            "verify": {"verifier": "exact"},
        },
        "arXiv:2410.13787",
        frozenset({"self"}),
    ),
    "meta": Form(
        "It judges its judgements as well, and learns to judge.",
        {"pairs": ["tried over tried", "asked over asked"], "base": {"roles": ["judge", "judge/judge"]}},
        "arXiv:2407.19594",
    ),
}
NOT = {"verify": {"verifier": "exact"}}
claims = Claims(
    arms={
        "own judge": {},
        "exact": NOT,
        "weak judge": WEAK,
        "temporal": {"form": "temporal"},
        "meta": {"form": "meta"},
        "steered": {"form": "steered"},
    },
    settings={"rounds": 4, "gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(21, 31)),
    statements=(
        Statement("A policy that can judge improves by it.", "gained", "own judge", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement("One that can hardly judge does not.", "gained", "weak judge", within=(-1.0, 0.02), bounds=(-1, 1)),
        Statement(
            "Known answers teach more than its own judgements.",
            "gained",
            "exact",
            ("own judge",),
            margin=0.02,
            bounds=(-1, 1),
        ),
        Statement(
            "Pairs that are apart in time go on teaching.",
            "gained",
            "temporal",
            ("own judge",),
            margin=0.02,
            bounds=(-1, 1),
        ),
        Statement("Who learns to judge judges better.", "judged", "meta", ("own judge",), margin=0.02, bounds=(0, 1)),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    return {
        "accuracy": fmean(measured["accuracy"].values()),
        "gained": gained(rounds),
        "judged": judged(rounds[-1]["audit"]),
        "right": right(rounds[-1]["audit"]),
    }


def judged(audit: Mapping[str, Any]) -> float:
    """The share of the attempts that a judge had an opinion of, and was right about."""
    kinds = ("true_positive", "true_negative", "false_positive", "false_negative")
    right, decided = (sum(audit[kind] for kind in some) for some in (kinds[:2], kinds))
    return right / decided if decided else nan


def right(audit: Mapping[str, Any]) -> float:
    """The share of attempts that are right."""
    return (audit["true_positive"] + audit["false_negative"]) / audit["rollouts"] if audit["rollouts"] else nan
