"""``evaluate_policies``: candidate and champion on the same items. ``measure_policy``: how far a policy gets."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any, NamedTuple, Self

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field, model_validator

from selfloop.artifacts import read_json
from selfloop.decision import ANCHOR, CANDIDATE, CHAMPION, CONFIRM, TARGET
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.evaluate.metrics import accuracy_by_level, flips, solved_levels
from selfloop.generate import DecodingParams, GenerateParams
from selfloop.generate.draw import one_role
from selfloop.generate.engines import Score
from selfloop.generate.forks import Source, Window, side_by_side
from selfloop.generate.windows import Tally
from selfloop.paired import ROUNDING, better, bounds, by_unit, paired
from selfloop.records import ItemResult, Rollout, Task, Writer, batched, rows, to_batch, with_final_text, writing
from selfloop.resources import Resources
from selfloop.seeds import STREAM, seed_for
from selfloop.split import VAULT, draw_items, share_of
from selfloop.stages import stage
from selfloop.verify import Context, Verifier, VerifyParams
from selfloop.verify.contract import called, said
from selfloop.verify.verifiers.exact import Exact

CONFIDENCE, MEASURED = 0.95, 9_999
"""How sure each bound of a measurement is, and the draws that it is made of."""


class AnswerParams(DecodingParams):
    """An item is answered greedily, once; or several times, and then every sample is drawn."""

    inherits = frozenset({"environment", "seed", "round"})

    environment: str = Field("addition", description="The taskset that made the items.")
    verifier: Verifier = Field(Exact(), description="What says whether an answer is right; one that asks no model.")
    samples: int = Field(1, ge=1, description="Samples of an item: one is greedy, several are all drawn.")
    temperature: float = Field(1.0, gt=0, description="Temperature at which several samples are drawn.")
    score: Score = Field("nothing", description="What is noted of each sample; nothing reads it.")
    seed: int = Field(0, ge=0, description="Seed of the samples where there are several.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")

    @model_validator(mode="after")
    def _asks_no_model(self) -> Self:
        if self.verifier.wants:
            raise UserError(
                f"{self.verifier.asking}, and answers are graded without one: choose another verifier here."
            )
        return self


class EvaluateParams(AnswerParams):
    """How items are answered, and when those of the second look are."""

    inherits = frozenset({"screen", "margin"})

    screen: float = Field(0.2, ge=0, le=1, description="P-value of the first look up to which a second one follows.")
    margin: float = Field(0.0, ge=-1, le=1, description="The gain that this p-value is of: one above this.")


class MeasureParams(AnswerParams):
    """Every level from 1 to some beyond the frontier, on items that no decision of the loop was made on."""

    inherits = frozenset({"seed"})

    levels: list[int] = Field(
        [], description="Levels to measure; where none is named, 1 to some beyond the frontier, or those of its items."
    )
    per_level: int = Field(256, ge=1, description="Items of each level.")
    beyond: int = Field(12, ge=0, description="Levels beyond the frontier that are measured too.")
    solved: float = Field(0.95, gt=0, le=1, description="Exact match at which a level counts as solved.")
    seed: int = Field(0, ge=0, description="Seed of the items, and of the samples where there are several.")


class Evaluation(NamedTuple):
    """How candidate and champion answered each item."""

    results: Dataset


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def evaluate_policies(
    out: Evaluation,
    params: EvaluateParams,
    candidate: Model,
    champion: Model,
    eval_items: Dataset,
    progress: Artifact,
    anchor: Model | None = None,
) -> None:
    """Answer the same held-out items with candidate and champion; those of a second look where the first passes.

    They are left alone, too, where nothing of the loop's error budget is left that a second look could confirm with.
    Where the first look passes, the anchor answers the items of the guard suites, if it is another than the champion.
    """
    items = list(rows(eval_items.path, Task))
    first, second = ([item for item in items if (item.suite == CONFIRM) is later] for later in (False, True))
    with writing(out.results.path, ItemResult) as table:
        both = {CHAMPION: champion, CANDIDATE: candidate}
        seen = _answered_by(params, both, first, table)
        if not _passes(params, seen):
            return
        if anchor is not None and anchor.metadata["digest"] != champion.metadata["digest"]:
            _answered_by(params, {ANCHOR: anchor}, [item for item in first if item.suite != TARGET], table)
        if can_confirm(read_json(progress.path)):
            _answered_by(params, both, second, table)


def _answered_by(
    params: EvaluateParams, policies: Mapping[str, Model], items: Sequence[Task], table: Writer
) -> list[ItemResult]:
    """Answer items with each of these policies. Returns the answers to the target's."""
    tally, seen = Tally(len(policies) * len(items) * params.samples, "answers"), list[ItemResult]()
    for answered in _answers(params, policies, items, tally):
        table.write(answered)
        seen += [each for each in answered if each.suite == TARGET]
    return seen


