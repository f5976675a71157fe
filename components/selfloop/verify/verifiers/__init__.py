"""Verifiers, one file each, found by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from selfloop.errors import UserError
from selfloop.lookup import imported, unknown
from selfloop.verify.contract import Verifier
from selfloop.verify.verifiers.borda import borda
from selfloop.verify.verifiers.code import code
from selfloop.verify.verifiers.credulous import credulous
from selfloop.verify.verifiers.exact import exact
from selfloop.verify.verifiers.fobar import fobar
from selfloop.verify.verifiers.judge import judge
from selfloop.verify.verifiers.judge_pairwise import judge_pairwise
from selfloop.verify.verifiers.label import label
from selfloop.verify.verifiers.length import length
from selfloop.verify.verifiers.majority import majority
from selfloop.verify.verifiers.math_verify import math_verify
from selfloop.verify.verifiers.reward_model import reward_model
from selfloop.verify.verifiers.self_certainty import self_certainty
from selfloop.verify.verifiers.weighted import weighted

if TYPE_CHECKING:
    from selfloop.verify.verify import VerifyParams

VERIFIERS: dict[str, Verifier] = {
    "exact": exact,
    "math-verify": math_verify,
    "code": code,
    "majority": majority,
    "label": label,
    "length": length,
    "credulous": credulous,
    "fobar": fobar,
    "self-certainty": self_certainty,
    "borda": borda,
    "judge": judge,
    "judge-pairwise": judge_pairwise,
    "reward-model": reward_model,
    "weighted": weighted,
}


def find_verifier(name: str) -> Verifier:
    """A verifier by its name, or the user's own as ``module:function``."""
    if ":" in name:
        return imported("verifier", name)  # type: ignore[no-any-return]
    if name not in VERIFIERS:
        raise unknown("verifier", name, VERIFIERS)
    return VERIFIERS[name]


def askers(params: VerifyParams) -> list[str]:
    """The verifier, or those that it weighs, by name, as far as they ask a policy."""
    names = [params.verifier, *(params.weights if params.verifier == "weighted" else ())]
    return [name for name in names if getattr(find_verifier(name), "asks_policy", False)]


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that nothing can be weighed with."""
    if not weights:
        raise UserError("The verifier 'weighted' needs the parameter 'weights': name verifiers and their weights.")
    for name, weight in weights.items():
        if name == "weighted":
            raise UserError("The verifier 'weighted' cannot weigh itself: name others in 'weights'.")
        if ":" not in name:
            find_verifier(name)
        if not 0 < weight < float("inf"):
            raise UserError(f"The weight of the verifier '{name}' is {weight}: give a number above 0.")
