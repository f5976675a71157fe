"""The frame of a loop: what every round does around what a recipe does.

A recipe says ``start`` and ``improve``. The frame owns the base data, the policy that a loop begins with, the draw of
tasks and items, the evaluation, and ``close_round``: gate, schedule, report, lineage and promotion. What a recipe takes
from here are ``LoopSettings`` to extend, ``Now`` and ``Improved``, and the pieces that most rounds share
(``verify_and_filter``, ``verified``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import cache, cached_property
from statistics import fmean
from typing import Any, NamedTuple, Protocol, Self

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field, field_validator, model_validator

from selfloop.costs import EXAMPLES, Budget, Price, parsed
from selfloop.decision import ANCHOR, TARGET
from selfloop.evaluate import EvaluateParams, MeasureParams, check_vault, evaluate_policies, measure_policy
from selfloop.fetch import FetchParams, fetch_policy
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.finetune import PretrainParams, pretrain_policy
from selfloop.paired import fewest_to_keep
from selfloop.promote import GateParams, RestoreParams, check_items, close_stage, restore_stage, unseen
from selfloop.propose import BaseData, BaseParams, DrawParams, Fixed, Schedule, draw_base
from selfloop.recipe import FRAME, Recipe
from selfloop.records import Task
from selfloop.report import BeginParams, ReportParams, begin_report
from selfloop.report.history import read_history
from selfloop.settings import START, Settings, compile_time
from selfloop.stages import Executor, executed_by, outputs_named
from selfloop.verify import VerifyParams, verified_by


class LoopSettings(Settings):
    """The settings that every loop has; those of its own stages a recipe adds."""

    schedule: Schedule = Field(Fixed(), description="Which tasks a round has, and when the loop is over.")
    budget: str = Field("", description=f"What the loop may spend: {EXAMPLES['budget']}; empty: no end.")
    price: str = compile_time(
        "", description=f"What an hour of the hardware costs, in USD, such as {EXAMPLES['price']}; empty: not known."
    )
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

    @property
    def handed_on(self) -> dict[str, Any]:
        """What stages inherit, beside the round."""
        return {**super().handed_on, **self.gate.looks}

    def check_items(self) -> None:
        """Refuse a gate that the items of the first round cannot meet, and a vault that shows less than the gate does:
        the items of a suite of old skills.
        """
        of_round, items = self.for_round(self.first), self._first_items
        check_items(self.gate, items)
        if items is not None and self.gate.require != "nothing":
            least = fewest_to_keep(self.gate.tolerance, self.gate.confidence)
            check_vault(of_round.measure, sorted({item.level for item in items if item.suite == TARGET}), least)

    def unseen(self) -> list[str]:
        """What guards cannot see with the items of the first round, a sentence each."""
        return unseen(self.gate, self._first_items or ())

    @cached_property
    def _first_items(self) -> list[Task] | None:
        of_round = self.for_round(self.first)
        known = of_round.schedule.first_items(of_round)
        return None if known is None else list(known)

    @field_validator("budget")
    @classmethod
    def _is_a_budget(cls, budget: str) -> str:
        parsed(Budget, budget)
        return budget

    @field_validator("price")
    @classmethod
    def _is_a_price(cls, price: str) -> str:
        parsed(Price, price)
        return price

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if parsed(Budget, self.budget).usd and not any(parsed(Price, self.price).model_dump().values()):
            raise ValueError(
                f"a budget in USD needs prices: give [price] in the profile, or price={EXAMPLES['price']}."
            )
        return self

    @model_validator(mode="after")
    def _the_schedule_finds_what_it_takes(self) -> Self:
        for name in self.schedule.takes:
            if name not in self.stages():
                raise ValueError(f"the schedule '{self.schedule}' needs the settings '{name}': choose another.")
        return self


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
    """What a round tried, what the verifier thinks of it, and, where it was filtered, the examples that are kept.

    ``others`` is the audit of another policy's attempts at the same tasks, where there are any.
    """

    tasks: Dataset
    rollouts: Dataset
    verdicts: Dataset
    audit: Dataset
    examples: Dataset | None = None
    others: Dataset | None = None


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


def needing(*features: str) -> Callable[[Any], set[str]]:
    """What a loop asks of an environment: these features, and an alphabet where its policy is made from scratch."""
    return lambda s: {*features, "alphabet"} if s.policy == "scratch" else set(features)


def verified(
    s: LoopSettings,
    rollouts: Dataset,
    tasks: Dataset,
    policy: Model | None = None,
    reward_model: Model | None = None,
) -> Attempted:
    """Attempts as the loop's verifier sees them; ``policy`` and ``reward_model`` are what it may ask."""
    seen = verified_by(s.verify, tasks=tasks, rollouts=rollouts, policy=policy, reward_model=reward_model)
    return Attempted(tasks, rollouts, seen.verdicts, seen.audit)


def verify_and_filter(
    s: LoopSettings,
    now: Now,
    rollouts: Dataset,
    policy: Model | None = None,
    tasks: Dataset | None = None,
    reward_model: Model | None = None,
) -> Filtered:
    """Attempts as the loop's verifier and selectors see them, and the replay pool with what is kept of them."""
    seen = verified(s, rollouts, tasks or now.tasks, policy, reward_model)
    kept = filter_rollouts(s.filter, rollouts=rollouts, verdicts=seen.verdicts, replay_pool=now.replay_pool)
    return Filtered(seen._replace(examples=kept.examples), kept.examples, kept.replay_pool)


