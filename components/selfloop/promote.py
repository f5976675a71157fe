"""``promote_candidate``: the gate. What is in force changes only when the candidate was shown to be no worse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Input, Model, Output
from pydantic import Field

from selfloop import lineage
from selfloop.artifacts import hand_on, manifest_of, write_json
from selfloop.errors import UserError
from selfloop.evaluate import accuracy_by_level
from selfloop.records import ItemResult, rows
from selfloop.stage import Params, stage

ROUNDING = 1e-9
"""What floats may be off by: 1 - 0.97 is more than 0.03 in them."""


class PromoteParams(Params):
    """The bar: at least as good on the target suite, hardly worse on the old one."""

    margin: float = Field(0.0, ge=-1, le=1, description="How much better the candidate must be on the target suite.")
    tolerance: float = Field(0.03, ge=0, le=1, description="How much worse it may be on the old suite.")
    model: str = Field("selfloop", min_length=1, description="The registered model that candidates are versions of.")
    round: int = Field(0, ge=0, description="The round, noted in the lineage.")


class Decision(NamedTuple):
    """What the gate decided, the accuracies it looked at, and why in words."""

    promoted: bool
    reason: str
    target: dict[str, float]
    old: dict[str, float]


@stage()
def promote_candidate(
    params: PromoteParams,
    candidate: Input[Model],
    champion: Input[Model],
    results: Input[Dataset],
    examples: Input[Dataset],
    next_champion: Output[Model],
    decision: Output[Artifact],
) -> None:
    """Decide between candidate and champion, register the candidate, and hand on whichever is in force."""
    answered = list(rows(results.path, ItemResult))
    decided = decide(answered, params.margin, params.tolerance)
    hand_on(candidate if decided.promoted else champion, next_champion)
    write_json(decision.path, decided._asdict())
    if lineage.is_on():
        of_champion, of_candidate = manifest_of(champion.path), manifest_of(candidate.path)
        lineage.record_round(
            params.model,
            params.round,
            lineage.Candidate(candidate.uri, of_candidate, of_champion.digest),
            lineage.Candidate(champion.uri, of_champion, of_champion.inputs.get("policy", "")),
            decided._asdict(),
            accuracy_by_level(answered),
            {"examples": manifest_of(examples.path).digest, "results": manifest_of(results.path).digest},
        )


def decide(results: Iterable[ItemResult], margin: float, tolerance: float) -> Decision:
    """Promote when the candidate's mean accuracy on the target suite is not below the champion's plus the margin, and
    on the old suite within the tolerance. Both answered the same items. Raises ``UserError`` for an empty suite.
    """
    seen: dict[str, dict[str, list[bool]]] = {"target": {}, "old": {}}
    for item in results:
        seen[item.suite].setdefault(item.policy, []).append(item.ok)
    for suite, policies in seen.items():
        if policies.keys() != {"candidate", "champion"}:
            raise UserError(f"The {suite} suite was not answered by both policies: evaluate both on the same items.")
    means = {s: {p: sum(oks) / len(oks) for p, oks in policies.items()} for s, policies in seen.items()}
    gain = means["target"]["candidate"] - means["target"]["champion"]
    loss = means["old"]["champion"] - means["old"]["candidate"]
    if loss - tolerance > ROUNDING:
        promoted, reason = False, f"old levels fell by {loss:.3f}, more than the {tolerance} allowed"
    elif margin - gain > ROUNDING:
        promoted, reason = False, f"target levels moved by {gain:+z.3f}, less than the {margin:+} asked for"
    else:
        promoted, reason = True, f"target levels moved by {gain:+z.3f}, old levels by {-loss:+z.3f}"
    return Decision(promoted, reason, means["target"], means["old"])
