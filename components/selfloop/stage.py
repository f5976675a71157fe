"""A stage, written once.

From one typed function come the plain call, the KFP component with a flat, described signature, the container's entry
point and the documentation::

    @stage(image="generate", resources=Resources(gpu=1))
    def generate_rollouts(params: GenerateParams, policy: Input[Model], tasks: Input[Dataset],
                          rollouts: Output[Dataset]) -> None:
        \"\"\"Draw a group of rollouts per task from the policy.\"\"\"

Called with all its artifacts, a stage runs. Called without its outputs, it asks the executor in force: the one that
runs it at once (``inprocess``) or the one that traces it into a pipeline (``pipeline``).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import linecache
import resource
import shutil
import time
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from kfp.dsl import HTML, Artifact, Markdown, Metrics
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticUndefined

from selfloop import artifacts
from selfloop.errors import UserError, disk_is_full
from selfloop.lookup import imported, unknown
from selfloop.resources import Resources
from selfloop.strategies import Strategy

KINDS = ("Artifact", "Dataset", "Model", "HTML", "Markdown", "Metrics")
SCALARS: Mapping[type, str] = {int: "int", float: "float", str: "str", bool: "bool"}


INHERITED = ("seed", "round", "environment", "engine")
"""What a stage's parameters may inherit from the settings of a loop."""


