"""Stages, each written once, and those that come with selfloop by name.

From one typed function come the plain call, the KFP component with a flat, described signature, the container's entry
point and the documentation::

    class Generated(NamedTuple):
        rollouts: Dataset

    @stage(image="generate", resources=Resources(gpu=1))
    def generate_rollouts(out: Generated, params: GenerateParams, policy: Model, tasks: Dataset) -> None:
        \"\"\"Draw a group of rollouts per task from the policy.\"\"\"

Called, as ``generate_rollouts(params, policy=policy, tasks=tasks).rollouts``, a stage asks the executor in force: the
one that runs it at once (``inprocess``) or the one that traces it into a pipeline (``tracing``). With ``into`` it runs
at once, into places that the caller gives. A type checker knows both calls by the function's signature.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import linecache
import shutil
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Literal, NamedTuple, Protocol

from kfp.dsl import HTML, Artifact, Markdown, Metrics
from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import PydanticUndefined
from typing_extensions import ParamSpec, TypeVar

from selfloop import artifacts, metering
from selfloop.errors import UserError, disk_is_full
from selfloop.identity import brought
from selfloop.lookup import imported, unknown
from selfloop.resources import Resources
from selfloop.strategies import Strategy, Values, as_list, complaint, complete_lists, is_list, is_strategy, spelt_list

KINDS = ("Artifact", "Dataset", "Model", "HTML", "Markdown", "Metrics")
PACKAGES = ("fetch", "propose", "finetune", "generate", "verify", "filter", "evaluate", "report")
SCALARS: Mapping[type, str] = {int: "int", float: "float", str: "str", bool: "bool"}


INHERITED = ("seed", "round", "environment", "engine", "confirm", "screen", "margin")
"""What a stage's parameters may inherit from the settings of a loop; the last three are its gate's."""


class Params(Values):
    """The parameters of a stage: frozen, validated, no unknown keys, and flat, so that KFP can express them.

    ``inherits`` names those that take the loop's setting of the same name where they were not set themselves, and
    ``reads`` those that may name a file or a folder, whose content is a part of the stage's identity then.
    """

    inherits: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **given: Any) -> None:
        """Refuse to inherit what no loop hands on, or what is no parameter here."""
        for name in cls.inherited():
            if name not in INHERITED or name not in cls.model_fields:
                raise TypeError(f"{cls.__name__} cannot inherit '{name}': loops hand on {', '.join(INHERITED)}.")

    @model_validator(mode="before")
    @classmethod
    def _lists_of_strategies_may_be_texts(cls, values: Any) -> Any:
        return complete_lists(cls, values) if isinstance(values, Mapping) else values

    @classmethod
    def inherited(cls) -> set[str]:
        """The names in ``inherits`` of this class and of those that it extends."""
        return {name for each in cls.__mro__ for name in each.__dict__.get("inherits", ())}

    def inherit(self, shared: Mapping[str, Any]) -> typing.Self:
        """These parameters, where those that are inherited and were not set take the shared value."""
        taken = self.inherited() - self.model_fields_set
        return self.model_copy(update={name: shared[name] for name in taken & shared.keys()})

    @property
    def asks_in(self) -> str:
        """The role that it asks the loop's own policy in; empty where it asks in none."""
        return ""

    def check(self) -> None:
        """Refuse what shows only when the run's settings are known, such as a level that its environment has not."""


