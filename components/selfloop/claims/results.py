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
from selfloop.claims.intervals import Interval, interval
from selfloop.claims.judging import Arm, Judgement, Value, judge, numbers
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
    cells = [(setup, arm) for setup in setups for arm in statement.arms]
    values = {(setup, arm): values_of(statement, [Run(setup, arm, s) for s in seeds], outcomes) for setup, arm in cells}
    runs = [Run(*cell, seed) for cell in cells for seed in seeds]
    there = [outcomes[run] for run in runs if run in outcomes]
    number, failed = sum(map(len, values.values())), sum(bool(each.failed) for each in there)
    if number == len(runs):
        return judge(statement, setups, values)
    nowhere = len(there) - failed - number
    counts = {"lacking": len(runs) - len(there), "failed": failed, f"without {statement.metric}": nowhere}
    note = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    nothing = Interval(math.nan, -math.inf, math.inf)
    arms = [
        Arm(*cell, interval(numbers(some), statement.bounds) if some else nothing, some)
        for cell, some in values.items()
    ]
    return Judgement("inconclusive", f"of {len(runs)} runs {note}", arms, [])


def values_of(statement: Statement, runs: Sequence[Run], outcomes: Outcomes) -> list[Value]:
    """What a statement's metric was in those of some runs that came to it."""
    found = [_value(statement, outcomes[run]) for run in runs if run in outcomes]
    return [each for each in found if each is not None]


def _value(statement: Statement, outcome: Outcome) -> Value | None:
    """What a statement's metric was in a run; none where it came to none."""
    if outcome.failed:
        return None
    value = outcome.metrics.get(statement.metric, math.nan)
    if statement.metric not in outcome.metrics and not outcome.halted:
        known = ", ".join(sorted(outcome.metrics))
        raise UserError(
            f"Claim '{statement.sentence}' is about '{statement.metric}', which the recipe's figures do not have: "
            f"name one of {known}."
        )
    if not math.isfinite(value):
        return None if statement.missing is None else Value(outcome.run.seed, statement.missing, censored=True)
    if statement.bounds and not statement.bounds[0] <= value <= statement.bounds[1]:
        raise UserError(
            f"Claim '{statement.sentence}' has the bounds {statement.bounds}, and '{statement.metric}' came to "
            f"{value:g} in run {outcome.run}: give bounds that hold, or none."
        )
    return Value(outcome.run.seed, value)


def check(claims: Claims, outcome: Outcome) -> None:
    """Raise ``UserError`` where a statement names a metric that a run has not, or bounds that its value breaks."""
    for statement in claims.statements:
        if outcome.run.setup in claims.setups_of(statement) and outcome.run.arm in statement.arms:
            _value(statement, outcome)


def digest(recipe: Recipe[Any]) -> str:
    """SHA-256 of all that the runs of a claim depend on in the recipe: their settings and seeds."""
    claims = recipe.claims
    assert claims is not None
    settings = {
        f"{setup}/{arm}": settings_of(recipe, Run(setup, arm, claims.seeds[0])).overrides()
        for setup, arm in claims.cells
    }
    return _digest({"settings": settings, "seeds": claims.seeds})


def statements_digest(claims: Claims) -> str:
    """SHA-256 of what is said of the runs, but for the wording."""
    return _digest([asdict(statement) | {"sentence": ""} for statement in claims.statements])


