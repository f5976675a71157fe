"""Strategies: one mechanism for every slot that takes a named choice, such as a verifier, a selector or a guard.

A kind of strategy is a subclass of ``Strategy`` that says its ``kind`` and the ``package`` whose modules hold its
members. A member is a subclass of the kind: its ``name``, its parameters as fields, its traits as class variables, its
work in ``__call__``::

    class Verifier(Strategy):
        kind = "verifier"
        package = "selfloop.verify.verifiers"

    class Majority(Verifier):
        \"\"\"Good is what a large enough share of the attempts at the same task say.\"\"\"

        name = "majority"
        agreement: float = Field(0.8, gt=0.5, le=1, description="Share of a task's attempts that must agree.")

A field annotated with a kind takes a member, or its spelling: ``majority``, ``majority,agreement=0.7``. A strategy of
one's own is spelt ``module:attribute`` or ``file.py:attribute`` and has parameters as any other has: a subclass of the
kind, or a plain function whose keyword-only arguments are its parameters.

A parameter that is a strategy itself is spelt like any other, and its own parameters behind a dot:
``agent0,protocol=tools,protocol.turns=14``.

A list of strategies is spelt ``correct+unique+per-level,limit=4000``; what begins with ``+`` changes the list that was
there: the parameters of what has the same name, and the rest is added. Where no value is JSON, no character of all this
is one that a shell reads.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, create_model, field_validator
from pydantic_core import PydanticCustomError, core_schema

from selfloop.errors import UserError
from selfloop.lookup import imported, unknown

KEY = r"[A-Za-z_][\w.]*"
BOUNDS = {
    "gt": "greater than",
    "ge": "greater than or equal to",
    "lt": "less than",
    "le": "less than or equal to",
}
"""How the ends of a range read."""
JSON = '[{"'
"""What a value begins with that is JSON."""


class Values(BaseModel):
    """What a person sets: frozen, without unknown keys; numbers are finite, and no yes or no is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_is_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise PydanticCustomError("number", "Input should be a number")
        return value


def complaint(error: Mapping[str, Any], info: Any) -> str:
    """What pydantic says of the value of a field; where that is out of its range, the whole range."""
    bounds = [
        f"{words} {getattr(each, name)}"
        for name, words in BOUNDS.items()
        for each in getattr(info, "metadata", ())
        if getattr(each, name, None) is not None
    ]
    is_out = str(error["type"]).startswith(("greater_than", "less_than"))
    return f"Input should be {' and '.join(bounds)}" if is_out and bounds else str(error["msg"])


