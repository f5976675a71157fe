"""The flywheel: what two inverse models make of each other, and whether they agree on a code of their own.

``gained`` is what the last navigator is better on held-out items than the first; ``spoken`` how much the share of what
the generator says that is true rose from the first round to the last, ``kept`` the same of what is believed; ``coded``
is the share of what was believed in the last round that is not true.
"""

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

from selfloop_recipes.claims import gained

CHANGE = (-1.0, 1.0)
ATTRIBUTION = {
    "refines": True,
    "environment": "lookup",
    "base": {"levels": 2, "per_level": 400, "per_role": 12_000},
    "draw": {"levels": [2], "per_level": 500, "items_per_level": 120},
    "verify": {"verifier": "exact"},
    "finetune": {"when_nothing": "keep policy"},
    "measure": {"levels": [2], "per_level": 400},
}
forms = {
    "rebuild": Form(
        "The generator is reinforced by the way back: by its steps, then by all of it (after ViPER).",
        {"generator": "by reward"},
        "arXiv:2510.24285",
    ),
    "attribution": Form(
        "Passages that it writes for answers warm it up; then come its own cited answers, best over worst (START).",
        ATTRIBUTION,
        "arXiv:2410.13298",
    ),
}
claims = Claims(
    arms={
        "flywheel": {},
        "unfiltered": {"verify": {"verifier": "accept-all"}},
        "rebuild": {"form": "rebuild"},
        "attribution": {"form": "attribution"},
        "no warm-up": {"form": "attribution", "filter": {"select": "nothing"}},
        "no pairs": {"form": "attribution", "pairs": {"select": "nothing"}},
    },
    settings={"gate": {"require": "nothing", "guards": []}, "schedule": {"patience": 100}},
    tuning=(1, 2),
    seeds=tuple(range(71, 81)),
    statements=(
        Statement("The navigator gets better.", "gained", "flywheel", within=(0.02, 1.0), bounds=CHANGE),
        Statement("The generator gets better.", "spoken", "flywheel", within=(0.02, 1.0), bounds=CHANGE),
        Statement("More and more is kept.", "kept", "flywheel", within=(0.02, 1.0), bounds=CHANGE),
        Statement("The two share no code of their own.", "coded", "flywheel", within=(0.0, 0.05), bounds=(0.0, 1.0)),
        Statement(
            "The filter takes the navigator further.",
            "gained",
            "flywheel",
            ("unfiltered",),
            margin=0.02,
            bounds=CHANGE,
        ),
        Statement("So does the way back as a reward.", "spoken", "rebuild", within=(0.02, 1.0), bounds=CHANGE),
        Statement(
            "Passages for answers start who cannot cite.",
            "gained",
            "attribution",
            ("no warm-up",),
            bounds=CHANGE,
        ),
        Statement(
            "The best over the worst adds to what is right.", "gained", "attribution", ("no pairs",), bounds=CHANGE
        ),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What a run came to."""
    first, last = rounds[0], rounds[-1]
    (said, believed, _), (said_last, believed_last, coded) = (shares(each["audit"]) for each in (first, last))
    return {
        "accuracy": fmean(measured["accuracy"].values()),
        "gained": gained(rounds),
        "spoken": said_last - said,
        "kept": believed_last - believed,
        "coded": coded,
    }


def shares(audit: Mapping[str, Any]) -> tuple[float, float, float]:
    """The shares of what was said that are true and believed, and of what was believed that is not true."""
    kinds = ("true_positive", "false_negative", "false_positive", "true_negative")
    right, missed, wrong, _ = (audit[kind] for kind in kinds)
    total, believed = sum(audit[kind] for kind in kinds), right + wrong
    return (
        (right + missed) / total if total else nan,
        believed / total if total else nan,
        wrong / believed if believed else nan,
    )
