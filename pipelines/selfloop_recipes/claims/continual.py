"""Skills one after another: ``old`` is the accuracy on all but the last at the end, ``new`` that on the last.

The setup ``noisy`` has two labels of five that are another task's.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form


def by(method: str) -> dict[str, Any]:
    """The settings of a training by a method."""
    return {"finetune": {"method": method}}


REPLAY = {"newest_share": 0.5, "replay_share": 0.25, "seed_share": 0.25}
RESTED = {"replay": "rested,interval=2"}
CLUSTERS = {"replay": "clusters,number=8,budget=400"}
TRUNK = {"finetune": {"optimizer": "continued", "warmup_steps": 30}}
REWARMED = {"finetune": {"warmup_steps": 30, "decay": "cosine"}}
forms = {
    "replayed": Form("Half of each training is what was taught before.", {"finetune": REPLAY}),
    "rested": Form("Each round has half of what was taught before in turn.", {"finetune": REPLAY | RESTED}),
    "clusters": Form("As much of each skill as gradients tell apart.", {"finetune": REPLAY | CLUSTERS}),
    "gated": Form("What loses an old skill is not promoted.", {"gate": {"require": "better"}}),
    "anchored": Form("Weights stay near where a round begins.", by("sft,anchor=l2"), "arXiv:2203.17269"),
    "ewc": Form("Weights that earlier skills need stay near it.", by("sft,anchor=ewc"), "arXiv:1612.00796"),
    "swap": Form("Labels are partly what it said before, made right.", by("sft,anchor=swap"), "arXiv:2407.10804"),
    "trunk": Form("One optimizer and one warm-up go through all rounds.", TRUNK, "arXiv:2403.08763"),
    "xi": Form("It is trained away from labels.", by("self-distilled,xi=1.5"), "arXiv:2301.13304"),
}
SHARE = (0.0, 1.0)
CLEAN, NOISY = ("clean",), ("noisy",)


def keeps(sentence: str, arm: str, other: str = "alone") -> Statement:
    """That an arm loses less of the old skills than another."""
    return Statement(sentence, "old", arm, (other,), setups=CLEAN, bounds=SHARE)


def costs_little(sentence: str, arm: str) -> Statement:
    """That an arm learns the last skill as well as what is taught alone."""
    return Statement(sentence, "new", arm, ("alone",), "same", setups=CLEAN, margin=0.1, bounds=SHARE)


claims = Claims(
    arms={"alone": {}, "taught": by("self-distilled"), "rewarmed": REWARMED} | {name: {"form": name} for name in forms},
    setups={"clean": {}, "noisy": {"write": {"flipped": 0.4}}},
    tuning=(1, 2),
    seeds=tuple(range(101, 111)),
    statements=(
        keeps("What is replayed is not forgotten.", "replayed"),
        costs_little("Replay costs the new skill little.", "replayed"),
        keeps("What rests in between is kept longer.", "rested", "replayed"),
        keeps("A few examples of each skill keep more than all of them alike.", "clusters", "replayed"),
        keeps("A gate keeps what was there.", "gated"),
        keeps("An anchor keeps it without old data.", "anchored"),
        costs_little("And costs the new skill little.", "anchored"),
        keeps("A plain anchor keeps more than one that knows what matters.", "anchored", "ewc"),
        keeps("Swapped labels keep it, too.", "swap"),
        costs_little("And cost the new skill little.", "swap"),
        keeps("A rate that is warmed up once keeps more than one that rises in each round.", "trunk", "rewarmed"),
        Statement(
            "Where labels are wrong, training away from them pays.",
            "new",
            "xi",
            ("alone", "taught"),
            setups=NOISY,
            bounds=SHARE,
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What the champion came to, by skill."""
    accuracy = {int(level): value for level, value in measured["accuracy"].items()}
    last = s.draw.levels[-1]
    return {"old": fmean(value for level, value in accuracy.items() if level != last), "new": accuracy[last]}
