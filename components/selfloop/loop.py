"""The frame of a loop: what every round does around what a recipe does.

A recipe says ``start`` and ``improve``. The frame owns the base data, the policy that a loop begins with, the draw of
tasks and items, the evaluation, and ``close_round``: gate, schedule, report, lineage and promotion. What a recipe takes
from here are ``LoopSettings`` to extend, ``Now`` and ``Improved``, and the pieces that most rounds share
(``verify_and_filter``, ``verified``).
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from copy import copy
from functools import cache
from statistics import fmean
from typing import Any, NamedTuple, Protocol

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field

from selfloop.artifacts import read_json
from selfloop.evaluate import EvaluateParams, MeasureParams, evaluate_policies, measure_policy
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.finetune import PretrainParams, pretrain_policy
from selfloop.policy import FetchParams, fetch_policy
from selfloop.promote import GateParams, RestoreParams, close_stage, restore_stage
from selfloop.propose import BaseParams, DrawParams, Fixed, Schedule, draw_base
from selfloop.recipe import Recipe
from selfloop.report import BeginParams, ReportParams, begin_report
from selfloop.settings import START, Settings
from selfloop.stage import Executor, executed_by, outputs_named
from selfloop.verify import VerifyParams, askers, judge_rollouts, verify_rollouts

S = typing.TypeVar("S", bound="LoopSettings")


class LoopSettings(Settings):
    """The settings that every loop has; those of its own stages a recipe adds."""

    schedule: Schedule = Field(Fixed(), description="Which tasks a round has, and when the loop is over.")
    base: BaseParams = BaseParams()
    fetch: FetchParams = FetchParams()
    pretrain: PretrainParams = PretrainParams()
    draw: DrawParams = DrawParams()
    verify: VerifyParams = VerifyParams()
    filter: FilterParams = FilterParams()
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams()
    report: ReportParams = ReportParams()
    measure: MeasureParams = MeasureParams()


class Now(NamedTuple):
    """What a round begins with: the recipe's own state, its tasks, the items that policies are judged on, the labelled
    data of the base policy, and all that was kept so far.
    """

    state: Any
    tasks: Dataset
    eval_items: Dataset
    seed_data: Dataset
    replay_pool: Dataset


class Attempted(NamedTuple):
    """What a round tried, what the verifier thinks of it, and, where it was filtered, the examples that are kept."""

    tasks: Dataset
    rollouts: Dataset
    verdicts: Dataset
    audit: Dataset
    examples: Dataset | None = None


class Filtered(NamedTuple):
    """What a round tried, the examples that are kept of it, and the replay pool with these."""

    attempted: Attempted
    examples: Dataset
    replay_pool: Dataset


class Improved(NamedTuple):
    """What a recipe made of a round: the next state, with a candidate in the place of each role; what was attempted,
    where there is such evidence; and the replay pool, where it grew.
    """

    state: Any
    attempted: Attempted | None = None
    replay_pool: Dataset | None = None


class Driver(Executor, Protocol):
    """An executor that also decides whether, and where, the next round happens."""

    def begins(self, round: int, proceed: Any) -> bool:
        """Open a round; false ends the loop."""
        ...


def needing(*features: str) -> typing.Callable[[Any], set[str]]:
    """What a loop asks of an environment: these features, and an alphabet where its policy is made from scratch."""
    return lambda s: {*features, "alphabet"} if s.policy == "scratch" else set(features)


def verified(s: LoopSettings, rollouts: Dataset, tasks: Dataset, asked: Model | None = None) -> Attempted:
    """Attempts as the loop's verifier sees them; ``asked`` is the policy or the reward model that it may ask."""
    if asked is not None and askers(s.verify):
        seen = judge_rollouts(s.verify, policy=asked, tasks=tasks, rollouts=rollouts)
    else:
        seen = verify_rollouts(s.verify, tasks=tasks, rollouts=rollouts)
    return Attempted(tasks, rollouts, seen.verdicts, seen.audit)


def verify_and_filter(
    s: LoopSettings, now: Now, rollouts: Dataset, asked: Model | None = None, tasks: Dataset | None = None
) -> Filtered:
    """Attempts as the loop's verifier and selectors see them, and the replay pool with what is kept of them."""
    seen = verified(s, rollouts, tasks or now.tasks, asked)
    kept = filter_rollouts(s.filter, rollouts=rollouts, verdicts=seen.verdicts, kept=now.replay_pool)
    return Filtered(seen._replace(examples=kept.examples), kept.examples, kept.kept)


