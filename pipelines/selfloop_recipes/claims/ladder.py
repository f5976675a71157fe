"""The ladder: what reward models are worth that are trained on a policy's own attempts, and how far they flatter it.

``gained`` is what the last candidate is better on held-out items than the policy that the loop began with. ``ranks`` is
the chance that the last reward model scores a right attempt above a wrong one, ``learnt`` how much that rose since the
first round. ``flattery`` is the winner's curse: among the tenth of attempts with the highest scores in the last round,
the mean score less the share that is right; ``sober`` is 1 less that.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

from selfloop_recipes.claims import gained

CHANGE, SHARE = (-1.0, 1.0), (0.0, 1.0)
TENTH = 0.1
BY_REWARD = {"learns": "by reward", "reinforce": {"reward": "verified,verifier=reward-model"}}
FEW = {"pairs": {"select": "best-worst+per-level,limit=50"}, "twice": True, "again": {"verifier": "reward-model"}}
forms = {
    "ranked": Form(
        "What is right ranks above what is wrong, and the reward model alone reinforces.",
        BY_REWARD,
        "arXiv:2404.07017",
    ),
    "self-labels": Form(
        "Few labels, and then pairs that the reward model makes itself where it is sure (after SER).",
        FEW | {"more_pairs": {"select": "best-worst,min_gap=0.3"}} | BY_REWARD,
        "arXiv:2411.00418",
    ),
    "hard-negatives": Form(
        "What is wrong and scored highest is learnt from again (RewardRanker).",
        {"twice": True} | BY_REWARD,
        "arXiv:2504.09643",
    ),
    "reviewed": Form(
        "What a reviewer scores best is preferred to what it scores worst (after CycleResearcher).",
        {"learns": "by imitation", "finetune": {"method": "dpo", "lr": 1e-4, "newest_share": 1.0, "seed_share": 0.0}},
        "arXiv:2411.00816",
    ),
}
claims = Claims(
    arms={
        "ladder": {},
        "exact": {"verify": {"verifier": "exact"}, "reinforce": {"reward": {"verifier": "exact"}}},
        "ranked": {"form": "ranked"},
        "hard-negatives": {"form": "hard-negatives"},
        "self-labels": {"form": "self-labels"},
        "unsure": {"form": "self-labels", "more_pairs": {"select": "best-worst"}},
    },
    settings={"rounds": 6, "gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(81, 91)),
    statements=(
        Statement("The policy gets better.", "gained", "ladder", within=(0.02, 1.0), bounds=CHANGE),
        Statement("The reward model ranks better, rung by rung.", "learnt", "ladder", within=(0.0, 1.0), bounds=CHANGE),
        Statement(
            "A reward that no wrong attempt can win takes it further than a reward model alone.",
            "gained",
            "ladder",
            ("ranked",),
            bounds=CHANGE,
        ),
        Statement(
            "With hard negatives its best scores lie less far above the truth.",
            "sober",
            "hard-negatives",
            ("ranked",),
            margin=0.02,
            bounds=(0.0, 2.0),
        ),
        Statement(
            "Labels of its own help where it is sure, not where it is not.",
            "ranks",
            "self-labels",
            ("unsure",),
            bounds=SHARE,
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    first, last = rounds[0], rounds[-1]
    ranks, curse = ranking(last["audit"]["bins"]), flattery(last["audit"]["bins"])
    return {
        "accuracy": fmean(measured["accuracy"].values()),
        "gained": gained(rounds),
        "ranks": ranks,
        "learnt": ranks - ranking(first["audit"]["bins"]),
        "flattery": curse,
        "sober": 1 - curse,
    }


def ranking(bins: Sequence[Mapping[str, float]]) -> float:
    """The chance that a right attempt is scored above a wrong one, of bins of like scores from the lowest on; what is
    in one bin is level.
    """
    wins = below = 0.0
    for each in bins:
        right = each["right"] * each["rollouts"]
        wrong = each["rollouts"] - right
        wins += right * (below + wrong / 2)
        below += wrong
    pairs = sum(each["right"] * each["rollouts"] for each in bins) * below
    return wins / pairs if pairs else nan


def flattery(bins: Sequence[Mapping[str, float]]) -> float:
    """The mean score less the share that is right, among the tenth with the highest scores; of a bin that lies in it in
    part, a part.
    """
    left = total = TENTH * sum(each["rollouts"] for each in bins)
    apart = 0.0
    for each in reversed(bins):
        taken = min(left, each["rollouts"])
        apart, left = apart + taken * (each["score"] - each["right"]), left - taken
    return apart / total if total else nan