class Params(BaseModel):
    """The parameters of a stage: frozen, validated, no unknown keys, and flat, so that KFP can express them.

    ``inherits`` names those that take the loop's setting of the same name where they were not set themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    inherits: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **given: Any) -> None:
        """Refuse to inherit what no loop hands on, or what is no parameter here."""
        for name in cls.inherited():
            if name not in INHERITED or name not in cls.model_fields:
                raise TypeError(f"{cls.__name__} cannot inherit '{name}': loops hand on {', '.join(INHERITED)}.")

    @classmethod
    def inherited(cls) -> set[str]:
        """The names in ``inherits`` of this class and of those that it extends."""
        return {name for each in cls.__mro__ for name in each.__dict__.get("inherits", ())}

    def inherit(self, shared: Mapping[str, Any]) -> typing.Self:
        """These parameters, where those that are inherited and were not set take the shared value."""
        taken = self.inherited() - self.model_fields_set
        return self.model_copy(update={name: shared[name] for name in taken & shared.keys()})


class Outputs:
    """A stage call's outputs by name, as attributes: ``generate_rollouts(...).rollouts``.

    Holds artifacts when the stage ran, channels when it was traced; ``returned`` is the stage's return value.
    """

    def __init__(self, named: dict[str, Any], returned: Any = None) -> None:
        self.named, self.returned = named, returned

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["named"][name]
        except KeyError:
            raise AttributeError(f"This stage has no output '{name}', only {', '.join(self.named)}.") from None


class Executor(Protocol):
    """What a stage call without outputs is handed to."""

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Outputs:
        """Run or trace one stage."""
        ...

    def spread(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        """Run or trace a stage once for each of its ``params.shards``. Returns the list of its one output."""
        ...


_executor: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def executed_by(executor: Executor) -> Iterator[None]:
    """Hand the stage calls in this block to ``executor``."""
    token = _executor.set(executor)
    try:
        yield
    finally:
        _executor.reset(token)


@dataclass(frozen=True)
class Stage:
    """One typed function and what was read off its signature. ``target`` is where a container finds it; one with
    ``effects`` changes what is outside of its outputs, as a registry, and so every run does it anew.
    """

    name: str
    target: str
    function: Callable[..., bool | None]
    params: type[Params]
    inputs: Mapping[str, type[Artifact]]
    outputs: Mapping[str, type[Artifact]]
    returns: bool = False
    effects: bool = False
    many: frozenset[str] = frozenset()
    joined_by: Stage | None = None
    image: str = "base"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for name, info in self.params.model_fields.items():
            kfp_type(info.annotation, f"Parameter '{name}' of stage '{self.name}'")
            if not info.description:
                raise TypeError(f"Parameter '{name}' of stage '{self.name}' has no description: give its Field one.")
        names = [*self.inputs, *self.outputs, *self.params.model_fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise TypeError(f"Stage '{self.name}' has more than one input, output or parameter named '{twice[0]}'.")

    @property
    def summary(self) -> str:
        """The first line of the stage's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def verb(self) -> str:
        """The short name that progress and pipelines show: ``generate`` for ``generate_rollouts``."""
        return self.name.split("_")[0]

    def __call__(self, params: Params, /, **given: Any) -> Outputs:
        """Run with all artifacts given, or hand the call to the executor in force.

        Raises ``TypeError`` for artifacts that do not fit the signature, ``UserError`` for what a user can mend.
        """
        missing, strange = set(self.inputs) - set(given), set(given) - set(self.inputs) - set(self.outputs)
        if missing or strange or not isinstance(params, self.params):
            raise TypeError(
                f"{self.name} takes {self.params.__name__}, inputs {', '.join(self.inputs) or 'none'} and outputs "
                f"{', '.join(self.outputs)}; missing: {', '.join(sorted(missing)) or 'none'}; "
                f"not known: {', '.join(sorted(strange)) or 'none'}."
            )
        if set(self.outputs) <= set(given):
            return Outputs({name: given[name] for name in self.outputs}, self.run(params, given))
        executor = _executor.get()
        if executor is None:
            raise TypeError(f"{self.name} was called without its outputs and outside a recipe: give it all artifacts.")
        if self.joined_by is not None and getattr(params, "shards", 1) > 1:
            joined = self.joined_by(self.joined_by.params(), parts=executor.spread(self, params, given))
            return Outputs(dict(zip(self.outputs, joined.named.values(), strict=True)))
        return executor.call(self, params, given)

    def run(self, params: Params, given: Mapping[str, Any]) -> bool | None:
        """Check the inputs, run the function, seal the outputs: each is complete afterwards, or absent."""
        for name in self.inputs:
            for artifact in each(given[name]):
                manifest = artifacts.check(artifact.path)
                # what KFP hands on has turned integers into floats
                artifact.metadata.update(manifest.metadata | {"digest": manifest.digest})
        inputs = {name: digest_of(given[name]) for name in self.inputs}
        for name, kind in self.outputs.items():
            _make_room(Path(given[name].path), kind)
        began, clock = time.time(), time.perf_counter()
        try:
            returned = self.function(params, **given)
            seconds = time.perf_counter() - clock
            for name, kind in self.outputs.items():
                if kind is Metrics:  # KFP shows their metadata and needs no file; who runs the stage does
                    Path(given[name].path).write_text(json.dumps(given[name].metadata, sort_keys=True))
                elif not is_page(kind):
                    self._seal(given[name], kind, params, inputs, {"began": began, "seconds": seconds})
        except Exception as error:
            if disk_is_full(error):
                where = Path(given[next(iter(self.outputs))].path)
                raise UserError(
                    f"The disk that holds {where} is full: free some space and run the same command again, "
                    "finished stages are kept."
                ) from error
            raise
        return returned

    def _seal(
        self, output: Artifact, kind: type[Artifact], params: Params, inputs: dict[str, str], moment: dict[str, Any]
    ) -> None:
        place = Path(output.path)
        place.mkdir(parents=True, exist_ok=True)
        if (place / artifacts.MANIFEST).exists():  # handed on: it is sealed already
            manifest = artifacts.manifest_of(place)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            moment = artifacts.sidecar_of(place) | {"stage": self.name, "peak_bytes": peak, **moment}
            artifacts.write_json(place, moment, artifacts.SIDECAR)
            manifest = artifacts.seal(
                place,
                kind.__name__,
                stage=self.name,
                params=params.model_dump(mode="json"),
                inputs=inputs,
                metadata=dict(output.metadata),
            )
        output.metadata.update(manifest.metadata)
        output.metadata["digest"] = manifest.digest

    @property
    def sides(self) -> list[str]:
        """Its artifacts as a KFP component declares them: inputs, then outputs."""
        kinds = {name: kind.__name__ for name, kind in self.inputs.items()}
        inputs = [f"{name}: Input[{f'List[{k}]' if name in self.many else k}]" for name, k in kinds.items()]
        return inputs + [f"{name}: Output[{kind.__name__}]" for name, kind in self.outputs.items()]

    @cached_property
    def signature(self) -> str:
        """The flat signature of the KFP component, as source: inputs, outputs, then parameters with defaults."""
        parts, required, optional = self.sides, [], []
        for name, info in self.params.model_fields.items():
            annotation = kfp_type(info.annotation, name)
            default = as_plain(info.get_default(call_default_factory=True))
            if default is PydanticUndefined:
                required.append(f"{name}: {annotation}")
            else:
                optional.append(f"{name}: {annotation} = {default!r}")
        return f"({', '.join(parts + required + optional)})" + (" -> bool" if self.returns else "")

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Its parameters as they are documented: name, type, default, description."""
        made = []
        for name, info in self.params.model_fields.items():
            default = as_plain(info.get_default(call_default_factory=True))
            shown = "required" if default is PydanticUndefined else json.dumps(default)
            choices = typing.get_args(info.annotation) if typing.get_origin(info.annotation) is Literal else ()
            kind = " or ".join(map(json.dumps, choices)) or kfp_type(info.annotation, name)
            made.append((name, kind, shown, info.description or ""))
        return made

    def component(self, base_image: str) -> Any:
        """The KFP component: a flat, typed, described function whose body only calls into this package."""
        lines = [inspect.getdoc(self.function) or self.name, "", "Args:"]
        lines += [f"    {name}: {info.description}" for name, info in self.params.model_fields.items()]
        body = f"from selfloop.modes.pods import enter\n\n    return enter({self.target!r}, locals())"
        return component(self.name, self.signature, "\n".join(lines), body, base_image)


def component(name: str, signature: str, described: str, body: str, base_image: str) -> Any:
    """A KFP component of a function that is written here: KFP reads its source, and runs it in the container."""
    from kfp import dsl

    text = "\n".join(f"    {line}" if line else "" for line in described.split("\n"))
    source = f'def {name}{signature}:\n    r"""{text.strip()}\n    """\n    {body}\n'
    filename = f"<selfloop component {hashlib.sha256(source.encode()).hexdigest()}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = {kind: getattr(dsl, kind) for kind in ("Input", "Output", *KINDS)}
    namespace |= {"List": typing.List, "Dict": typing.Dict}  # noqa: UP006 (the names that KFP's runtime offers)
    exec(compile(source, filename, "exec", dont_inherit=True), namespace)
    return dsl.component(namespace[name], base_image=base_image, install_kfp_package=False)


def stage(
    image: str = "base", resources: Resources | None = None, joined_by: Stage | None = None
) -> Callable[[Callable[..., bool | None]], Stage]:
    """Make a stage of a function ``(params: P, name: Input[...], ..., name: Output[...]) -> None | bool``.

    Raises ``TypeError``, when the function is defined, for a parameter that KFP cannot express.
    """

    def define(function: Callable[..., bool | None]) -> Stage:
        hints = typing.get_type_hints(function, include_extras=True)
        returns = hints.pop("return", None)
        params = hints.pop("params", None)
        if params is None or not issubclass(params, Params):
            raise TypeError(f"Stage '{function.__name__}' must take 'params', a subclass of Params, first.")
        sides: dict[str, dict[str, type[Artifact]]] = {"InputAnnotation": {}, "OutputAnnotation": {}}
        many: list[str] = []
        for name, hint in hints.items():
            marks = [getattr(mark, "__name__", "") for mark in getattr(hint, "__metadata__", ())]
            if not marks or marks[0] not in sides:
                raise TypeError(f"'{name}' of stage '{function.__name__}' must be Input[...] or Output[...].")
            kind = typing.get_args(hint)[0]
            if typing.get_origin(kind) is list:
                many.append(name)
                kind = typing.get_args(kind)[0]
            sides[marks[0]][name] = kind
        return Stage(
            name=function.__name__,
            target=f"{function.__module__}:{function.__qualname__}",
            function=function,
            params=params,
            inputs=sides["InputAnnotation"],
            outputs=sides["OutputAnnotation"],
            returns=returns is bool,
            many=frozenset(many),
            joined_by=joined_by,
            image=image,
            resources=resources or Resources(),
        )

    return define


def kfp_type(annotation: Any, what: str) -> str:
    """How KFP spells a parameter's type. Raises ``TypeError`` with a sentence for what it cannot express."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in SCALARS:
        return SCALARS[annotation]
    if is_strategy(annotation):
        return "str"
    if origin is Literal and len({type(value) for value in arguments}) == 1:
        return kfp_type(type(arguments[0]), what)
    if origin is list and arguments and (arguments[0] in SCALARS or is_strategy(arguments[0])):
        return f"List[{SCALARS.get(arguments[0], 'str')}]"
    if origin is dict and arguments[0] is str and arguments[1] in SCALARS:
        return f"Dict[str, {SCALARS[arguments[1]]}]"
    remedy = "use int, float, str, bool, a Literal of one type, or a list or str-keyed dict of these"
    if origin in (typing.Union, types.UnionType):
        remedy = 'name the special case as a strategy, such as Literal["all", "first"], instead of a union'
    raise TypeError(f"{what} is {annotation}, which KFP cannot express: {remedy}.")