@cache
def state_of(recipe: Recipe[Any]) -> dict[str, type[Artifact]]:
    """The artifacts that go from round to round, by name: the recipe's own state, then the frame's."""
    frame = {"progress": Artifact, "seed_data": Dataset, "replay_pool": Dataset, "history": Artifact}
    return {**recipe.own, **frame}


@cache
def loop_state(recipe: Recipe[Any]) -> Any:
    """The ``NamedTuple`` of these artifacts, and whether the loop is to ``proceed``."""
    return outputs_named("LoopState", state_of(recipe) | {"proceed": bool})


def drive(recipe: Recipe[S], settings: S, driver: Driver, loop: Loop | None = None) -> Any:
    """Run or trace a loop: the same in every mode. Returns what the last round left."""
    loop = loop or Loop()
    with executed_by(driver):
        driver.begins(settings.first - 1, True)
        state = loop.begin(recipe, settings.for_round(settings.first - 1))
        for number in range(settings.first, settings.first + settings.rounds):
            if not driver.begins(number, state.proceed):
                break
            state = loop.take_round(recipe, settings.for_round(number), state)
    return state


class Loop:
    """How a loop begins and how it takes a round: by the calls of its stages, one by one."""

    def begin(self, recipe: Recipe[S], settings: S) -> Any:
        """What the first round begins with: made by the recipe, or restored from a version of the registry."""
        if settings.origin == START:
            return start(recipe, settings)
        params = RestoreParams(origin=settings.origin, environment=settings.environment)
        return loop_state(recipe)(*restore_stage(recipe, state_of(recipe))(params), proceed=True)

    def take_round(self, recipe: Recipe[S], settings: S, last: Any) -> Any:
        """One round: its stages, then its close."""
        return close_round(recipe, settings, last, *attempt(recipe, settings, last))


def start(recipe: Recipe[S], s: S) -> Any:
    """What a loop begins with: the labelled data, the policy, and the recipe's own state."""
    base = draw_base(s.base)
    if s.policy == "scratch":
        policy = pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
    else:
        policy = fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy
    own = recipe.start(s, policy)
    history = begin_report(BeginParams(title=recipe.title), champion=getattr(own, recipe.roles[0])).history
    # in a pipeline the start is one stage, whose outputs are an artifact each, also where two are the same policy
    return loop_state(recipe)(*map(copy, own), base.curriculum, base.examples, base.kept, history, True)


def attempt(recipe: Recipe[S], s: S, last: Any) -> tuple[Improved, Dataset | None]:
    """What a recipe makes of a round, and how its first role's candidate and champion do on the same items."""
    tasks, items = s.schedule.draw(s, last.progress)
    own = recipe.state(*(getattr(last, name) for name in recipe.own))
    made = recipe.improve(s, Now(own, tasks, items, last.seed_data, last.replay_pool))
    role = recipe.roles[0]
    candidate, champion = getattr(made.state, role), getattr(last, role)
    if recipe.compare is not None:
        return made, recipe.compare(s, candidate, champion, items)
    if recipe.own[role] is not Model:
        return made, None
    return made, evaluate_policies(s.evaluate, candidate, champion, items).results


def close_round(recipe: Recipe[S], s: S, last: Any, made: Improved, results: Dataset | None) -> Any:
    """The end of a round: one decision about its candidates, one write of it, and what the next round begins with."""
    evidence = (made.attempted._asdict() if made.attempted else {}) | {"results": results}
    after = dict(zip(recipe.own, made.state, strict=True)) | {"replay_pool": made.replay_pool}
    given = {name: getattr(last, name) for name in state_of(recipe)}
    given |= {f"next_{name}": value for name, value in after.items() if value is not given[name]}
    closed = close_stage(recipe, state_of(recipe))(
        recipe.run_params(s), **{name: value for name, value in (given | evidence).items() if value is not None}
    )
    kept = {name: getattr(closed, f"new_{name}", getattr(last, name)) for name in state_of(recipe)}
    return loop_state(recipe)(**kept, proceed=closed.proceed)


def measured(recipe: Recipe[S], s: S, last: Any) -> Mapping[str, Any]:
    """What a loop came to: its first role's accuracy on items that no decision was made on, in the recipe's figures."""
    told: Mapping[str, Any] = {}
    if recipe.own[recipe.roles[0]] is Model:
        policy = getattr(last, recipe.roles[0])
        told = measure_policy(s.measure, policy=policy, curriculum=last.progress).results.metadata
    if recipe.figures is not None:
        return recipe.figures(s, read_json(last.history.path)["rounds"], told)
    return {"accuracy": fmean(told["accuracy"].values())} if told else {}
