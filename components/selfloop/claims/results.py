"""What was measured of a claim, as it is committed beside its recipe: ``claims/RECIPE.json``."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from selfloop.artifacts import read_json
from selfloop.claims.declared import Claims, Statement
from selfloop.claims.judging import Arm, Interval, Judgement, Value, corrected, interval, judge
from selfloop.claims.measuring import Outcome, Run, settings_of
from selfloop.errors import UserError

if TYPE_CHECKING:
    from selfloop.recipe import Recipe

Outcomes = Mapping[Run, Outcome]


def judgements(claims: Claims, seeds: Sequence[int], outcomes: Outcomes) -> list[Judgement]:
    """What is said of each statement; *inconclusive* where runs lack, failed, or came to no number.

    Raises ``UserError`` where a statement is about a metric that the recipe's figures do not have.
    """
    return [_judged(claims, statement, seeds, outcomes) for statement in claims.statements]


def _judged(claims: Claims, statement: Statement, seeds: Sequence[int], outcomes: Outcomes) -> Judgement:
    setups = claims.setups_of(statement)
    runs = [Run(setup, arm, seed) for setup in setups for arm in statement.arms for seed in seeds]
    there = {run: outcomes[run] for run in runs if run in outcomes}
    values = {run: value for run, each in there.items() if (value := _value(statement, each)) is not None}
    failed = sum(bool(each.failed) for each in there.values())
    nowhere = len(there) - failed - len(values)
    if len(values) == len(runs):
        whole = {
            (setup, arm): [values[Run(setup, arm, seed)] for seed in seeds]
            for setup in setups
            for arm in statement.arms
        }
        return judge(statement, setups, whole)
    counts = {"lacking": len(runs) - len(there), "failed": failed, f"without {statement.metric}": nowhere}
    note = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    arms = []
    for setup in setups:
        for arm in statement.arms:
            some = [values[run] for seed in seeds if (run := Run(setup, arm, seed)) in values]
            mean = interval([each.value for each in some]) if some else Interval(math.nan, -math.inf, math.inf)
            arms.append(Arm(setup, arm, mean, some))
    return Judgement("inconclusive", f"of {len(runs)} runs {note}", arms, [])


def _value(statement: Statement, outcome: Outcome) -> Value | None:
    if outcome.failed:
        return None
    value = outcome.metrics.get(statement.metric, math.nan)
    if statement.metric not in outcome.metrics and not outcome.halted:
        known = ", ".join(sorted(outcome.metrics))
        raise UserError(
            f"Claim '{statement.sentence}' is about '{statement.metric}', which the recipe's figures do not have: "
            f"name one of {known}."
        )
    if math.isfinite(value):
        return Value(outcome.run.seed, value)
    return None if statement.missing is None else Value(outcome.run.seed, statement.missing, censored=True)


def digest(recipe: Recipe[Any]) -> str:
    """SHA-256 of all that a result depends on in the recipe: the settings of its runs, and what is said of them."""
    claims = recipe.claims
    assert claims is not None
    settings = {
        f"{setup}/{arm}": settings_of(recipe, Run(setup, arm, claims.seeds[0])).overrides()
        for setup, arm in claims.cells
    }
    statements = [asdict(statement) | {"sentence": ""} for statement in claims.statements]
    whole = {"settings": settings, "seeds": claims.seeds, "statements": statements}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def result(recipe: Recipe[Any], outcomes: Outcomes, command: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The result of a claim as JSON: words, numbers, what it took, where and with what."""
    claims = recipe.claims
    assert claims is not None
    pairs = zip(claims.statements, judgements(claims, seeds, outcomes), strict=True)
    return {
        "recipe": recipe.name,
        "command": command,
        "digest": digest(recipe),
        "seeds": list(seeds),
        "statements": [_statement(statement, judgement, claims) for statement, judgement in pairs],
        "seconds": {f"{setup}/{arm}": _seconds(outcomes, setup, arm) for setup, arm in claims.cells},
        "halted": {str(run): each.halted for run, each in outcomes.items() if each.halted},
        "failed": {str(run): each.failed for run, each in outcomes.items() if each.failed},
        "code": sorted({each.code[:12] for each in outcomes.values() if each.code}),
        **about_the_machine(),
    }


def _statement(statement: Statement, judgement: Judgement, claims: Claims) -> dict[str, Any]:
    comparisons = len(claims.setups_of(statement)) * max(len(statement.baselines), 1)
    return {
        "sentence": statement.sentence,
        "metric": statement.metric,
        "expected": f"within {list(statement.within)}" if statement.within else statement.better,
        "word": judgement.word,
        "note": judgement.note,
        "arms": [
            {
                "setup": each.setup,
                "arm": each.arm,
                **_interval(each.interval),
                "values": {str(value.seed): value.value for value in each.values},
                "censored": [value.seed for value in each.values if value.censored],
            }
            for each in judgement.arms
        ],
        "confidence": round(corrected(comparisons), 6),
        "differences": [
            {"setup": each.setup, "baseline": each.baseline, **_interval(each.interval)}
            for each in judgement.differences
        ],
    }


def _interval(found: Interval) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in found._asdict().items()}


def _seconds(outcomes: Outcomes, setup: str, arm: str) -> float | None:
    """The mean seconds of a run of an arm, over those that were never stopped."""
    took = [each.seconds for run, each in outcomes.items() if run[:2] == (setup, arm) and each.seconds is not None]
    return round(fmean(took), 1) if took else None


def about_the_machine() -> dict[str, str]:
    """Where and when, and with what."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from selfloop.bench import machine

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    try:
        trl = version("trl")
    except PackageNotFoundError:
        trl = "none"
    return machine() | {"gpu": gpu, "trl": trl}


def place_beside(recipe: Recipe[Any]) -> Path:
    """Where the committed result of a recipe lies: in the folder ``claims`` beside its module."""
    return Path(inspect.getfile(recipe.start)).parent / "claims" / f"{recipe.name}.json"


def committed(recipe: Recipe[Any]) -> dict[str, Any] | None:
    """The result that is committed beside a recipe; none where there is none."""
    place = place_beside(recipe)
    return read_json(place.parent, place.name) if place.is_file() else None


def is_stale(recipe: Recipe[Any], result: Mapping[str, Any]) -> bool:
    """Whether a result is of other settings, seeds or statements than those that the recipe has now."""
    return recipe.claims is None or bool(result["digest"] != digest(recipe))
