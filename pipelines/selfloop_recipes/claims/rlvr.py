"""Reinforcement with verifiable rewards: what the objectives and the rewards differ in, at equal attempts.

``accuracy`` is that of all measured levels, ``gained`` what the last candidate is better on held-out items than the
policy that the loop began with, ``informative`` the share of groups that had an advantage, ``taken`` the rounds. Every
arm attempts 400 tasks eight times in each of eight rounds of 50 steps, but ``curve``, which ends when its learning
curve promises little (arXiv:2402.02515).
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

from selfloop_recipes.claims import gained, informative

OF_ROUND = {"newest_share": 1.0, "replay_share": 0.0, "seed_share": 0.0}
ON = {"steps": 50, "batch_size": 64, "lr": 2e-4, "weight_decay": 0.0} | OF_ROUND
AFTER = {"learns": "after", "draw": {"per_level": 400}}
NFT = AFTER | {"filter": {"select": ["all"]}, "finetune": ON | {"method": "nft,normalizer=32"}}
RFT = AFTER | {"filter": {"select": ["correct"]}, "finetune": ON}
OWN = "verifier.samples=1,verifier.max_tokens=2,judged_by=policy"
LENGTH = "blended,auxiliary=verified,auxiliary.verifier=length,weight=1"
forms = {
    "dr-grpo": Form(
        "No division by the spread, none by the length.", {"reinforce": {"algorithm": "dr-grpo"}}, "arXiv:2503.20783"
    ),
    "ttrl": Form("The reward is the vote of a task's attempts.", {"reinforce": {"reward": "vote"}}, "arXiv:2504.16084"),
    "nft": Form("A round's attempts, good and bad, are learnt from by likelihood.", NFT, "arXiv:2505.18116"),
    "rlsc": Form(
        "The reward is how likely it held what it wrote.",
        {"reinforce": {"reward": "verified,verifier=probability"}},
        "arXiv:2506.06395",
    ),
    "certain": Form(
        "The reward is how far from uniform its choices were.",
        {"reinforce": {"reward": "verified,verifier=self-certainty"}},
        "arXiv:2505.19590",
    ),
    "self-judge": Form(
        "The reward is its own judgement, as it is at the moment.",
        {
            "base": {"roles": ["judge"]},
            "reinforce": {"reward": f"verified,verifier=judge,{OWN}"},
        },
        "arXiv:2505.08827",
        frozenset({"judge"}),
    ),
    "win-share": Form(
        "The reward is the share of the others at its task that it holds an attempt better than.",
        {
            "base": {"roles": ["better"]},
            "reinforce": {"reward": f"verified,verifier=judge-pairwise,verifier.opponents=7,{OWN}"},
        },
        "arXiv:2401.04056",
        frozenset({"better"}),
    ),
    "covo": Form(
        "The reward is how consistently the paths to an answer lead there.",
        {
            "base": {"roles": ["now"]},
            "reinforce": {
                "reward": "verified,verifier=paths,verifier.samples=1,verifier.max_tokens=3,judged_by=policy"
            },
        },
        "arXiv:2506.08745",
        frozenset({"now"}),
    ),
    "spct": Form(
        "A judge that gives reasons is rewarded where its opinion is right.",
        {"environment": "asked:reasoned:chain"},
        "arXiv:2504.02495",
    ),
    "internal": Form(
        "The reward is a discriminator's, which learns to tell the answer from the same attempts (after IRRL).",
        {"reinforce": {"reward": "internal,updates=50"}},
        "arXiv:2302.00270",
    ),
    "blended": Form(
        "A second reward, for length, weighs what it is found to be worth.",
        {"reinforce": {"reward": f"{LENGTH},rate=0.5"}},
        "arXiv:2310.19007",
    ),
    "rft": Form("A round's right attempts alone are learnt from.", RFT, "arXiv:2308.01825"),
}
KNOWS = {
    "environment": "mixture:chain@1-4+feasible:2:chain@1-4",
    "base": {"levels": 8, "per_level": 3000, "tail": 0.6},
    "draw": {"levels": [5, 6, 7, 8], "per_level": 400, "items_per_level": 60},
    "reinforce": {"reward": "vote", "max_tokens": 2},
    "measure": {"levels": list(range(1, 9)), "per_level": 100},
}
CLICKS = {
    "environment": "clicks",
    "base": {"levels": 3, "per_level": 4000, "tail": 0.5},
    "draw": {"levels": [1, 2, 3], "per_level": 600, "items_per_level": 80},
    "reinforce": {"kl_beta": 0.001},
    "measure": {"levels": [1, 2, 3], "per_level": 200},
}
IMITATING = {
    "environment": "arithmetic:both",
    "base": {"levels": 3, "per_level": 3000, "tail": 0.5},
    "draw": {"levels": [2, 3], "per_level": 800, "items_per_level": 80},
    "reinforce": {
        "algorithm": "self-imitation",
        "reward": "explored,bonus=0.5",
        "protocol": "tools,tools=op,turns=14",
        "max_tokens": 64,
    },
    "evaluate": {"protocol": "tools,tools=op,turns=14"},
    "measure": {"protocol": "tools,tools=op,turns=14", "levels": [2, 3, 4], "per_level": 200},
}
CO_REWARD = {
    "environment": "views:addition",
    "base": {"levels": 6, "per_level": 4000, "tail": 0.5},
    "draw": {"levels": [4, 5], "per_level": 800, "items_per_level": 100},
    "reinforce": {"curriculum": "in-turn,together=view", "reward": "cross-view"},
    "measure": {"levels": [3, 4, 5, 6], "per_level": 200},
}
HABITS = {
    "environment": "search:all",
    "base": {"levels": 2, "per_level": 4000},
    "draw": {"levels": [2], "per_level": 800, "items_per_level": 120},
    "reinforce": {"max_tokens": 96},
    "measure": {"levels": [2], "per_level": 300},
    "gate": {"confirm": 2},
}
TRANSLATE = {
    "environment": "notation",
    "base": {"levels": 4, "per_level": 4000, "tail": 0.5, "roles": ["judge"], "per_role": 4000},
    "draw": {"levels": [3, 4], "per_level": 800, "items_per_level": 100},
    "reinforce": {"reward": f"verified,verifier=judge,{OWN}"},
    "measure": {"levels": [2, 3, 4, 5], "per_level": 200},
}
BUDGETED = {
    "environment": "budgeted:chain",
    "base": {"levels": 4, "per_level": 6000, "tail": 0.9},
    "pretrain": {"steps": 2000, "decay_steps": 500},
    "draw": {"levels": [1, 2, 3, 4], "per_level": 400, "items_per_level": 60},
    "reinforce": {"reward": "budgeted"},
    "measure": {"levels": [1, 2, 3, 4], "per_level": 200},
}
NOVELTY = {
    "environment": "countdown",
    "base": {"levels": 2, "per_level": 20_000, "tail": 1.0},
    "pretrain": {
        "hidden_size": 96,
        "intermediate_size": 384,
        "layers": 3,
        "steps": 1200,
        "decay_steps": 300,
        "lr": 3e-3,
    },
    "draw": {"levels": [2], "per_level": 400, "items_per_level": 120},
    "reinforce": {"algorithm": "dr-grpo", "reward": "novelty,weight=0.3"},
    "measure": {"levels": [2], "per_level": 300, "samples": 16},
    "gate": {"confirm": 3},
}
worlds = {
    "translate": Form(
        "Expressions in another notation, of which several are right: the reward is its own judgement of them.",
        TRANSLATE,
        "arXiv:2505.16637",
        frozenset({"judge"}),
    ),
    "novelty": Form(
        "An attempt is worth more the less its hidden states are like those of the others at its task.",
        NOVELTY,
        "arXiv:2510.11686",
    ),
    "budgeted": Form(
        "It says whether a task is easy, answers in the head what it calls so, and the reward knows its pass rate.",
        BUDGETED,
        "arXiv:2505.18822",
    ),
    "habits": Form(
        "Countdown by a search that is written down, by four habits that a base is shown.", HABITS, "arXiv:2503.01307"
    ),
    "co-reward": Form(
        "The reward is what most attempts say at the same task in another dress.", CO_REWARD, "arXiv:2508.00410"
    ),
    "imitating": Form(
        "A tool is worth something at first, and good attempts are learnt from again, later more.",
        IMITATING,
        "arXiv:2509.22601",
    ),
    "knows": Form(
        "It says of tasks whether it can do them, and the reward is how many of its answers agree.",
        KNOWS,
        "arXiv:2510.11407",
    ),
    "graded": Form(
        "What a shopper does next, worth the more the more of it is right, and what is hard the most.",
        CLICKS,
        "arXiv:2507.17842",
    ),
}
"""Forms in worlds of their own, which the design ``rlvr_worlds`` measures."""
AS_MUCH: dict[str, Any] = {"reinforce": {"reward": f"{LENGTH},rate=0"}}
CURVE: dict[str, Any] = {"schedule": "curve,patience=100,worth=0.02,ahead=4"}
LOG: dict[str, Any] = {"form": "internal", "reinforce": {"reward": "internal,shape=log,updates=50"}}
ROUNDS = 8
SHARE = (0.0, 1.0)
NO_ARM = ("covo", "spct")
"""Forms that no statement is about."""
claims = Claims(
    arms={"grpo": {}, "curve": CURVE, "as much": AS_MUCH, "internal, log": LOG}
    | {name: {"form": name} for name in forms if name not in NO_ARM},
    settings={"rounds": ROUNDS, "gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(61, 71)),
    statements=(
        Statement("What is verified teaches.", "gained", "grpo", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement("So does what most attempts say.", "gained", "ttrl", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement("So does what it holds likely.", "gained", "rlsc", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement("So does what it is sure of.", "gained", "certain", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement("So does its own judgement.", "gained", "self-judge", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement("So does its own comparison.", "gained", "win-share", within=(0.02, 1.0), bounds=(-1, 1)),
        Statement(
            "Both divisions of GRPO can be left out.",
            "accuracy",
            "dr-grpo",
            ("grpo",),
            "same",
            margin=0.03,
            bounds=SHARE,
        ),
        Statement("Wrong attempts teach, too.", "accuracy", "nft", ("rft",), margin=0.02, bounds=SHARE),
        Statement(
            "Likelihood does as well as a gradient of the policy.",
            "accuracy",
            "nft",
            ("dr-grpo",),
            "same",
            margin=0.03,
            bounds=SHARE,
        ),
        Statement(
            "A loop that ends by its learning curve loses nothing.",
            "accuracy",
            "curve",
            ("grpo",),
            "same",
            margin=0.03,
            bounds=SHARE,
        ),
        Statement("And it takes fewer rounds.", "taken", "curve", ("grpo",), "lower", bounds=(1, ROUNDS)),
        Statement(
            "What a discriminator tells that learns beside it teaches.",
            "gained",
            "internal",
            within=(0.02, 1.0),
            bounds=(-1, 1),
        ),
        Statement(
            "Clipped and linear, it teaches more than its logarithm does.",
            "accuracy",
            "internal",
            ("internal, log",),
            bounds=SHARE,
        ),
        Statement("A reward that is found to mislead costs less.", "accuracy", "blended", ("as much",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    return {
        "accuracy": fmean(measured["accuracy"].values()),
        "gained": gained(rounds),
        "informative": informative(rounds),
        "taken": len(rounds),
    }
