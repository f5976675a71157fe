"""B-STaR: what a temperature that follows the balance score keeps alive (arXiv:2412.17256, 2412.17451).

``pass_1`` is the share of attempts that are right, ``pass_16`` that of tasks which one of sixteen attempts solves, both
of the last candidate on held-out items; ``temperature`` what the last round chose for the next. The fixed arms probe
nothing else, at equal attempts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

forms = {
    "continue": Form(
        "The temperature at which the best two of a task are right most often; two of a task are learnt from.",
        {"balance": {"by": "best two"}, "filter": {"select": "correct+unique+clip-per-task,limit=2"}},
        "arXiv:2412.17451",
    ),
    "anew": Form("Each round trains a copy of the first policy.", {"restart": "base"}, "arXiv:2312.06585"),
}
SHARE = (0.0, 1.0)
claims = Claims(
    arms={"b-star": {}, "fixed": {"temper": {"temperatures": [1.0]}}} | {name: {"form": name} for name in forms},
    settings={
        "rounds": 8,
        "gate": {"require": "nothing", "guards": []},
        "schedule": {"patience": 100},
        "evaluate": {"samples": 16},
    },
    tuning=(1, 2),
    seeds=tuple(range(121, 131)),
    statements=(
        Statement("What is covered is kept.", "pass_16", "b-star", ("fixed",), bounds=SHARE),
        Statement(
            "And single attempts are as good.", "pass_1", "b-star", ("fixed",), "same", margin=0.05, bounds=SHARE
        ),
        Statement("A policy that has learnt samples warmer.", "temperature", "b-star", within=(1.0, 2.0)),
        Statement("Two of a task teach as much.", "pass_1", "continue", ("b-star",), "same", margin=0.05, bounds=SHARE),
        Statement("Going on from the champion pays.", "pass_1", "b-star", ("anew",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What the last candidate came to on held-out items, and the temperature that was chosen last."""
    last = rounds[-1]["decision"]["suites"]["target"]["candidate"]
    passed = {int(name.removeprefix("pass@")): value for name, value in last.items() if name.startswith("pass@")}
    return {
        "pass_1": passed[1],
        "pass_16": passed[max(passed)],
        "temperature": rounds[-1]["state"]["sampling"]["temperature"],
    }
