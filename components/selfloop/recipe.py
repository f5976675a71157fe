"""A recipe: a loop, written once, run in every mode.

A recipe says only what is its own: its settings, the state that goes from round to round, how that state begins
(``start``) and what a round makes of it (``improve``). The frame (``selfloop.loop``) owns the rest. A recipe knows no
mode: it is a few stage calls, which whoever drives the loop runs at once or traces into a pipeline.
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
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

from kfp.dsl import Artifact, Dataset, Model

from selfloop.claims.declared import Claims
from selfloop.decision import ANCHOR
from selfloop.errors import UserError
from selfloop.lookup import imported, unknown
from selfloop.settings import RunParams, Settings, overlaid
from selfloop.stages import is_page, validated
from selfloop.strategies import Added, Strategy, read_strategies

if typing.TYPE_CHECKING:
    from selfloop.environments import Environment

S = typing.TypeVar("S", bound=Settings)
NAME = re.compile("[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
"""What the name of a recipe is made of."""
FRAME: Mapping[str, type[Artifact]] = {
    "progress": Artifact,
    "seed_data": Dataset,
    "replay_pool": Dataset,
    "history": Artifact,
}
"""What the frame carries from round to round beside a recipe's own state, and beside whether to ``proceed``."""


@dataclass(frozen=True)
class Form:
    """A named setting of a recipe, such as that of another paper: ``settings`` are laid under what a person says, and
    ``needs`` are features that it asks of an environment beside those that the recipe does.
    """

    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Recipe(typing.Generic[S]):
    """A loop.

    ``state`` is a ``NamedTuple`` of artifacts that go from round to round. ``start(settings, policy)`` makes the first;
    ``improve(settings, now)`` turns what a round begins with into an ``Improved``. ``roles`` are the fields of the
    state that the loop improves and promotes, the first one by the gate's test: every ``Model`` that is not ``frozen``
    where none is named. ``compare(settings, candidate, champion, items)`` gives the results of both where the first
    role is no policy. ``needs`` says which features of an environment the loop asks for, ``forms`` are settings with a
    name, ``frame`` is a subclass of ``selfloop.loop.Loop`` for a loop that needs another, ``control`` are the settings
    of the control arm, ``claims`` say what its paper claims and how that is measured, and ``figures(settings, rounds,
    measured)`` what a whole run comes to, from its history and the last measurement.

    Raises ``UserError``, when it is defined, for a name, a state or roles that no loop can have.
    """

    name: str
    settings: type[S]
    state: type[Any]
    start: Callable[[S, Any], Any]
    improve: Callable[[S, Any], Any]
    roles: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    compare: Callable[[S, Any, Any, Any], Any] | None = None
    forms: Mapping[str, Form] = field(default_factory=dict)
    paper: str = ""
    needs: Callable[[S], set[str]] = lambda settings: set()
    frame: Callable[[Any], Any] | None = None
    figures: Callable[[S, Any, Mapping[str, Any]], Mapping[str, Any]] | None = None
    control: Mapping[str, Any] = field(default_factory=dict)
    claims: Claims | None = None
    module: str = field(default_factory=lambda: _defined_in(), init=False, compare=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UserError(
                f"'{self.name}' cannot be the name of a recipe: use letters and digits, with '-' and '_' between them, "
                "63 at most."
            )
        if not self.own:
            raise UserError(
                f"The state of recipe '{self.name}' is no NamedTuple with fields: make it one of artifacts."
            )
        for name, kind in self.own.items():
            if not (inspect.isclass(kind) and issubclass(kind, Artifact)) or is_page(kind):
                raise UserError(
                    f"'{name}' in the state of recipe '{self.name}' is {getattr(kind, '__name__', kind)}, which no "
                    "round takes from another: make it an Artifact, a Dataset or a Model."
                )
            if name in {*FRAME, ANCHOR, "proceed"}:
                raise UserError(f"'{name}' in the state of recipe '{self.name}' is the frame's own: call it otherwise.")
        models = tuple(name for name, kind in self.own.items() if kind is Model and name not in self.frozen)
        object.__setattr__(self, "roles", self.roles or models)
        for what, names in (("role", self.roles), ("frozen field", self.frozen)):
            for name in names:
                if name not in self.own:
                    where = f"field '{name}' in the state of recipe '{self.name}', where it is a {what},"
                    raise unknown(where, name, self.own)
        if not self.roles:
            raise UserError(f"Recipe '{self.name}' improves nothing: name a role, or let a Model stand in its state.")

    @cached_property
    def own(self) -> dict[str, type[Artifact]]:
        """The recipe's own state: the kinds of its artifacts by name."""
        return typing.get_type_hints(self.state) if hasattr(self.state, "_fields") else {}

    @property
    def title(self) -> str:
        """What the report calls the loop: the first line of the recipe's module, up to a colon."""
        return self.summary.partition(":")[0].rstrip(".") or self.name

    @property
    def summary(self) -> str:
        """The first line of the module that holds the recipe."""
        return (inspect.getdoc(sys.modules[self.module]) or "").split("\n")[0]

    @cached_property
    def target(self) -> str:
        """Where a container finds this recipe: the module that defines it, and the name that it has there."""
        return f"{self.module}:{(self._names or ['recipe'])[0]}"

    @property
    def _names(self) -> list[str]:
        return [name for name, value in vars(sys.modules[self.module]).items() if value is self]

    @property
    def identifier(self) -> str:
        """The name as part of a stage's."""
        return self.name.replace("-", "_")

    @property
    def label(self) -> str:
        """The name as Kubeflow Pipelines and Kubernetes take it."""
        return self.name.replace("_", "-").lower()

    def resolve(self, *overrides: Mapping[str, Any]) -> S:
        """The settings: the recipe's own, then those of the form, then each override in turn.

        Raises ``UserError`` for what is unknown or out of range.
        """
        form = next((given["form"] for given in reversed(overrides) if given.get("form")), "")
        if not isinstance(form, str):
            raise UserError(f"A form of recipe '{self.name}' is a name, not {form!r}: leave it out, or give one.")
        if form and not self.forms:
            raise UserError(f"Recipe '{self.name}' has no forms: leave out '{form}'.")
        if form and form not in self.forms:
            raise unknown(f"form of recipe '{self.name}'", form, self.forms)
        plain = self.settings()
        values = {name: getattr(plain, name) for name in self.settings.model_fields}
        for name in self.settings.stages():
            values[name] = {each: getattr(values[name], each) for each in values[name].model_fields_set}
        for override in (self.forms[form].settings if form else {}, *overrides):
            given = read_strategies(self.settings, override)
            values = overlaid(_with_strategies(values, plain, given), given)
        resolved = validated(self.settings, values, self.name)
        resolved._recipe = self.name
        return resolved

    def check(self, settings: S) -> None:
        """Refuse, before anything starts, an environment that lacks what this loop asks for, and what a stage would
        refuse of the settings that it shares with others.
        """
        from selfloop.environments import find_environment

        if not self._names:
            raise UserError(
                f"Recipe '{self.name}' has no name in the module {self.module}: let it stand at the top of a file, "
                "where containers find it."
            )
        environment = find_environment(settings.environment)
        form = self.forms.get(settings.form, Form(""))
        lacking = (self.needs(settings) | form.needs) - environment.offers
        if lacking:
            raise UserError(
                f"Recipe '{self.name}' cannot run on environment '{settings.environment}', which does not offer "
                f"{' and '.join(sorted(lacking))}: choose another with --environment."
            )
        of_round = settings.for_round(settings.first)
        self._check_shown(of_round, environment)
        for name, kind in settings.stages().items():
            validated(kind, getattr(of_round, name).model_dump(), f"{self.name}.{name}").check()
        settings.check_items()
        if settings.policy != "scratch":
            from selfloop.fetch import check_source

            check_source(settings.policy)

    @staticmethod
    def _check_shown(settings: Any, environment: Environment) -> None:
        """Refuse what asks a policy from scratch in a role that its base data never show."""
        from selfloop.roles import MARKS

        stages = settings.stages()
        if settings.policy != "scratch" or "base" not in stages:
            return
        shown = {role.rpartition("/")[2] for role in settings.base.roles}
        for name in stages:
            role = getattr(settings, name).asks_in
            if role in environment.roles and role not in shown and MARKS[role] not in environment.special_tokens:
                raise UserError(
                    f"The policy is asked in the role '{role}' by {name}, and its base is never shown it: put '{role}' "
                    "into base.roles."
                )

    @staticmethod
    def run_params(settings: Settings) -> RunParams:
        """The settings as the parameters of a stage that needs all of them."""
        return RunParams(settings=json.dumps(settings.run_settings.overrides()), round=settings.number)

    def settings_of(self, params: RunParams) -> S:
        """The settings that such parameters hold, for their round."""
        return self.resolve(json.loads(params.settings)).for_round(params.round)


def _with_strategies(values: dict[str, Any], plain: Settings, override: Mapping[str, Any]) -> dict[str, Any]:
    """Values with the default strategies, and lists of them, that an override changes in part, such as
    ``finetune.method.beta``.
    """
    for name in override.keys() & plain.stages().keys():
        changed = override[name].items() if isinstance(override[name], Mapping) else ()
        for key in (key for key, value in changed if isinstance(value, Mapping | Added) and key not in values[name]):
            if isinstance(default := getattr(getattr(plain, name), key, None), Strategy | list):
                values[name] = values[name] | {key: default}
    return values


def _defined_in() -> str:
    """The module whose code makes a recipe at this moment: the first frame outside of this one and of dataclasses."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "dataclasses"):
        frame = frame.f_back
    return str(frame.f_globals["__name__"]) if frame else __name__


def recipes() -> dict[str, Recipe[Any]]:
    """Every recipe that comes with selfloop, or with a package that has entry points of the group ``selfloop.recipes``.

    Each module of ``selfloop_recipes`` holds one or several.
    """
    from importlib.metadata import entry_points

    import selfloop_recipes

    found = _recipes_in(selfloop_recipes)
    found += [load_recipe(point.value) for point in entry_points(group="selfloop.recipes")]
    return {recipe.name: recipe for recipe in found}


def designs() -> dict[str, Recipe[Any]]:
    """The designs of claims beside those that recipes have, by the word that finds each: its module and name."""
    from selfloop_recipes import claims

    return {design.target: design for design in _recipes_in(claims)}


def _recipes_in(package: ModuleType) -> list[Recipe[Any]]:
    """What the modules of a package define, not what they import."""
    names = [info.name for info in pkgutil.iter_modules(package.__path__) if not info.ispkg]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    found = [(module, value) for module in modules for value in vars(module).values()]
    return [value for module, value in found if isinstance(value, Recipe) and value.module == module.__name__]


def find_recipe(name: str) -> Recipe[Any]:
    """A recipe by its name, by ``module:attribute``, or by the path of a file that defines ``recipe``."""
    if name.endswith(".py"):
        return load_recipe(f"{name}:recipe")
    if ":" in name:
        return load_recipe(name)
    known = recipes()
    if name not in known:
        raise unknown("recipe", name, known)
    return known[name]


def load_recipe(target: str) -> Recipe[Any]:
    """The recipe that ``module:attribute`` or ``file.py:attribute`` names."""
    found = imported("recipe", target)
    if not isinstance(found, Recipe):
        raise UserError(f"'{target}' is not a recipe: make it a selfloop.recipe.Recipe.")
    return found