class Strategy(Values):
    """A named choice with parameters of its own, spelt alike where equal; ``needs`` says what it cannot do without,
    ``reads`` which of its parameters may name a file or a folder whose content counts, ``runs_code`` whether it runs
    programs that a policy wrote.
    """

    def __init_subclass__(cls, **defaults: Any) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(cls, **defaults: Any) -> None:
        """Take other defaults for fields that a parent has: ``class Distinct(Guard, warn=0.25)``."""
        change_defaults(cls, defaults)

    kind: ClassVar[str]
    plural: ClassVar[str] = ""
    package: ClassVar[str]
    name: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    runs_code: ClassVar[bool] = False

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """A field of a kind takes a member or its spelling, and is written as its spelling."""
        if "kind" not in cls.__dict__:
            return handler(source)
        spelt = core_schema.plain_serializer_function_ser_schema(str)
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=spelt)

    @classmethod
    def members(cls) -> dict[str, type[Self]]:
        """The members of this kind that come with selfloop, by name."""
        return _members(cls)  # type: ignore[no-any-return]

    @classmethod
    def find(cls, name: str) -> type[Self]:
        """A member by its name, or the user's own. Raises ``UserError`` with the nearest name where there is none."""
        if ":" not in name:
            known = cls.members()
            if name not in known:
                raise unknown(cls.kind, name, known)
            return known[name]
        return _own(cls, name)  # type: ignore[no-any-return]

    @classmethod
    def parse(cls, given: Any) -> Self:
        """The strategy of a spelling; one of this kind as it is.

        Raises ``UserError`` for a name that is not known, a parameter that it has not or cannot take, and for a
        strategy of another kind.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, str):
            raise UserError(f"{given!r} is no {cls.kind}: give one of {', '.join(cls.members())}.")
        name, values = split(given)
        return cls.find(name)._made(values)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """This strategy with other values of some parameters, refused as ``parse`` does."""
        return self._made(self._laid_over(self.model_dump(exclude_unset=True), values))

    @classmethod
    def _laid_over(cls, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
        """Values with others laid over them: what is laid over a strategy changes its parameters."""
        both = dict(below)
        for name, value in above.items():
            parts = isinstance(value, Mapping) and cls._takes_strategy(name)
            both |= {f"{name}.{part}": each for part, each in value.items()} if parts else {name: value}
        return both

    @classmethod
    def _made(cls, values: Mapping[str, Any]) -> Self:
        try:
            return cls.model_validate({key: cls._read(key, value) for key, value in cls._whole(values).items()})
        except ValidationError as error:
            raise cls._refused(error.errors()[0]) from None

    @classmethod
    def _takes_strategy(cls, name: str) -> bool:
        return name in cls.model_fields and is_strategy(cls.model_fields[name].annotation)

    @classmethod
    def _whole(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values in which the parameters of strategies that are parameters themselves are put into these."""
        whole: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            name, _, part = key.partition(".")
            if part and cls._takes_strategy(name):
                parts.setdefault(name, {})[part] = value
            else:
                whole[key] = value
        for name, changed in parts.items():
            info: Any = cls.model_fields[name]
            called, own = split(str(whole.get(name, info.get_default(call_default_factory=True))))
            found = info.annotation.find(called)
            whole[name] = found._made(found._laid_over(own, changed))
        return whole

    @classmethod
    def _read(cls, key: str, value: Any) -> Any:
        """A value as its field takes it: lists are spelt ``a+b``, mappings ``a:1+b:2``."""
        kind = typing.get_origin(cls.model_fields[key].annotation) if key in cls.model_fields else None
        if not isinstance(value, str) or kind not in (list, dict):
            return value
        parts = value.split("+") if value else []
        return parts if kind is list else dict(part.rpartition(":")[::2] for part in parts)

    @classmethod
    def _refused(cls, first: Any) -> UserError:
        what = f"{cls.kind} '{cls.spelling()}'"
        if not first["loc"]:
            return UserError(f"The {what}: {first['msg'].removeprefix('Value error, ')}")
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            if not cls.model_fields:
                return UserError(f"The {what} has no parameters: leave out '{key}'.")
            return unknown(f"parameter of the {what}", key, cls.model_fields)
        if first["type"] == "missing":
            return UserError(f"The {what} needs the parameter '{key}': write {cls.spelling()},{key}=VALUE.")
        said = complaint(first, cls.model_fields.get(key))
        return UserError(f"'{key}' of the {what} cannot be {first['input']!r}: {said}.")

    @classmethod
    def spelling(cls) -> str:
        """Its name; the user's own have the place where they are found."""
        ours = cls.__module__ == cls.package or cls.__module__.startswith(f"{cls.package}.")
        return cls.name if ours else f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def facts(cls) -> dict[str, str]:
        """What a terminal tells of it beside its parameters, by name."""
        return {}

    @classmethod
    def base_of_functions(cls) -> type[Strategy]:
        """The class that a function of one's own becomes a member of: this kind, or one below it."""
        return cls

    @classmethod
    def function(cls) -> inspect.Signature | None:
        """What a function of one's own takes by position, and gives; None where this kind takes no function."""
        calls = (vars(each)["__call__"] for each in cls.base_of_functions().__mro__ if "__call__" in vars(each))
        call = next(calls, None)
        if call is None:
            return None
        whole = inspect.signature(call)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @classmethod
    def several(cls) -> str:
        """The word for several of this kind."""
        return cls.plural or f"{cls.kind.replace(' ', '-')}s"

    @classmethod
    def label(cls) -> str:
        """Its name; of a user's own that has none, that of the class or the function."""
        return cls.name or cls.__name__

    @classmethod
    def summary(cls) -> str:
        """The first sentence of its docstring."""
        return (inspect.getdoc(cls) or "").split("\n")[0]

    @classmethod
    def parameters(cls) -> list[tuple[str, str, str]]:
        """Its parameters as they are documented: name, default (empty where it must be given), description."""
        return [(name, _default(info), info.description or "") for name, info in cls.model_fields.items()]

    def __str__(self) -> str:
        """Its spelling: the name, then the parameters that are not the defaults."""
        return self.spelt()

    def spelt(self, listed: bool = False) -> str:
        """Its spelling, by itself or as one of a list, in which a ``+`` parts strategies and no values."""
        return ",".join([self.spelling(), *(f"{name}={value}" for name, value in self._spelt_values(listed))])

    def _spelt_values(self, listed: bool) -> Iterator[tuple[str, str]]:
        """The parameters that are not the defaults, those of parameters that are strategies behind a dot."""
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if value == info.get_default(call_default_factory=True):
                continue
            if isinstance(value, Strategy):
                yield name, value.spelling()
                yield from ((f"{name}.{part}", spelt) for part, spelt in value._spelt_values(listed))
            else:
                yield name, spelt_value(value, listed)

    def __hash__(self) -> int:
        """Equal strategies are spelt alike."""
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process finds it by its spelling, as a user's own may be made of a function."""
        kind = next(each for each in type(self).__mro__ if "kind" in each.__dict__)
        return kind.parse, (str(self),)  # type: ignore[attr-defined]


