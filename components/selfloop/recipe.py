"""A recipe: a loop, written once, run in three modes.

A recipe has two functions over stage calls. ``start`` makes what the first round needs, ``round`` turns what one round
left into what the next begins with. The machinery owns the rounds: it runs them at once, unrolls them into a pipeline,
or puts a whole round into one component (fused).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from kfp.dsl import Artifact
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from selfloop.errors import UserError
from selfloop.names import imported, unknown
from selfloop.stage import Executor, Params, Stage, executed_by, validated


def structural(default: Any, **about: Any) -> Any:
    """A setting that shapes the graph: fixed when a pipeline is compiled, unlike those of the run's form."""
    return Field(default, json_schema_extra={"structural": True}, **about)


class Settings(BaseModel):
    """The settings of a recipe: what matters at the top, the parameters of each stage below.

    A stage parameter that has the name of a setting (``seed``, ``environment``) takes the setting's value unless it
    was set itself; a parameter named ``round`` takes the number of the round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    seed: int = Field(0, ge=0, description="Seed of everything random in the run.")
    rounds: int = structural(10, ge=1, le=1000, description="Rounds at most.")
    environment: str = structural("addition", description="The taskset with its protocol and verifier.")
    policy: str = structural(
        "scratch", description="Where the loop starts: 'scratch', a directory, or a model id of the Hub."
    )

    _number: int = PrivateAttr(0)
    _unbound: Any = PrivateAttr(None)

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
    def form(cls) -> list[str]:
        """The settings that stay open in a compiled pipeline, for the form in the UI."""
        return [
            name
            for name, info in cls.model_fields.items()
            if name not in cls.stages() and not (info.json_schema_extra or {}).get("structural")  # type: ignore[union-attr]
        ]

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


class Driver(Executor, Protocol):
    """An executor that also decides whether, and where, the next round happens."""

    def begins(self, round: int, goes_on: Any) -> bool:
        """Open a round; false ends the loop."""
        ...


@dataclass(frozen=True)
class Recipe(typing.Generic[S]):
    """A loop.

    ``turn`` is a ``NamedTuple``: the artifacts that go from round to round, the bool ``goes_on`` among them. ``finish``
    measures what the loop came to, where it runs in process. ``needs`` says which features of an environment the loop
    asks for; ``control`` are the settings of its control arm.
    """

    name: str
    settings: type[S]
    start: Callable[[S], Any]
    round: Callable[[S, Any], Any]
    turn: type[Any]
    finish: Callable[[S, Any], Mapping[str, Any]] | None = None
    paper: str = ""
    needs: Callable[[S], set[str]] = lambda settings: set()
    control: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the module that holds the recipe."""
        return (inspect.getdoc(inspect.getmodule(self.start)) or "").split("\n")[0]

    def resolve(self, *overrides: Mapping[str, Any]) -> S:
        """The settings after each override in turn. Raises ``UserError`` for what is unknown or out of range."""
        values = self.settings().chosen()
        for override in overrides:
            values = _merged(values, override)
        return validated(self.settings, values, self.name)

    def check(self, settings: S) -> None:
        """Refuse, before anything starts, an environment that lacks what this loop asks for."""
        from selfloop.environments import find_environment

        environment = find_environment(settings.environment)
        lacking = self.needs(settings) - environment.offers
        if lacking:
            raise UserError(
                f"Recipe '{self.name}' cannot run on environment '{settings.environment}', which does not offer "
                f"{' and '.join(sorted(lacking))}: choose another with --environment."
            )
        if settings.policy != "scratch":
            from selfloop.policy import check_source

            check_source(settings.policy)

    def drive(self, settings: S, driver: Driver) -> Any:
        """Run or trace the loop: the same in every mode. Returns what the last round left."""
        with executed_by(driver):
            driver.begins(0, True)
            turn = self.start(settings.bound(0))
            for number in range(1, settings.rounds + 1):
                if not driver.begins(number, turn.goes_on):
                    break
                turn = self.round(settings.bound(number), turn)
        return turn

    @property
    def target(self) -> str:
        """Where a container finds this recipe: each recipe's module calls it ``recipe``."""
        return f"{self.start.__module__}:recipe"

    @cached_property
    def carried(self) -> dict[str, type[Artifact]]:
        """The artifacts that go from round to round, by name."""
        hints = typing.get_type_hints(self.turn)
        return {name: kind for name, kind in hints.items() if name != "goes_on"}

    @cached_property
    def fused_start(self) -> Stage:
        """``start`` as one stage."""
        from selfloop.fused import fused_stage

        return fused_stage(self, "start")

    @cached_property
    def fused_round(self) -> Stage:
        """``round`` as one stage."""
        from selfloop.fused import fused_stage

        return fused_stage(self, "round")


def _merged(values: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in override.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if nested else value
    return merged


def recipes() -> dict[str, Recipe[Any]]:
    """Every recipe that comes with selfloop: each module of ``selfloop_recipes`` holds one, named ``recipe``."""
    import selfloop_recipes

    names = [info.name for info in pkgutil.iter_modules(selfloop_recipes.__path__)]
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