def is_strategy(annotation: Any) -> bool:
    """Whether a parameter takes a strategy, which KFP has as the text of its spelling."""
    return inspect.isclass(annotation) and issubclass(annotation, Strategy)


def as_plain(value: Any) -> Any:
    """A parameter's value as KFP has it: strategies as their spellings."""
    if isinstance(value, list):
        return [as_plain(each) for each in value]
    return str(value) if isinstance(value, Strategy) else value


def load(target: str) -> Stage:
    """The stage that ``module:attribute`` names."""
    found = imported("stage", target)
    if not isinstance(found, Stage):
        raise UserError(f"{target} is not a stage.")
    return found


M = typing.TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Validate values against a model. Raises ``UserError``: one sentence, with the nearest name where one is close."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            owner: Any = model
            for part in path[:-1]:  # a model's field, or what a dict or a list holds
                holds = hasattr(owner, "model_fields")
                owner = owner.model_fields[part].annotation if holds else typing.get_args(owner)[-1]
            raise unknown(f"parameter of {'.'.join([where, *path[:-1]])}", path[-1], owner.model_fields) from None
        if not path:
            raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
        name = ".".join(path)
        if first["type"] == "missing":
            raise UserError(f"{where} needs the parameter '{name}': set it.") from None
        raise UserError(f"Parameter '{name}' of {where} cannot be {first['input']!r}: {first['msg']}.") from None


def each(given: Any) -> list[Artifact]:
    """The artifacts of an input: one, or those of a list."""
    return list(given) if isinstance(given, list) else [given]


def digest_of(given: Any) -> str:
    """The digest of an input, or those of a list, in order."""
    return ",".join(artifacts.manifest_of(artifact.path).digest for artifact in each(given))


def is_page(kind: type[Artifact]) -> bool:
    """Whether artifacts of this kind are one file for a person to look at in KFP's UI, not a sealed directory."""
    return issubclass(kind, (HTML, Markdown, Metrics))


def _make_room(place: Path, kind: type[Artifact]) -> None:
    if not is_page(kind) and (place / artifacts.MANIFEST).exists():
        raise UserError(f"{place} already holds a finished artifact: choose another place for the output.")
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not is_page(kind):
        place.mkdir()
