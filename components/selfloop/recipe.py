"""A recipe: a loop, written once, run in three modes.

A recipe has two functions over stage calls. ``start`` makes what the first round needs. ``round`` turns what one round
left into what the next would begin with, its policies trained, and a decision about them. The machinery owns the rest:
it puts the trained policies in force or keeps the last ones, as the decision says, and records both in the lineage; it
runs the rounds at once, unrolls them into a pipeline, or puts a whole round into one component (fused).
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from kfp.dsl import Artifact, Model
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from selfloop.claims.declared import Claims
from selfloop.errors import UserError
from selfloop.lookup import imported, unknown
from selfloop.stage import Executor, Params, Stage, executed_by, is_page, overlaid, validated

START = "start"
"""A loop that goes on from nowhere."""
NAME = r"[\w.\- ]+"
"""What the name of a loop is made of."""


def structural(default: Any, **about: Any) -> Any:
    """A setting that shapes the graph: fixed when a pipeline is compiled, unlike those of the run's form."""
    return Field(default, json_schema_extra={"structural": True}, **about)


class Settings(BaseModel):
    """The settings of a recipe: what matters at the top, the parameters of each stage below.

    A stage parameter that has the name of a setting (``seed``, ``environment``) takes the setting's value unless it
    was set itself; a parameter named ``round`` takes the number of the round. ``shown`` are the stages'
    parameters that stand in the form of a compiled pipeline; what a recipe has not is left out.
    """

    shown: ClassVar[tuple[str, ...]] = (
        "propose.per_level",
        "draw.per_level",
        "generate.temperature",
        "generate.max_tokens",
        "finetune.method",
        "finetune.steps",
        "finetune.lr",
        "finetune.batch_size",
        "reinforce.steps",
        "reinforce.lr",
        "reinforce.batch_size",
        "evaluate.samples",
        "gate.confidence",
        "gate.margin",
    )

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    seed: int = Field(0, ge=0, description="Seed of everything random in the run.")
    rounds: int = structural(10, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("addition", description="The taskset with its protocol and verifier.")
    policy: str = Field(
        "scratch",
        description="The policy that it starts with: 'scratch', a directory, a model id of the Hub, s3://..., "
        "models:/NAME@ALIAS.",
    )
    model: str = Field("selfloop", description="Name of the loop in MLflow's registry.")
    origin: str = structural(
        "start", description="Where the loop goes on from: its own 'start', or a version as NAME/VERSION."
    )
    first: int = structural(1, ge=1, description="Number of the first round; a loop that goes on counts on.")

    _number: int = PrivateAttr(0)
    _unbound: Any = PrivateAttr(None)

    @field_validator("model")
    @classmethod
    def _names_a_loop(cls, model: str) -> str:
        if not re.fullmatch(NAME, model) or model.endswith(".moves"):
            raise PydanticCustomError("name", "Use letters, digits, '-', '_' and '.', and no '.moves' at the end")
        return model

    @field_validator("origin")
    @classmethod
    def _is_pinned(cls, origin: str) -> str:
        if origin != START and not re.fullmatch(rf"{NAME}/\d+(\+\d+)?", origin):
            raise PydanticCustomError(
                "origin",
                "Give 'start' or a version as NAME/VERSION; an alias is for the option --from of 'selfloop run'",
            )
        return origin

    @property
    def number(self) -> int:
        """The round that these settings are bound to; 0 is the start."""
        return self._number

    @property
    def unbound(self) -> typing.Self:
        """These settings as they were before they were bound to a round."""
        return self if self._unbound is None else self._unbound

    @classmethod
    def stages(cls) -> dict[str, type[Params]]:
        """The parameter classes of the stages, by name."""
        return {
            name: info.annotation
            for name, info in cls.model_fields.items()
            if inspect.isclass(info.annotation) and issubclass(info.annotation, Params)
        }

    @classmethod
    def fixed(cls) -> list[str]:
        """The settings that shape the graph."""
        about = {name: info.json_schema_extra for name, info in cls.model_fields.items()}
        return [name for name, extra in about.items() if isinstance(extra, dict) and extra.get("structural")]

    @classmethod
    def form(cls) -> dict[str, FieldInfo]:
        """The form of a compiled pipeline: the settings that do not shape the graph, then the parameters that are
        shown, each under a name as ``finetune.lr``.
        """
        top = {k: v for k, v in cls.model_fields.items() if k not in cls.stages() and k not in cls.fixed()}
        named = (dotted.partition(".") for dotted in cls.shown)
        found = {(stage, name): cls.stages()[stage].model_fields for stage, _, name in named if stage in cls.stages()}
        return top | {f"{stage}.{name}": fields[name] for (stage, name), fields in found.items() if name in fields}

    def bound(self, round: int) -> typing.Self:
        """These settings for one round, with the shared values filled into the stages' parameters."""
        shared = {name: getattr(self, name) for name in type(self).model_fields if name not in self.stages()}
        shared["round"] = round
        bound = self.model_copy(update={name: getattr(self, name).filled(shared) for name in self.stages()})
        bound._number, bound._unbound = round, self
        return bound

    def chosen(self) -> dict[str, Any]:
        """The settings as plain values, without the stage parameters that nobody set."""
        whole = {name: getattr(self, name) for name in type(self).model_fields}
        return {k: v.model_dump(exclude_unset=True) if isinstance(v, Params) else v for k, v in whole.items()}


S = typing.TypeVar("S", bound=Settings)


class RunParams(Params):
    """The parameters of a stage that needs all settings of a loop."""

    settings: str = Field("{}", description="The recipe's settings, as JSON.")
    round: int = Field(0, ge=0, description="The number of the round; 0 is the start.")


class Driver(Executor, Protocol):
    """An executor that also decides whether, and where, the next round happens."""

    def begins(self, round: int, goes_on: Any) -> bool:
        """Open a round; false ends the loop."""
        ...


@dataclass(frozen=True)
class Recipe(typing.Generic[S]):
    """A loop.

    ``turn`` is a ``NamedTuple``: the artifacts that go from round to round, the bool ``goes_on`` among them; ``roles``
    names the policies among them that the loop improves. ``round`` gives the next turn, with the candidate of each
    role, and the gate's decision: an artifact with ``promoted``, ``verdict`` and ``reason``. ``finish`` measures what
    the loop came to, where it runs in process. ``needs`` says which features of an environment the loop asks for;
    ``control`` are the settings of its control arm; ``claims`` say what its paper claims, and how that is measured.
    """

    name: str
    settings: type[S]
    start: Callable[[S], Any]
    round: Callable[[S, Any], tuple[Any, Any]]
    turn: type[Any]
    roles: tuple[str, ...] = ("champion",)
    finish: Callable[[S, Any], Mapping[str, Any]] | None = None
    paper: str = ""
    needs: Callable[[S], set[str]] = lambda settings: set()
    control: Mapping[str, Any] = field(default_factory=dict)
    claims: Claims | None = None

    def __post_init__(self) -> None:
        pages = [name for name, kind in self.state.items() if is_page(kind)]
        if pages:
            raise TypeError(
                f"'{pages[0]}' of recipe '{self.name}' is a page for people, which no round takes from another."
            )
        for role in self.roles:
            if self.state.get(role) is not Model:
                raise TypeError(f"Role '{role}' of recipe '{self.name}' is no Model in {self.turn.__name__}.")

    @property
    def summary(self) -> str:
        """The first line of the module that holds the recipe."""
        return (inspect.getdoc(inspect.getmodule(self.start)) or "").split("\n")[0]

    def resolve(self, *overrides: Mapping[str, Any]) -> S:
        """The settings after each override in turn. Raises ``UserError`` for what is unknown or out of range."""
        values = self.settings().chosen()
        for override in overrides:
            values = overlaid(values, override)
        return validated(self.settings, values, self.name)

    def check(self, settings: S) -> None:
        """Refuse, before anything starts, an environment that lacks what this loop asks for, and what a stage would
        refuse of the settings that it shares with others.
        """
        from selfloop.environments import find_environment

        environment = find_environment(settings.environment)
        lacking = self.needs(settings) - environment.offers
        if lacking:
            raise UserError(
                f"Recipe '{self.name}' cannot run on environment '{settings.environment}', which does not offer "
                f"{' and '.join(sorted(lacking))}: choose another with --environment."
            )
        bound = settings.bound(settings.first)
        for name, kind in settings.stages().items():
            validated(kind, getattr(bound, name).model_dump(), f"{self.name}.{name}").check()
        if settings.policy != "scratch":
            from selfloop.policy import FetchParams, check_source

            fetch = getattr(settings, "fetch", FetchParams())
            check_source(settings.policy, fetch.trust_remote_code)

    def drive(self, settings: S, driver: Driver) -> Any:
        """Run or trace the loop: the same in every mode. Returns what the last round left."""
        with executed_by(driver):
            driver.begins(settings.first - 1, True)
            turn = self.begin(settings.bound(settings.first - 1))
            for number in range(settings.first, settings.first + settings.rounds):
                if not driver.begins(number, turn.goes_on):
                    break
                turn = self.take_turn(settings.bound(number), turn)
        return turn

    def begin(self, settings: S) -> Any:
        """What the first round begins with: made by ``start``, or restored from a version of the registry."""
        if settings.origin == START:
            turn = self.start(settings)
            # in a pipeline the start is one stage, whose outputs are an artifact each
            return turn._replace(**{name: copy(getattr(turn, name)) for name in self.state})
        origin = {"origin": settings.origin, "environment": settings.environment}
        return self.turned(self.restore(self.restore.params.model_validate(origin)), goes_on=True)

    def take_turn(self, settings: S, last: Any) -> Any:
        """One round: its stages, then the promotion of its candidates, or of none."""
        made, decision = self.round(settings, last)
        given = {name: getattr(last, name) for name in self.state}
        given |= {f"next_{name}": getattr(made, name) for name in self.state}
        # promote takes what a round left as it was under two inputs: KFP's metadata store will refuse that
        after = self.promote.hand_over(self.run_params(settings), given | {"decision": decision})
        return made._replace(**{name: getattr(after, f"new_{name}") for name in self.state})

    def turned(self, outputs: Any, goes_on: Any) -> Any:
        """The turn whose artifacts are a stage's outputs, ``next_`` before their names."""
        return self.turn(**{name: getattr(outputs, f"next_{name}") for name in self.state}, goes_on=goes_on)

    @property
    def target(self) -> str:
        """Where a container finds this recipe: each recipe's module calls it ``recipe``."""
        return f"{self.start.__module__}:recipe"

    @cached_property
    def state(self) -> dict[str, type[Artifact]]:
        """The artifacts that go from round to round, by name."""
        hints = typing.get_type_hints(self.turn)
        return {name: kind for name, kind in hints.items() if name != "goes_on"}

    @staticmethod
    def run_params(settings: Settings) -> RunParams:
        """The settings as the parameters of a stage that needs all of them."""
        return RunParams(settings=json.dumps(settings.unbound.chosen()), round=settings.number)

    def settings_of(self, params: RunParams) -> S:
        """The settings that such parameters hold, bound to their round."""
        return self.resolve(json.loads(params.settings)).bound(params.round)

    @cached_property
    def promote(self) -> Stage:
        """The stage that ends a round."""
        from selfloop.promote import promote_stage

        return promote_stage(self)

    @cached_property
    def restore(self) -> Stage:
        """The stage that a loop begins with when it goes on from a version."""
        from selfloop.promote import restore_stage

        return restore_stage(self)

    @cached_property
    def resolver(self) -> Stage:
        """The stage that a pipeline begins with."""
        from selfloop.modes.resolving import resolve_stage

        return resolve_stage(self)

    @cached_property
    def fused_start(self) -> Stage:
        """``start`` as one stage."""
        from selfloop.modes.fused import fused_stage

        return fused_stage(self, "start")

    @cached_property
    def fused_round(self) -> Stage:
        """``round`` as one stage."""
        from selfloop.modes.fused import fused_stage

        return fused_stage(self, "round")


def recipes() -> dict[str, Recipe[Any]]:
    """Every recipe that comes with selfloop: each module of ``selfloop_recipes`` holds one, named ``recipe``."""
    import selfloop_recipes

    names = [info.name for info in pkgutil.iter_modules(selfloop_recipes.__path__) if not info.ispkg]
    found = [importlib.import_module(f"selfloop_recipes.{name}").recipe for name in names]
    return {recipe.name: recipe for recipe in found}


def find_recipe(name: str) -> Recipe[Any]:
    """A recipe by its name, by ``module:attribute``, or by the path of a file that defines ``recipe``."""
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise UserError(f"There is no file {name}: give the path of a file that defines 'recipe'.")
        sys.path.insert(0, str(path.parent))
        name = f"{path.stem}:recipe"
    if ":" in name:
        return load_recipe(name)
    known = recipes()
    if name not in known:
        raise unknown("recipe", name, known)
    return known[name]


def load_recipe(target: str) -> Recipe[Any]:
    """The recipe that ``module:attribute`` names."""
    found = imported("recipe", target)
    if not isinstance(found, Recipe):
        raise UserError(f"'{target}' is not a recipe: make it a selfloop.recipe.Recipe.")
    return found