def split(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters in a spelling ``name,key=value,key=value``.

    A value extends to the next ``,key=``, so that it may hold commas; one that begins as JSON's lists, objects or
    texts do is JSON. Raises ``UserError`` for what is none.
    """
    name, _, rest = text.partition(",")
    given: dict[str, Any] = {}
    while rest:
        found = re.match(rf"\s*({KEY})=", rest)
        if not found:
            raise UserError(f"'{text}' is no strategy: write NAME or NAME,key=value,key=value.")
        if found[1] in given:
            raise UserError(f"'{text}' gives '{found[1]}' twice: give it once.")
        given[found[1]], rest = _value(rest[found.end() :], text)
    return name.strip(), given


def _value(rest: str, text: str) -> tuple[Any, str]:
    if rest.startswith(tuple(JSON)):
        value, end = _json(rest, text)
        return value, rest[end:].removeprefix(",")
    plain, _, behind = re.match(rf"(.*?)(,(?={KEY}=)|$)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    return plain, behind


def _json(rest: str, text: str) -> tuple[Any, int]:
    """The value that a text begins with, and where it ends."""
    try:
        return json.JSONDecoder().raw_decode(rest)
    except json.JSONDecodeError as error:
        raise UserError(f"A value in '{text}' begins as JSON does and is none ({error.msg}).") from None


def spelt_value(value: Any, listed: bool = False) -> str:
    """A parameter's value as ``split`` and the field's type read it; ``listed`` as ``split_list`` reads it, too."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Strategy):
        return spelt_value(str(value), listed)
    if isinstance(value, list) and all(_is_plain(each, "+") for each in value) and not (listed and value[1:]):
        return "+".join(map(str, value)) if value else "[]"
    if isinstance(value, str) and not _is_plain(value, "+" if listed else ""):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return _spelt_mapping({str(key): each for key, each in value.items()}, listed)
    return json.dumps(value, default=str) if isinstance(value, list) else str(value)


def _spelt_mapping(value: dict[str, Any], listed: bool) -> str:
    plain = all(_is_plain(key, "+") and _is_plain(each, "+:") for key, each in value.items())
    if value and plain and not listed:
        return "+".join(f"{key}:{each}" for key, each in value.items())
    return json.dumps(value, default=str)


def _default(info: Any) -> str:
    return "" if info.is_required() else spelt_value(info.get_default(call_default_factory=True))


def _is_plain(value: Any, but: str = "") -> bool:
    """Whether a value can stand in a spelling as it is, and holds none of the characters of ``but``."""
    text = str(value)
    looks_other = text.startswith(tuple(JSON)) or re.search(rf",{KEY}=", text) or text != text.strip() or not text
    return not (looks_other or any(each in text for each in but) or isinstance(value, list | dict))


def split_list(text: str) -> list[str]:
    """The spellings in a list ``name+name,key=value``: a ``+`` before what a name may begin with begins the next.

    Raises ``UserError`` for JSON that is none.
    """
    found, begin, at = list[str](), 0, 0
    while sign := re.compile(rf",{KEY}=(?=[{re.escape(JSON)}])|\+(?=[A-Za-z_./])").search(text, at):
        at = sign.end()
        if sign[0] == "+":
            found.append(text[begin : sign.start()])
            begin = at
        else:
            at += _json(text[at:], text)[1]
    return [*found, text[begin:]] if text else []


def spelt_list(strategies: Sequence[Strategy]) -> str:
    """A list of strategies as ``split_list`` reads it."""
    return "+".join(each.spelt(listed=True) for each in strategies)


@dataclass(frozen=True)
class Added:
    """Spellings that change a list: the parameters of what is there by the same name; what is not is added."""

    kind: type[Strategy]
    spellings: Sequence[str]

    def to(self, below: Iterable[Strategy]) -> list[Strategy]:
        """The list that they make of another."""
        made = list(below)
        for text in self.spellings:
            name, values = split(text)
            spelling = self.kind.find(name).spelling()
            places = [place for place, each in enumerate(made) if each.spelling() == spelling]
            for place in places:
                made[place] = made[place].changed(values)
            made += [] if places else [self.kind.parse(text)]
        return made


def change_defaults(model: type[BaseModel], defaults: Mapping[str, Any], what: str = "parameter") -> None:
    """Give fields that a model has from a parent other defaults. Raises ``UserError`` for one that it has not."""
    for name, default in defaults.items():
        if name not in model.model_fields:
            raise unknown(f"{what} of {model.__name__}", name, model.model_fields)
        changed = copy(model.model_fields[name])
        changed.default = default
        model.model_fields[name] = changed
    if defaults:
        model.model_rebuild(force=True)


def is_strategy(annotation: Any) -> bool:
    """Whether a field takes a strategy."""
    return inspect.isclass(annotation) and issubclass(annotation, Strategy)


def is_list(annotation: Any) -> bool:
    """Whether a field takes a list of strategies."""
    return typing.get_origin(annotation) is list and is_strategy(typing.get_args(annotation)[0])


def as_list(kind: type[Strategy], given: Any) -> Any:
    """A list of strategies as it is given: their spellings in a list or in one text, which ``Added`` where it begins
    with ``+``.
    """
    if isinstance(given, str) and given.startswith("+"):
        return Added(kind, split_list(given[1:]))
    spellings = split_list(given) if isinstance(given, str) else given
    return [kind.parse(each) for each in spellings] if isinstance(spellings, list) else spellings


def read_strategies(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a model, in which spelt strategies and lists of them are read, those of its parts as well."""
    read = dict(values)
    for name, value in values.items():
        annotation = model.model_fields[name].annotation if name in model.model_fields else None
        if is_list(annotation):
            read[name] = as_list(typing.get_args(annotation)[0], value)
        elif is_strategy(annotation) and isinstance(value, str):
            read[name] = annotation.parse(value)  # type: ignore[union-attr]
        elif isinstance(value, Mapping) and inspect.isclass(annotation) and issubclass(annotation, BaseModel):
            read[name] = read_strategies(annotation, value)
    return read


def complete_lists(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same, where what changes a list has changed the default."""
    read = read_strategies(model, values)
    added = {name: value for name, value in read.items() if isinstance(value, Added)}
    fields = model.model_fields
    defaults = {name: as_list(added[name].kind, fields[name].get_default(call_default_factory=True)) for name in added}
    return read | {name: value.to(defaults[name]) for name, value in added.items()}


@cache
def _members(kind: Any) -> Any:
    package = importlib.import_module(kind.package)
    inside = pkgutil.iter_modules(getattr(package, "__path__", []))
    modules = [package, *(importlib.import_module(f"{kind.package}.{info.name}") for info in inside)]
    found: dict[str, Any] = {}
    for module in modules:
        defined: list[Any] = [value for value in vars(module).values() if inspect.isclass(value)]
        own = (each for each in defined if issubclass(each, kind) and each.__module__ == module.__name__)
        found |= {each.name: each for each in own}
    return {name: found[name] for name in sorted(found) if name}


@cache
def _own(kind: Any, target: str) -> Any:
    """A user's own member of a kind."""
    found: Any = imported(kind.kind, target)
    if inspect.isclass(found) and issubclass(found, kind):
        if inspect.isabstract(found):
            missing = " and ".join(sorted(vars(found)["__abstractmethods__"]))
            raise UserError(f"The {kind.kind} '{target}' does nothing: define {missing}.")
        return found
    if inspect.isfunction(found) and kind.function() is not None:
        _check_call(kind, target, found)
        return _of_function(kind.base_of_functions(), found)
    if inspect.isclass(found) and issubclass(found, Strategy):
        raise UserError(f"'{target}' is a {found.kind}, not a {kind.kind}.")
    what = f"a subclass of {kind.__module__}.{kind.__name__}"
    what += ", or a function" if kind.function() is not None else ""
    raise UserError(f"'{target}' is no {kind.kind}: make it {what}.")


def _check_call(kind: Any, target: str, function: Any) -> None:
    """Raise ``UserError`` for a function that cannot be called as its kind is."""
    given = list(kind.function().parameters)
    taken = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.KEYWORD_ONLY]
    plain = inspect.Signature([each.replace(annotation=each.empty) for each in taken])
    try:
        plain.bind(*given)
    except TypeError:
        raise UserError(
            f"The {kind.kind} '{target}' takes {plain}, and is called with ({', '.join(given)}): "
            "take these, and the parameters of its own behind a '*'."
        ) from None


@cache
def _of_function(kind: Any, function: Any) -> Any:
    """A member whose work a function does; the function's keyword-only arguments are its parameters."""
    parameters = inspect.signature(function).parameters.values()
    own = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    # what the other arguments are may be known to a type checker alone
    said = SimpleNamespace(__annotations__={name: function.__annotations__.get(name, Any) for name in own})
    hints = typing.get_type_hints(said, function.__globals__)
    fields = {name: (hints[name], ... if value is inspect.Parameter.empty else value) for name, value in own.items()}

    def call(self: Any, *given: Any) -> Any:
        return function(*given, **{name: getattr(self, name) for name in fields})

    made: Any = create_model(function.__name__, __base__=kind, **fields)  # type: ignore[call-overload]
    place = {"__module__": function.__module__, "__qualname__": function.__qualname__, "__doc__": function.__doc__}
    return type(function.__name__, (made,), place | {"__call__": call})


def kinds() -> dict[str, type[Strategy]]:
    """Every kind of strategy that is defined so far, by its name."""
    return dict(_kinds_below(Strategy))


def _kinds_below(base: type[Strategy]) -> Iterator[tuple[str, type[Strategy]]]:
    for each in base.__subclasses__():
        if "kind" in each.__dict__:
            yield each.kind, each
        else:
            yield from _kinds_below(each)


def as_markdown(kind: type[Strategy]) -> str:
    """A kind's members as a table for a README."""
    lines = [f"| {kind.kind} | what it is | parameters | needs |", "|-|-|-|-|"]
    for name, member in kind.members().items():
        parameters = ", ".join(f"`{each}={default}`" for each, default, _ in member.parameters()) or "–"
        lines.append(f"| `{name}` | {member.summary().replace('``', '`')} | {parameters} | {member.needs or '–'} |")
    return "\n".join(lines) + "\n"