class Executor(Protocol):
    """What a stage call is handed to."""

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        """Run or trace one stage. Returns its outputs: artifacts where it ran, channels where it was traced."""
        ...

    def map(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
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


class FlatNames(NamedTuple):
    """The inputs and outputs of a stage by their own names, and what each is called among all names of the stage."""

    inputs: dict[str, str]
    outputs: dict[str, str]


P = ParamSpec("P", default=...)
Out = TypeVar("Out", bound=tuple[Any, ...], default=Any)


@dataclass(frozen=True)
class Stage(typing.Generic[P, Out]):
    """One typed function and what was read off its signature. ``target`` is where a container finds it; ``out`` is the
    ``NamedTuple`` of its outputs; one with ``effects`` changes what is outside of these, as a registry, and so every
    run does it anew. Inputs that are ``optional`` may be left out of a call. ``concludes`` is called with the finished
    outputs and may end the run.
    """

    name: str
    target: str
    function: Callable[..., bool | None]
    params: type[Params]
    inputs: Mapping[str, type[Artifact]]
    out: type[Out]
    effects: bool = False
    concludes: Callable[[Any], None] | None = None
    many: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    joined_by: Stage | None = None
    image: str = "base"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for name, info in self.params.model_fields.items():
            kfp_type(info.annotation, f"Parameter '{name}' of stage '{self.name}'")
            if not info.description:
                raise TypeError(f"Parameter '{name}' of stage '{self.name}' has no description: give its Field one.")
        odd = [name for name in self._fields if name not in self.outputs and name != self.returns]
        if odd:
            raise TypeError(f"Output '{odd[0]}' of stage '{self.name}' must be an artifact, or its only bool.")
        names = [*self.flat.inputs.values(), *self.flat.outputs.values(), *self.params.model_fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise TypeError(f"Stage '{self.name}' has more than one input, output or parameter named '{twice[0]}'.")

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return typing.get_type_hints(self.out)

    @cached_property
    def outputs(self) -> Mapping[str, type[Artifact]]:
        """The artifacts among its outputs."""
        return {name: kind for name, kind in self._fields.items() if is_artifact(kind)}

    @cached_property
    def returns(self) -> str:
        """The output that is the bool that the function returns; empty where there is none."""
        return next((name for name, kind in self._fields.items() if kind is bool), "")

    @cached_property
    def flat(self) -> FlatNames:
        """What inputs and outputs are called where they and the parameters share one namespace: in the signature of
        the KFP component and on the command line.
        """
        params = self.params.model_fields
        inputs = {name: f"{name}_in" if name in params else name for name in self.inputs}
        taken = {*params, *self.inputs}
        return FlatNames(inputs, {name: f"next_{name}" if name in taken else name for name in self.outputs})

    @property
    def summary(self) -> str:
        """The first line of the stage's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def verb(self) -> str:
        """The short name that progress and pipelines show: ``generate`` for ``generate_rollouts``."""
        return self.name.split("_")[0]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Out:
        """Hand the call to the executor in force. Returns the outputs: artifacts where it ran, channels where it was
        traced.

        Raises ``TypeError`` for what does not fit the signature, ``UserError`` for what a user can mend.
        """
        params, inputs = self._given(args, kwargs)
        self._refuse_twice(inputs)
        return self._hand_over(params, inputs)

    def into(self, out: Out, *args: P.args, **kwargs: P.kwargs) -> Out:
        """Run at once, into the places of ``out``."""
        return self.run(out, *self._given(args, kwargs))

    def _given(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Params, dict[str, Any]]:
        """The parameters and the inputs by name."""
        given = {**dict(zip(("params", *self.inputs), args, strict=False)), **named}
        params = given.pop("params", None)
        inputs = {name: value for name, value in given.items() if value is not None or name not in self.optional}
        missing, strange = set(self.inputs) - self.optional - set(inputs), set(inputs) - set(self.inputs)
        if missing or strange or len(args) > 1 + len(self.inputs) or not isinstance(params, self.params):
            raise TypeError(
                f"{self.name} takes {self.params.__name__} and the inputs {', '.join(self.inputs) or '(none)'}; "
                f"missing: {', '.join(sorted(missing)) or 'none'}; not known: {', '.join(sorted(strange)) or 'none'}."
            )
        for name in (name for name, value in inputs.items() if value is None):
            raise UserError(
                f"Stage '{self.name}' cannot do without '{name}', and is given none: choose a schedule that draws "
                "tasks, or another recipe."
            )
        return params, inputs

    def _refuse_twice(self, inputs: Mapping[str, Any]) -> None:
        """Refuse one artifact under two inputs: KFP's metadata store takes an artifact once for each task.

        What two outputs are is two artifacts, also where their content is equal.
        """
        seen: dict[int, str] = {}
        for name, artifact in ((word, one) for word, given in inputs.items() for one in each(given)):
            if id(artifact) in seen:
                raise UserError(
                    f"Stage '{self.name}' is given the same artifact as '{seen[id(artifact)]}' and as '{name}', which "
                    "KFP refuses: give it once, or two artifacts."
                )
            seen[id(artifact)] = name

    def _hand_over(self, params: Params, inputs: dict[str, Any]) -> Out:
        """Hand a call to the executor in force, once for each shard where there are several."""
        executor = _executor.get()
        if executor is None:
            raise TypeError(f"{self.name} was called outside a recipe: say with {self.name}.into where it is to write.")
        made: Out
        if self.joined_by is not None and getattr(params, "shards", 1) > 1:
            joined = self.joined_by(self.joined_by.params(), parts=executor.map(self, params, inputs))
            made = self.made(dict(zip(self.outputs, joined, strict=True)))
        else:
            made = executor.call(self, params, inputs)
        return made

    def made(self, artifacts: Mapping[str, Any], returned: Any = False) -> Out:
        """Its outputs as one value: artifacts or channels by name, and what the function returned."""
        out: Any = self.out
        made: Out = out(**artifacts, **({self.returns: returned} if self.returns else {}))
        return made

    def run(self, out: Out, params: Params, inputs: Mapping[str, Any]) -> Out:
        """Check the inputs, run the function, seal the outputs: each is complete afterwards, or absent."""
        for artifact in (artifact for given in inputs.values() for artifact in each(given)):
            manifest = artifacts.check(artifact.path)
            # what KFP hands on has turned integers into floats
            artifact.metadata.update(manifest.metadata | {"digest": manifest.digest})
        origin = {
            "stage": self.name,
            "params": params.model_dump(mode="json"),
            "inputs": {name: digest_of(inputs[name]) for name in self.inputs if name in inputs},
            "brought": brought(params, self.function.__module__).all,
        }
        made = {name: getattr(out, name) for name in self.outputs}
        for name, kind in self.outputs.items():
            _make_room(Path(made[name].path), kind)
        try:
            with metering.metered() as meter:
                returned = self.function(out, params, **inputs)
            moment = self._spent(meter, origin, params, inputs, made)
            for name, kind in self.outputs.items():
                if kind is Metrics:  # KFP shows their metadata and needs no file; who runs the stage does
                    Path(made[name].path).write_text(json.dumps(made[name].metadata, sort_keys=True))
                elif not is_page(kind):
                    self._seal(made[name], kind, origin, moment)
        except Exception as error:
            if disk_is_full(error):
                where = Path(next(iter(made.values())).path)
                raise UserError(
                    f"The disk that holds {where} is full: free some space and run the same command again, "
                    "finished stages are kept."
                ) from error
            raise
        return self.made(made, returned)

    def _spent(
        self,
        meter: metering.Meter,
        origin: Mapping[str, Any],
        params: Params,
        inputs: Mapping[str, Any],
        made: Mapping[str, Artifact],
    ) -> dict[str, Any]:
        """What this call has spent, beside what was spent before it in its round."""
        round = metering.round_of(params)
        noted: dict[str, Any] = {}
        for place in (Path(made[name].path) for name, kind in self.outputs.items() if not is_page(kind)):
            if not (place / artifacts.MANIFEST).exists():  # else it is another call's, and handed on
                noted |= artifacts.sidecar_of(place)
        spent = meter.spent(metering.call_of(origin), self.name, round, noted)
        given = (artifact.path for one in inputs.values() for artifact in each(one))
        return {**spent, metering.BEFORE: metering.spent_for(given, round)}

    def _seal(self, output: Artifact, kind: type[Artifact], origin: dict[str, Any], moment: dict[str, Any]) -> None:
        place = Path(output.path)
        place.mkdir(parents=True, exist_ok=True)
        if (place / artifacts.MANIFEST).exists():  # handed on: it is sealed already
            manifest = artifacts.manifest_of(place)
        else:
            artifacts.write_json(place, artifacts.sidecar_of(place) | moment, artifacts.SIDECAR)
            manifest = artifacts.seal(place, kind.__name__, **origin, metadata=dict(output.metadata))
        output.metadata.update(manifest.metadata)
        output.metadata["digest"] = manifest.digest

    def sides(self, given: Collection[str] | None = None, lengths: Mapping[str, int] = {}) -> list[str]:
        """Its artifacts as a KFP component declares them: the inputs that are given, then the outputs. KFP takes no
        list of the outputs of several tasks, so a list whose length is given is so many inputs: ``parts_0``,
        ``parts_1``.
        """
        sides = []
        for name, flat in self.flat.inputs.items():
            if given is not None and name not in given:
                continue
            kind = self.inputs[name].__name__
            if name in lengths:
                sides += [f"{flat}_{number}: Input[{kind}]" for number in range(lengths[name])]
            else:
                sides.append(f"{flat}: Input[{f'List[{kind}]' if name in self.many else kind}]")
        return sides + [f"{flat}: Output[{self.outputs[name].__name__}]" for name, flat in self.flat.outputs.items()]

    @cached_property
    def signature(self) -> str:
        """The flat signature of the KFP component, as source: inputs, outputs, then parameters with defaults."""
        parts, required, optional = self.sides(), [], []
        for name, info in self.params.model_fields.items():
            annotation = kfp_type(info.annotation, name)
            default = as_plain(info.get_default(call_default_factory=True), info.annotation)
            if default is PydanticUndefined:
                required.append(f"{name}: {annotation}")
            else:
                optional.append(f"{name}: {annotation} = {default!r}")
        return f"({', '.join(parts + required + optional)})" + (" -> bool" if self.returns else "")

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Its parameters as they are documented: name, type, default, description."""
        made = []
        for name, info in self.params.model_fields.items():
            default = as_plain(info.get_default(call_default_factory=True), info.annotation)
            shown = "required" if default is PydanticUndefined else json.dumps(default)
            choices = typing.get_args(info.annotation) if typing.get_origin(info.annotation) is Literal else ()
            kind = " or ".join(map(json.dumps, choices)) or _named(info.annotation) or kfp_type(info.annotation, name)
            made.append((name, kind, shown, info.description or ""))
        return made

    def component(self, base_image: str) -> Any:
        """The KFP component: a flat, typed, described function whose body only calls into this package."""
        lines = [inspect.getdoc(self.function) or self.name, "", "Args:"]
        lines += [f"    {name}: {info.description}" for name, info in self.params.model_fields.items()]
        body = f"from selfloop.modes.pods import main\n\n    return main({self.target!r}, locals())"
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


Q = ParamSpec("Q")
Made = TypeVar("Made", bound=tuple[Any, ...])


def stage(
    image: str = "base", resources: Resources | None = None, joined_by: Stage | None = None
) -> Callable[[Callable[Concatenate[Made, Q], bool | None]], Stage[Q, Made]]:
    """Make a stage of a function ``(out: Outputs, params: Params, name: Dataset, names: list[Dataset], ...)``.

    ``Outputs`` is a ``NamedTuple`` of artifacts, and of one bool where the function returns one; an input that is
    ``Model | None = None`` may be left out. Raises ``TypeError``, when the function is defined, for what is otherwise
    and for a parameter that KFP cannot express.
    """

    def define(function: Callable[Concatenate[Made, Q], bool | None]) -> Stage[Q, Made]:
        name, hints = function.__name__, typing.get_type_hints(function)
        returned, out, params = (hints.pop(word, None) for word in ("return", "out", "params"))
        if not hasattr(out, "_fields"):
            raise TypeError(f"Stage '{name}' must take 'out', a NamedTuple of its outputs, first.")
        if params is None or not issubclass(params, Params):
            raise TypeError(f"Stage '{name}' must take 'params', a subclass of Params, behind 'out'.")
        optional = frozenset(word for word, hint in hints.items() if types.NoneType in typing.get_args(hint))
        hints = {word: typing.get_args(hint)[0] if word in optional else hint for word, hint in hints.items()}
        many = frozenset(word for word, hint in hints.items() if typing.get_origin(hint) is list)
        inputs = {word: typing.get_args(hint)[0] if word in many else hint for word, hint in hints.items()}
        for word, kind in inputs.items():
            if not is_artifact(kind):
                raise TypeError(f"'{word}' of stage '{name}' must be an artifact, or a list of artifacts.")
        made = Stage[Q, Made](
            name=name,
            target=f"{function.__module__}:{function.__qualname__}",
            function=function,
            params=params,
            inputs=inputs,
            out=typing.cast(type[Made], out),
            many=many,
            optional=optional,
            joined_by=joined_by,
            image=image,
            resources=resources or Resources(),
        )
        if (returned is bool) != bool(made.returns):
            raise TypeError(f"Stage '{name}' must return a bool where one of its outputs is a bool, and only there.")
        return made

    return define


def outputs_named(name: str, kinds: Mapping[str, Any]) -> type[Any]:
    """The ``NamedTuple`` of outputs that are known only when a stage is read off a recipe."""
    define: Any = NamedTuple
    made: type[Any] = define(name, list(kinds.items()))
    return made


def kfp_type(annotation: Any, what: str) -> str:
    """How KFP spells a parameter's type. Raises ``TypeError`` with a sentence for what it cannot express."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in SCALARS:
        return SCALARS[annotation]
    if is_strategy(annotation) or is_list(annotation):
        return "str"
    if origin is Literal and len({type(value) for value in arguments}) == 1:
        return kfp_type(type(arguments[0]), what)
    if origin is list and arguments and arguments[0] in SCALARS:
        return f"List[{SCALARS[arguments[0]]}]"
    if origin is dict and arguments[0] is str and arguments[1] in SCALARS:
        return f"Dict[str, {SCALARS[arguments[1]]}]"
    remedy = "use int, float, str, bool, a Literal of one type, or a list or str-keyed dict of these"
    if origin in (typing.Union, types.UnionType):
        remedy = 'name the special case as a strategy, such as Literal["all", "first"], instead of a union'
    raise TypeError(f"{what} is {annotation}, which KFP cannot express: {remedy}.")


def _named(annotation: Any) -> str:
    """The kind of strategy, or of several, that a parameter takes, if it takes any."""
    if is_list(annotation):
        return str(typing.get_args(annotation)[0].several())
    return str(annotation.kind) if is_strategy(annotation) else ""


def as_plain(value: Any, annotation: Any) -> Any:
    """The value of a parameter as KFP has it: strategies, and lists of them, as their spellings."""
    if is_list(annotation) and isinstance(value, list):
        return spelt_list(as_list(typing.get_args(annotation)[0], value))
    return str(value) if isinstance(value, Strategy) else value


def load(target: str) -> Stage:
    """The stage that ``module:attribute`` names."""
    found = imported("stage", target)
    if not isinstance(found, Stage):
        raise UserError(f"{target} is not a stage.")
    return found


def stages() -> dict[str, Stage]:
    """The stages that come with selfloop, by name, in the order in which a loop uses them."""
    found: dict[str, Stage] = {}
    for name in PACKAGES:
        module = importlib.import_module(f"selfloop.{name}")
        found |= {
            value.name: value
            for value in vars(module).values()
            if isinstance(value, Stage) and value.target.startswith(module.__name__)
        }
    return found


def find_stage(name: str) -> Stage:
    """A stage by its name, or the user's own as ``module:function``."""
    if ":" in name:
        return load(name)
    known = stages()
    if name not in known:
        raise unknown("stage", name, known)
    return known[name]


def as_markdown() -> str:
    """The table of the stages in the documentation."""
    lines = ["| stage | what it does | takes | gives |", "|-|-|-|-|"]
    lines += [
        f"| `{s.name}` | {s.summary} | {', '.join(s.inputs) or '–'} | {', '.join(s.outputs)} |"
        for s in stages().values()
    ]
    return "\n".join(lines) + "\n"


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
            what, name = f"parameter of {'.'.join([where, *path[:-1]])}", path[-1]
            if below := " or ".join(f"'{part}.{name}'" for part in parts_with(owner, name)):
                raise UserError(f"There is no {what} '{name}': did you mean {below}?") from None
            raise unknown(what, name, owner.model_fields) from None
        if not path:
            raise UserError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
        name = ".".join(path)
        if first["type"] == "missing":
            raise UserError(f"{where} needs the parameter '{name}': set it.") from None
        how = ", in quotes" if first["type"] == "string_type" else ""
        said = complaint(first, _field(model, path))
        raise UserError(f"Parameter '{name}' of {where} cannot be {first['input']!r}: {said}{how}.") from None


def _field(model: Any, path: Sequence[str]) -> Any:
    """The field that a path leads to; none where it leads into a list or a table."""
    for part in path[:-1]:
        info = getattr(model, "model_fields", {}).get(part)
        model = getattr(info, "annotation", None)
    return getattr(model, "model_fields", {}).get(path[-1])


def parts_with(model: type[BaseModel], name: str) -> list[str]:
    """The fields of a model whose values, stages' parameters or strategies, have a parameter of this name."""
    parts: dict[str, Any] = {}
    for part, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True)
        kind: Any = info.annotation
        parts[part] = type(kind.parse(default)) if is_strategy(kind) and not info.is_required() else kind
    return [part for part, kind in parts.items() if name in getattr(kind, "model_fields", {})]


def each(given: Any) -> list[Artifact]:
    """The artifacts of an input: one, or those of a list."""
    return list(given) if isinstance(given, list) else [given]


def digest_of(given: Any) -> str:
    """The digest of an input, or those of a list, in order."""
    return ",".join(artifacts.manifest_of(artifact.path).digest for artifact in each(given))


def is_artifact(kind: Any) -> bool:
    """Whether this is a kind of artifact."""
    return inspect.isclass(kind) and issubclass(kind, Artifact)


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
