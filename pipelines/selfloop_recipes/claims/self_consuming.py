"""Self-consuming loops: three regimes of data, and two biases of what is drawn (arXiv:2307.01850, 2407.09499).

``right`` is the share of texts that are right in the last round, as precision is in the paper, ``covered`` that of
tasks which one of eight texts solves, as recall is; both of the last candidate, on held-out items.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from selfloop.claims import Claims, Statement
from selfloop.recipe import Form

HALF = {"newest_share": 0.5, "seed_share": 0.5}
forms = {
    "augmented": Form("Half of each generation is the data that it began with.", {"finetune": HALF}),
    "fresh": Form("Half of each generation is data that nobody saw before.", {"real": "fresh", "finetune": HALF}),
    "sharpened": Form("The likeliest texts alone are drawn.", {"generate": {"temperature": 0.7}}),
    "repaired": Form("Half of what is wrong is put right.", {"repairs": True}, "arXiv:2402.07087"),
    "curated": Form(
        "Of each task's texts one is kept that somebody preferred.",
        {"verify": {"verifier": "exact"}, "filter": {"select": "curated,sharpness=2"}},
        "arXiv:2407.09499",
    ),
}
SHARE = (0.0, 1.0)
claims = Claims(
    arms={"alone": {}} | {name: {"form": name} for name in forms},
    settings={"rounds": 8},
    tuning=(1, 2),
    seeds=tuple(range(91, 101)),
    statements=(
        Statement("Fresh data keeps what is covered.", "covered", "fresh", ("alone",), bounds=SHARE),
        Statement("Data of the first day keeps some of it.", "covered", "augmented", ("alone",), bounds=SHARE),
        Statement("Drawn from the likeliest, texts stay right.", "right", "sharpened", ("alone",), bounds=SHARE),
        Statement("And less is covered.", "covered", "sharpened", ("alone",), "lower", bounds=SHARE),
        Statement("What is put right comes to be right.", "right", "repaired", ("alone",), bounds=SHARE),
        Statement("And more stays covered.", "covered", "repaired", ("alone",), bounds=SHARE),
        Statement("What is preferred comes to be written.", "right", "curated", ("alone",), bounds=SHARE),
    ),
)


def figures(s: Any, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    """What the last candidate came to on held-out items."""
    last = rounds[-1]["decision"]["suites"]["target"]["candidate"]
    return {"right": last["pass@1"], "covered": last[max(last, key=_samples)]}


def _samples(name: str) -> int:
    kind, _, number = name.partition("@")
    return int(number) if kind == "pass" else 0
