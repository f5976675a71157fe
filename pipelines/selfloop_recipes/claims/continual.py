"""Skills one after another: ``old`` is the accuracy on all but the last at the end, ``new`` that on the last."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

REPLAY = {"newest_share": 0.5, "replay_share": 0.25, "seed_share": 0.25}
forms = {
    "replayed": Form("Half of each training is what was taught before.", {"finetune": REPLAY}),
    "gated": Form("What loses an old skill is not promoted.", {"gate": {"require": "better"}}),
}
SHARE = (0.0, 1.0)
claims = Claims(
    arms={"alone": {}} | {name: {"form": name} for name in forms},
    tuning=(1, 2),
    seeds=tuple(range(101, 111)),
    statements=(
        Statement("What is replayed is not forgotten.", "old", "replayed", ("alone",), bounds=SHARE),
        Statement(
            "Replay costs the new skill little.", "new", "replayed", ("alone",), "same", margin=0.1, bounds=SHARE
        ),
        Statement("A gate keeps what was there.", "old", "gated", ("alone",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What the champion came to, by skill."""
    accuracy = {int(level): value for level, value in measured["accuracy"].items()}
    last = s.draw.levels[-1]
    return {"old": fmean(value for level, value in accuracy.items() if level != last), "new": accuracy[last]}