def _passes(params: EvaluateParams, seen: Sequence[ItemResult]) -> bool:
    """Whether a candidate looks better on the first look's items, where it is asked."""
    if not seen or not params.screen:
        return False
    return better(paired(seen)[TARGET], params.margin).p_value <= params.screen + ROUNDING


def can_confirm(progress: Mapping[str, Any]) -> bool:
    """Whether a loop with this progress has a level left with which a look can confirm."""
    return bool(progress.get("gate", {"next": 1})["next"])


class Measurement(NamedTuple):
    """How the policy answered each item."""

    results: Dataset


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def measure_policy(out: Measurement, params: MeasureParams, policy: Model, progress: Artifact) -> None:
    """Measure exact match at every level up to some beyond the frontier, on the problems of the vault.

    The results' metadata hold the ``accuracy`` of each level; its one-sided ``bounds``, each at 0.95, with the items of
    a cluster as one; the ``items`` that it is of; and up to which level all are ``solved``. Where items have several
    samples, ``flips`` say how likely two of them say different things, ``reached`` is the share of items that one of
    them solves, and ``solutions`` are how many different completions of an item are right; ``traits`` are means of what
    else the environment tells of an answer.
    """
    environment = find_environment(params.environment)
    levels = params.levels or levels_of(read_json(progress.path), params.beyond)
    items = [
        task._replace(suite="measure")
        for level in environment.levels_among(levels)
        for task in draw_items(environment, VAULT, level, params.per_level, seed_for(params, "measure", level))
    ]
    tally = Tally(len(items) * params.samples, "answers")
    with writing(out.results.path, ItemResult) as table:
        for answered in _answers(params, {CHAMPION: policy}, items, tally):
            table.write(answered)
    accuracy = accuracy_by_level(rows(out.results.path, ItemResult))["champion"]
    solved = solved_levels(accuracy, params.solved)
    answers: dict[int, list[ItemResult]] = defaultdict(list)
    for answer in rows(out.results.path, ItemResult):
        answers[answer.level].append(answer)
    found = {str(level): by_unit((each, float(each.ok)) for each in of_it) for level, of_it in answers.items()}
    out.results.metadata.update(
        solved=solved,
        accuracy={str(k): v for k, v in accuracy.items()},
        bounds={level: bounds(units, CONFIDENCE, MEASURED, (0.0, 1.0)) for level, units in found.items()},
        items=dict(Counter(str(item.level) for item in items)),
        **({"flips": _flips(answers), **_solutions(answers)} if params.samples > 1 else {}),
        **_traits(environment, chain.from_iterable(answers.values())),
    )


def _traits(environment: Environment, answers: Iterable[ItemResult]) -> dict[str, dict[str, float]]:
    """The means of the numbers that describe answers, where an environment tells some."""
    told = [found for each in answers if (found := environment.traits(each.completion))]
    return {"traits": {name: fmean(each[name] for each in told) for name in told[0]}} if told else {}


def _flips(answers: Mapping[int, Sequence[ItemResult]]) -> dict[str, float]:
    """How likely two answers to an item of a level say different things."""
    found = {}
    for level, of_it in answers.items():
        said = defaultdict[str, list[str]](list)
        for each in of_it:
            said[each.task].append(each.completion if each.said is None else each.said)
        found[str(level)] = fmean(map(flips, said.values()))
    return found


