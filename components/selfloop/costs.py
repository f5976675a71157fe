"""What a loop has spent, what an hour costs, and what it may spend in all.

Spent are tokens (drawn by policies and trained on), hours of stages, those side by side added up, and money, where
prices are given. A loop ends before the round that would come to more than its budget; a round is taken to come to what
the dearest of the last three did. What is measured in seconds lies in sidecars and moves no digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import PydanticCustomError

from selfloop.decision import deciding_look
from selfloop.errors import UserError
from selfloop.strategies import Values, split

HOUR = 3600.0
RECENT = 3
"""The rounds that tell what the next one comes to."""
EXAMPLES = {"budget": "tokens=1e9,hours=12,usd=40", "price": "gpu_hour=2.5,cpu_hour=0.04"}
"""How these settings are spelt."""


class Price(Values):
    """What an hour of the hardware that a stage holds costs, in USD."""

    gpu_hour: float = Field(0.0, ge=0, description="Of a GPU.")
    cpu_hour: float = Field(0.0, ge=0, description="Of a core.")

    def of(self, entry: Mapping[str, Any]) -> float:
        """What a stage's call cost, from its seconds and the cores and GPUs that it held."""
        return float(entry["seconds"] / HOUR * (entry["gpus"] * self.gpu_hour + entry["cpus"] * self.cpu_hour))


class Budget(Values):
    """What a loop may spend in all; what is not given has no end."""

    tokens: float | None = Field(None, gt=0, description="Tokens drawn and trained on.")
    hours: float | None = Field(None, gt=0, description="Hours of stages.")
    usd: float | None = Field(None, gt=0, description="Money, in USD.")

    def limits(self) -> dict[str, float]:
        """What it limits, by the name of the quantity."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}


class Spent(NamedTuple):
    """What some calls of stages came to: tokens, seconds and USD."""

    drawn: int = 0
    trained: int = 0
    seconds: float = 0.0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Drawn and trained on."""
        return self.drawn + self.trained

    @property
    def hours(self) -> float:
        """Of stages."""
        return self.seconds / HOUR

    def known(self) -> dict[str, float]:
        """The numbers that are not 0, as those of what has no price."""
        return {name: float(value) for name, value in self._asdict().items() if value}


class Costs(NamedTuple):
    """What a loop has spent in all, the calls of the round's stages with what each spent, and why the loop ends where
    its budget ends it.
    """

    total: Spent = Spent()
    calls: Sequence[Mapping[str, Any]] = ()
    over: str = ""

    def of_round(self) -> dict[str, float]:
        """The round in numbers: all of it, and by stage."""
        by_stage: dict[str, list[Mapping[str, Any]]] = {}
        for call in self.calls:
            by_stage.setdefault(f"cost.{call['stage']}", []).append(call)
        groups = {"cost": list(self.calls), **by_stage}
        return {f"{name}.{key}": value for name, group in groups.items() for key, value in spent(group).known().items()}

    def of_loop(self) -> dict[str, float]:
        """The whole loop in numbers."""
        return {f"cost.{name}": value for name, value in self.total.known().items()}


P = TypeVar("P", Price, Budget)


def parsed(kind: type[P], text: str) -> P:
    """A price or a budget as it is spelt: ``key=value,key=value``; nothing is the one without any.

    Raises pydantic's error, which a setting's validator may let go on, in one sentence that names what is wrong.
    """
    name = kind.__name__.lower()
    try:
        return kind.model_validate(split(f"{name},{text}")[1] if text else {})
    except UserError:
        raise _refused(f"Write it as {EXAMPLES[name]}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise _refused(f"There is no '{key}' in a {name}: give {' or '.join(kind.model_fields)}") from None
        raise _refused(f"'{key}' is {first['input']!r}, and is to be a number: {first['msg']}") from None


def _refused(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("costs", "{sentence}", {"sentence": sentence})


def spent(entries: Iterable[Mapping[str, Any]]) -> Spent:
    """The sum of some calls of stages."""
    found = list(entries)
    return Spent(*(sum(entry.get(name, 0) for entry in found) for name in Spent._fields))


def spent_in(moments: Iterable[Mapping[str, Any]]) -> Spent:
    """What some rounds came to."""
    return spent(entry for moment in moments for entry in moment["stages"])


def gained(decision: Mapping[str, Any]) -> float:
    """The accuracy that a round gained for the policy in force: of the look that decided, 0 where it was rejected."""
    look = deciding_look(decision)
    return float(look["gain"]) if look and decision["promoted"] else 0.0


def per_point(moments: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What a point of accuracy (0.01) has cost, by quantity; nothing where none was gained."""
    found = list(moments)
    points = 100 * sum(moment.get("gained", 0.0) for moment in found)
    total = spent_in(found)
    amounts = {"tokens": float(total.tokens), "hours": total.hours, "usd": total.usd}
    return {name: amount / points for name, amount in amounts.items() if amount} if points > 0 else {}


def priced(entries: Iterable[Mapping[str, Any]], price: Price) -> list[dict[str, Any]]:
    """Calls of stages with what each cost."""
    return [{**entry, "usd": price.of(entry)} for entry in entries]


def ends(budget: Budget, moments: Sequence[Mapping[str, Any]]) -> str:
    """Why a loop ends before its next round, in a sentence; empty where the budget has room for it.

    ``moments`` are those of a history: the first holds the start, and the rounds before the others.
    """
    total, rounds = spent_in(moments), [spent_in([moment]) for moment in moments[1:][-RECENT:]]
    for name, limit in budget.limits().items():
        before, next_ = getattr(total, name), max((getattr(each, name) for each in rounds), default=0)
        if before + next_ > limit:
            said = f"{quantity(name, before)} of the budget of {quantity(name, limit)} are spent"
            return f"{said}, and the next round would come to about {quantity(name, next_)}."
    return ""


def quantity(name: str, value: float) -> str:
    """An amount as a person reads it: of ``tokens``, ``hours`` or ``usd``."""
    if name == "usd":
        return f"{value:,.2f} USD" if value >= 0.995 or not value else f"{value:.2g} USD"
    if name == "hours":
        return f"{value:.2f} hours" if value >= 0.0995 or not value else f"{value * HOUR:.3g} seconds"
    return f"{value:,.0f} tokens"