def _digest(whole: Any) -> str:
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def result(recipe: Recipe[Any], outcomes: Outcomes, command: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The result of a claim as JSON: words, numbers, what it took, where and with what."""
    claims = recipe.claims
    assert claims is not None
    return {
        "recipe": recipe.name,
        "command": command,
        "digest": digest(recipe),
        "seeds": list(seeds),
        **_said(claims, outcomes, seeds),
        "seconds": {f"{setup}/{arm}": mean_seconds(outcomes, setup, arm) for setup, arm in claims.cells},
        "halted": {str(run): each.halted for run, each in outcomes.items() if each.halted},
        "failed": {str(run): each.failed for run, each in outcomes.items() if each.failed},
        "code": sorted({each.code[:12] for each in outcomes.values() if each.code}),
        **about_the_machine(),
    }


def judged_anew(recipe: Recipe[Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with the words that the recipe's statements and today's rules give to its values; no run is made.

    A margin that a statement did not have when the runs were made is marked as late.
    Raises ``UserError`` where a statement needs values that the result does not have.
    """
    claims = recipe.claims
    assert claims is not None
    there = {(each["metric"], arm["setup"], arm["arm"]) for each in result["statements"] for arm in each["arms"]}
    for statement in claims.statements:
        needed = [(statement.metric, setup, arm) for setup in claims.setups_of(statement) for arm in statement.arms]
        for metric, setup, arm in needed:
            if (metric, setup, arm) not in there:
                raise UserError(
                    f"Claim '{statement.sentence}' is about '{metric}' of arm '{arm}' in setup '{setup}', of which the "
                    f"committed result has no values: make the runs with 'selfloop claim {recipe.name} --write'."
                )
    said = _said(claims, _outcomes(result), result["seeds"])
    before = {(each["margin"], each["sentence"]): each["late_margin"] for each in result["statements"]}
    for each in said["statements"]:
        stated = before.get((each["margin"], each["sentence"]), True)
        each["late_margin"] = each["margin"] is not None and stated
    return {**result, **said}


def _outcomes(result: Mapping[str, Any]) -> Outcomes:
    """The runs that a result was made of, as far as it holds them: the metrics of its statements."""
    metrics: dict[Run, dict[str, float]] = {}
    for statement in result["statements"]:
        for arm in statement["arms"]:
            values = {seed: value for seed, value in arm["values"].items() if int(seed) not in arm["censored"]}
            for seed in result["seeds"]:
                run = Run(arm["setup"], arm["arm"], seed)
                metrics.setdefault(run, {})[statement["metric"]] = values.get(str(seed), math.nan)
    halted, failed = result["halted"], result["failed"]
    return {
        run: Outcome(run, each, halted.get(str(run), ""), failed.get(str(run), "")) for run, each in metrics.items()
    }


def _said(claims: Claims, outcomes: Outcomes, seeds: Sequence[int]) -> dict[str, Any]:
    pairs = zip(claims.statements, judgements(claims, seeds, outcomes), strict=True)
    return {
        "statements_digest": statements_digest(claims),
        "statements": [_statement(statement, judgement) for statement, judgement in pairs],
    }


def _statement(statement: Statement, judgement: Judgement) -> dict[str, Any]:
    return {
        "sentence": statement.sentence,
        "metric": statement.metric,
        "expected": expected(statement),
        "margin": statement.margin,
        "late_margin": False,
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
        "comparisons": [
            {
                "setup": each.setup,
                "baseline": each.baseline,
                **_interval(each.interval),
                "worst": {"seed": each.worst.seed, "value": round(each.worst.value, 6)},
            }
            for each in judgement.comparisons
        ],
    }


def expected(statement: Statement) -> str:
    """What a statement says of its metric, as it is kept: ``higher``, ``within [0.0, 1.0]``, ..."""
    return f"within {list(statement.within)}" if statement.within else statement.better


def _interval(found: Interval) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in found._asdict().items()}


def mean_seconds(outcomes: Outcomes, setup: str, arm: str) -> float | None:
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
    """Whether a result is of other settings or seeds than those that the recipe has now: it needs other runs."""
    return recipe.claims is None or bool(result["digest"] != digest(recipe))


def is_judged(recipe: Recipe[Any], result: Mapping[str, Any]) -> bool:
    """Whether the words of a result are of the statements that the recipe has now."""
    return recipe.claims is not None and bool(result["statements_digest"] == statements_digest(recipe.claims))