def _solutions(answers: Mapping[int, Sequence[ItemResult]]) -> dict[str, dict[str, float]]:
    """Of each level the share of items with a right sample, and the mean number of different right ones."""
    reached, solutions = dict[str, float](), dict[str, float]()
    for level, of_it in answers.items():
        right: dict[str, set[str]] = {each.task: set() for each in of_it}
        for each in of_it:
            right[each.task] |= {each.completion} if each.ok else set()
        reached[str(level)] = fmean(map(bool, right.values()))
        solutions[str(level)] = fmean(map(len, right.values()))
    return {"reached": reached, "solutions": solutions}


def check_vault(params: MeasureParams, levels: Iterable[int], least: float) -> None:
    """Raise ``UserError`` where the vault has fewer problems than ``least`` of the levels that are measured, and fewer
    than are asked for; ``levels`` are those of a loop that names none. The sentence says the number that would do.
    """
    environment = find_environment(params.environment)
    measured = environment.levels_among(params.levels or levels)
    wanted = int(min(least, params.per_level * len(measured)))
    there = 0
    for level in measured:
        there += len(draw_items(environment, VAULT, level, min(params.per_level, wanted - there), 0))
        if there >= wanted:
            return
    needed, share = wanted - there, share_of(environment, VAULT, measured[-1])
    whole = "those that it keeps apart" if environment.apart else "all"
    raise UserError(
        f"The vault of environment '{params.environment}', one of {1 / share:.0f} problems of {whole}, has {there} of "
        f"the levels {', '.join(map(str, measured))}, too few to measure what a loop comes to: {wanted} would do, "
        f"which some {math.ceil(needed / share)} more problems give it."
    )


def levels_of(progress: Mapping[str, Any], beyond: int) -> list[int]:
    """The levels to measure: those up to some beyond the frontier, or those that a loop without one is judged on."""
    if "frontier" in progress:
        return list(range(1, progress["frontier"] + beyond + 1))
    return sorted(map(int, progress["accuracy"]))


def _answers(
    params: AnswerParams, policies: Mapping[str, Model], items: Sequence[Task], tally: Tally
) -> Iterator[list[ItemResult]]:
    """The answers to some items, those of one policy after those of another; all are drawn side by side."""
    decoding = GenerateParams.asking_as(
        params,
        seed=seed_for(params, "evaluate"),
        round=params.round,
        greedy_first=params.samples == 1,
    )
    parts = list(batched((item._replace(attempts=params.samples) for item in items), decoding.window))
    asked = [(name, part) for name in policies for part in parts]
    sources = {name: Source(policy.path, policy.metadata["digest"]) for name, policy in policies.items()}
    windows = [Window(sources[name], part) for name, part in asked]
    for (name, part), drawn in zip(asked, side_by_side(decoding, windows, tally.add), strict=True):
        one_role(drawn)
        of_drawn = [item for item in part for _ in range(params.samples)]
        yield [
            ItemResult(
                name,
                item.suite,
                item.level,
                item.id,
                answer.attempt,
                good,
                answer.completion,
                item.seed,
                item.cluster,
                said,
            )
            for item, answer, (good, said) in zip(of_drawn, drawn, graded(params, of_drawn, drawn), strict=True)
        ]


def graded(
    params: AnswerParams, items: Sequence[Task], answers: Sequence[Rollout]
) -> Iterator[tuple[bool, str | None]]:
    """Whether each of some answers is right, by the verifier, and what it says, where items have several samples; one
    of which the verifier has no opinion is not right.
    """
    verify = VerifyParams(environment=params.environment, verifier=params.verifier)
    given = with_final_text(to_batch(Rollout, answers))
    context = Context(verify, find_environment(params.environment), [given])
    ok, _, _ = called(params.verifier, given, to_batch(Task, items), context)
    answered = said(given, context.environment).to_pylist() if params.samples > 1 else [None] * len(answers)
    return zip(map(bool, ok.to_pylist()), answered, strict=True)