@cache
def state_of(recipe: Recipe[Any]) -> dict[str, type[Artifact]]:
    """The artifacts that go from round to round, by name: the recipe's own state, then the frame's,
    and the anchor, which is of the first role's kind.
    """
    return {**recipe.own, **FRAME, ANCHOR: recipe.own[recipe.roles[0]]}


@cache
def loop_state(recipe: Recipe[Any]) -> Any:
    """The ``NamedTuple`` of these artifacts, and whether the loop is to ``proceed``."""
    return outputs_named("LoopState", state_of(recipe) | {"proceed": bool})


class Loop:
    """How a recipe's loop begins, how it takes a round, and how it is measured: by the calls of its stages, one by one.

    A recipe that needs another frame names a subclass of this one.
    """

    def __init__(self, recipe: Recipe[Any]) -> None:
        self.recipe, self.kinds, self.state = recipe, state_of(recipe), loop_state(recipe)
        self.role = recipe.roles[0]

    def drive(self, settings: Any, driver: Driver) -> Any:
        """Run or trace the loop: the same in every mode. Returns what the last round left."""
        with executed_by(driver):
            driver.begins(settings.first - 1, True)
            state = self.begin(settings.for_round(settings.first - 1))
            for number in range(settings.first, settings.first + settings.rounds):
                if not driver.begins(number, state.proceed):
                    break
                state = self.take_round(settings.for_round(number), state)
        return state

    def begin(self, s: Any) -> Any:
        """What the first round begins with: made by the recipe, or restored from a version of the registry."""
        if s.origin == START:
            return self.start(s)
        params = RestoreParams(origin=s.origin, environment=s.environment, budget=s.budget)
        return self.state(*restore_stage(self.recipe, self.kinds)(params), proceed=True)

    def take_round(self, s: Any, last: Any) -> Any:
        """One round: its stages, then its close."""
        return self.close(s, last, *self.attempt(s, last))

    def start(self, s: Any) -> Any:
        """What a loop begins with: the labelled data, the policy, and the recipe's own state."""
        base = draw_base(s.base)
        own = self.recipe.start(s, self.policy(s, base))
        history = begin_report(
            BeginParams(title=self.recipe.title, price=s.price), champion=getattr(own, self.role)
        ).history
        # in a pipeline the start is one stage, whose outputs are an artifact each, also where two are the same policy
        anchor = copy(getattr(own, self.role))
        return self.state(*map(copy, own), base.progress, base.examples, base.replay_pool, history, anchor, True)

    def policy(self, s: Any, base: BaseData) -> Model:
        """The policy that a loop begins with: trained from scratch on the labelled data, or fetched."""
        if s.policy == "scratch":
            return pretrain_policy(s.pretrain, examples=base.examples, held_out=base.held_out).policy
        return fetch_policy(s.fetch.model_copy(update={"source": s.policy})).policy

    def attempt(self, s: Any, last: Any) -> tuple[Improved, Dataset | None]:
        """What the recipe makes of a round, and how its first role's candidate and champion do on the same items."""
        tasks, eval_items = s.schedule.draw(s, last.progress)
        own = self.recipe.state(*(getattr(last, name) for name in self.recipe.own))
        made = self.recipe.improve(s, Now(own, tasks, eval_items, last.seed_data, last.replay_pool))
        candidate, champion = getattr(made.state, self.role), getattr(last, self.role)
        if self.recipe.compare is not None:
            return made, self.recipe.compare(s, candidate, champion, eval_items)
        if self.kinds[self.role] is not Model or eval_items is None:
            return made, None
        return made, evaluate_policies(s.evaluate, candidate, champion, eval_items, last.progress, last.anchor).results

    def close(self, s: Any, last: Any, made: Improved, results: Dataset | None) -> Any:
        """The end of a round: one decision about its candidates, one write of it, and what the next round begins with.

        What a round left as it was is passed once: KFP's metadata store takes an artifact once for each task.
        """
        evidence = (made.attempted._asdict() if made.attempted else {}) | {"results": results}
        after = dict(zip(self.recipe.own, made.state, strict=True)) | {"replay_pool": made.replay_pool}
        given = {name: getattr(last, name) for name in self.kinds}
        given |= {f"next_{name}": value for name, value in after.items() if value is not given[name]}
        closed = close_stage(self.recipe, self.kinds)(self.recipe.run_params(s), **given, **evidence)
        return self.state(*(getattr(closed, f"new_{name}", given[name]) for name in self.kinds), proceed=closed.proceed)

    def measure(self, s: Any, last: Any) -> Mapping[str, Any]:
        """What the loop came to: its first role's accuracy on items that no decision was made on, in the recipe's
        figures.
        """
        measured: Mapping[str, Any] = {}
        if self.kinds[self.role] is Model and self.recipe.compare is None:
            policy = getattr(last, self.role)
            measured = measure_policy(s.measure, policy=policy, progress=last.progress).results.metadata
        if self.recipe.figures is not None:
            return self.recipe.figures(s, read_history(last.history.path)["rounds"], measured)
        return {"accuracy": fmean(measured["accuracy"].values())} if measured else {}


def loop_of(recipe: Recipe[Any]) -> Loop:
    """The loop of a recipe, in the frame that the recipe asks for."""
    return (recipe.frame or Loop)(recipe)
