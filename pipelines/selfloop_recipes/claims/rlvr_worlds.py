"""Reinforcement in worlds of their own: what a reward brings about there, beside the same loop with another one.

    selfloop claim selfloop_recipes.claims.rlvr_worlds:recipe --tuning

``accuracy`` is that of all measured levels, ``worst`` that of the worst of them: a policy that only leaves the shop has
1 on the first level of ``clicks``, and 0 on the others. ``knows`` is how likely it is so what a policy says of tasks,
that it can do them or not, when it tries, over levels: its truth is the policy's own pass rate (``knows`` alone).
``reached`` is the share of problems that one of the samples solves, ``solutions`` how many different ones a problem
has; ``written`` are the characters of an answer behind its mark (``budgeted`` alone).
``flips`` is how likely it says different things of one task, over the levels of the draw; ``backs`` how often an answer
to a problem of ``search`` gives a try up. Nothing of it was measured yet, nor planned.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Recipe

from selfloop_recipes.claims.rlvr import worlds
from selfloop_recipes.rlvr import Rlvr, State, improve, start

SHARE = (0.0, 1.0)
NO_REWARD: dict[str, Any] = {"reinforce": {"reward": "verified,verifier=accept-all"}}
claims = Claims(
    arms={
        "knows": {"form": "knows"},
        "knows, no reward": {"form": "knows"} | NO_REWARD,
        "graded": {"form": "graded"},
        "graded, not scaled": {"form": "graded", "environment": "clicks:1"},
        "graded, binary": {"form": "graded", "environment": "clicks:binary"},
        "co-reward": {"form": "co-reward"},
        "own vote": {"form": "co-reward", "reinforce": {"reward": "vote"}},
        "novelty": {"form": "novelty"},
        "no novelty": {"form": "novelty", "reinforce": {"reward": "verified"}},
        "budgeted": {"form": "budgeted"},
        "no budget": {"form": "budgeted", "reinforce": {"reward": "verified"}},
        "habits": {"form": "habits"},
        "habits, wrong": {"form": "habits", "environment": "search:wrong"},
        "no habits": {"form": "habits", "environment": "search:empty"},
        "dots": {"form": "habits", "environment": "search:dots"},
        "imitating": {"form": "imitating"},
        "seen once": {"form": "imitating", "reinforce": {"algorithm": "dr-grpo"}},
        "no bonus": {"form": "imitating", "reinforce": {"reward": "verified"}},
        "translate": {"form": "translate"},
        "translate, no reward": {"form": "translate"} | NO_REWARD,
    },
    settings={"rounds": 6, "gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(161, 171)),
    statements=(
        Statement(
            "Agreeing with itself, it flips less.", "flips", "knows", ("knows, no reward",), "lower", bounds=SHARE
        ),
        Statement("And it knows better what it can.", "knows", "knows", ("knows, no reward",), bounds=SHARE),
        Statement("Details that count teach what is hard.", "worst", "graded", ("graded, binary",), bounds=SHARE),
        Statement("So does their scale.", "worst", "graded", ("graded, not scaled",), bounds=SHARE),
        Statement("Another view is a better witness.", "accuracy", "co-reward", ("own vote",), bounds=SHARE),
        Statement("A consensus with it is less narrow.", "flips", "co-reward", ("own vote",), bounds=SHARE),
        Statement(
            "Who judges translations learns to translate.",
            "accuracy",
            "translate",
            ("translate, no reward",),
            bounds=SHARE,
        ),
        Statement("What is unlike the rest keeps more ways open.", "reached", "novelty", ("no novelty",), bounds=SHARE),
        Statement("And more of them right.", "solutions", "novelty", ("no novelty",), bounds=(0.0, 16.0)),
        Statement("A budget makes answers short.", "written", "budgeted", ("no budget",), "lower", bounds=(0.0, 20.0)),
        Statement("And costs no accuracy.", "accuracy", "budgeted", ("no budget",), "same", margin=0.03, bounds=SHARE),
        Statement("Habits pay.", "accuracy", "habits", ("no habits",), bounds=SHARE),
        Statement("It is not the length.", "accuracy", "habits", ("dots",), bounds=SHARE),
        Statement("Wrong search beats right answers.", "accuracy", "habits, wrong", ("dots",), bounds=SHARE),
        Statement(
            "Right answers add nothing to it.",
            "accuracy",
            "habits",
            ("habits, wrong",),
            "same",
            margin=0.05,
            bounds=SHARE,
        ),
        Statement("Good attempts teach more than once.", "accuracy", "imitating", ("seen once",), bounds=SHARE),
        Statement("Trying the tool first pays.", "accuracy", "imitating", ("no bonus",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to at the end."""
    accuracy = {int(level): value for level, value in measured["accuracy"].items()}
    about = [level for level in accuracy if level in s.draw.levels]
    _, parted, boundary = s.environment.partition("+feasible:")
    return {
        "accuracy": fmean(accuracy.values()),
        "worst": min(accuracy.values()),
        "knows": knows(accuracy, int(boundary.partition(":")[0])) if parted else nan,
        "backs": measured.get("traits", {}).get("back", nan),
        "written": measured.get("traits", {}).get("written", nan),
        **{name: fmean(measured[name][str(level)] for level in about) for name in ("flips", "reached", "solutions")},
    }


def knows(accuracy: Mapping[int, float], boundary: int) -> float:
    """How likely a policy's word on a task is borne out when it tries, over levels.

    The first half of the levels it tries, of the others it says whether it can: what is right to say is ``1`` up to
    the boundary and ``0`` beyond.
    """
    half = len(accuracy) // 2
    borne_out = []
    for level in range(1, half + 1):
        rate, right = accuracy[level], accuracy[half + level]
        can = right if level <= boundary else 1 - right
        borne_out.append(can * rate + (1 - can) * (1 - rate))
    return fmean(borne_out)


recipe = Recipe(
    "rlvr-worlds",
    Rlvr,
    State,
    start,
    improve,
    forms=worlds,
    figures=figures,
    claims=claims,
    paper="arXiv:2411.15124",
)
