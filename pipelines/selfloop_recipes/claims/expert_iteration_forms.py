"""Filtered self-training in several papers' ways: what each of them adds, beside the same loop without it.

    selfloop claim selfloop_recipes.claims.expert_iteration_forms:recipe --tuning

``accuracy`` is that of the champion on all measured levels, ``worst`` on the worst of them, ``tail`` on chains that are
seldom solved (``rebalanced`` alone), ``kept`` the share of what is kept that is of these, in the last round. Each
statement compares a form with the same settings but one; ``joint`` and ``alone`` are measured on chains of formulas.
What ``modalities`` leaves out is the vote over the three ways at inference.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Recipe

from selfloop_recipes.claims.expert_iteration import TAILS, forms
from selfloop_recipes.expert_iteration import ExpertIteration, State, improve, start

SHARE = (0.0, 1.0)
CHAINS_OF_FORMULAS = {"measure": {"environment": "formulas:chain"}}
claims = Claims(
    arms={
        "right alone": {},
        "nft": {"form": "nft"},
        "mechanisms": {"form": "mechanisms"},
        "mechanisms, right alone": {
            "form": "mechanisms",
            "filter": {"select": "correct"},
            "finetune": {"method": "sft"},
        },
        "rebalanced": {"form": "rebalanced"},
        "as drawn": {"form": "rebalanced", "filter": {"select": "correct"}},
        "agentgym": {"form": "agentgym"},
        "from the champion": {"form": "agentgym", "restart": "champion"},
        "joint": {"form": "modalities"} | CHAINS_OF_FORMULAS,
        "alone": {"form": "modalities", "environment": "formulas:chain"},
        "cite": {"form": "cite"},
        "any text": {"form": "cite", "verify": {"verifier": "accept-all"}},
        "specialize": {"form": "specialize"},
        "passages in sight": {"form": "specialize", "filter": {"select": "correct"}},
        "quantiles": {"form": "quantiles"},
        "quantiles, worst asked": {"form": "quantiles", "measure": {"environment": "marked:1:lookup"}},
        "best alone": {"form": "quantiles", "filter": {"select": "correct"}},
    },
    settings={"rounds": 4, "gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(151, 161)),
    statements=(
        Statement("Wrong attempts teach, too.", "accuracy", "nft", ("right alone",), bounds=SHARE),
        Statement(
            "Which way pays is learnt better from what went wrong, too.",
            "accuracy",
            "mechanisms",
            ("mechanisms, right alone",),
            bounds=SHARE,
        ),
        Statement("A balance of head and tail helps the tail.", "tail", "rebalanced", ("as drawn",), bounds=SHARE),
        Statement("More of what is learnt from is of it.", "kept", "rebalanced", ("as drawn",), bounds=SHARE),
        Statement("Beginning anew each round pays.", "accuracy", "agentgym", ("from the champion",), bounds=SHARE),
        Statement("No environment is the worse for it.", "worst", "agentgym", ("from the champion",), bounds=SHARE),
        Statement("Three ways learnt together help one.", "accuracy", "joint", ("alone",), bounds=SHARE),
        Statement("What was looked up is known.", "accuracy", "specialize", ("passages in sight",), bounds=SHARE),
        Statement("A mark is heeded.", "accuracy", "quantiles", ("quantiles, worst asked",), bounds=SHARE),
        Statement("Bad attempts teach under their mark.", "accuracy", "quantiles", ("best alone",), bounds=SHARE),
        Statement("Learning from well cited answers pays.", "accuracy", "cite", ("any text",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    accuracy = {int(level): value for level, value in measured["accuracy"].items()}
    kept = {int(level): number for level, number in rounds[-1]["kept"].items()}
    tail = [value for level, value in accuracy.items() if level in TAILS]
    of_tail = sum(number for level, number in kept.items() if level in TAILS)
    return {
        "accuracy": fmean(accuracy.values()),
        "worst": min(accuracy.values()),
        "tail": fmean(tail) if tail else nan,
        "kept": of_tail / sum(kept.values()) if kept else nan,
    }


recipe = Recipe(
    "expert-iteration-forms",
    ExpertIteration,
    State,
    start,
    improve,
    frozen=("origin",),
    forms=forms,
    figures=figures,
    claims=claims,
    paper="arXiv:2312.06585",
)
