"""What strategies remember from round to round: one small artifact, with an entry for each slot.

A strategy that remembers something names the class of it as ``keeps``; the strategy itself is frozen and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from selfloop.errors import UserError
from selfloop.strategies import Strategy

NAMED = "strategy"
"""The key of an entry under which the strategy stands that wrote it."""


class NoState(BaseModel):
    """What a strategy remembers that remembers nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Remembering(Strategy):
    """A kind of strategy whose members may remember something from round to round: what its class ``keeps``."""

    keeps: ClassVar[type[BaseModel]] = NoState

    def for_round(self, before: Any) -> Any:
        """What it remembers as a training begins, of what was known before; that is none at the very start."""
        return before or self.keeps()


def remembered(slot: str, strategy: Strategy, keeps: type[BaseModel], kept: Mapping[str, Any]) -> BaseModel | None:
    """What a slot's strategy remembers; none where nothing is known yet.

    Another strategy than the one that wrote it may continue with it, where both keep the same. Raises ``UserError``
    where they do not.
    """
    if slot not in kept:
        return None
    try:
        return keeps.model_validate({name: value for name, value in kept[slot].items() if name != NAMED})
    except ValidationError:
        wrote = kept[slot].get(NAMED, "another strategy")
        raise UserError(
            f"The {slot} '{strategy}' cannot continue with what '{wrote}' remembered: choose '{wrote}', or begin anew."
        ) from None


def entry(strategy: Strategy, state: BaseModel) -> dict[str, Any]:
    """What a strategy remembers, as JSON, and which strategy it is."""
    return {NAMED: str(strategy), **state.model_dump(mode="json")}
