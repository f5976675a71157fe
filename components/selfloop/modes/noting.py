"""Which stages a recipe calls, without running any of them."""

from __future__ import annotations

import typing
from typing import Any, Literal

from selfloop.loop import LoopSettings, loop_of
from selfloop.recipe import Recipe
from selfloop.stages import Params, Stage, executed_by

S = typing.TypeVar("S", bound=LoopSettings)


class Call(typing.NamedTuple):
    """A stage call in a recipe: what is called, with which parameters, and where each input comes from."""

    stage: Stage
    params: Params
    inputs: dict[str, Any]


class _Notes:
    """An executor that runs nothing and notes each call; its artifacts are names: ``3.verdicts`` of the fourth call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        number = len(self.calls)
        self.calls.append(Call(stage, params, inputs))
        return stage.made({name: f"{number}.{name}" for name in stage.outputs}, f"{number}.returned")

    def map(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        return [self.call(stage, params, inputs)[0]]


def check(recipe: Recipe[Any], settings: Any) -> None:
    """Refuse, before anything starts, what the recipe or one of its stage calls would refuse."""
    recipe.check(settings)
    calls_of(recipe, settings.for_round(settings.first), "round")


def calls_of(recipe: Recipe[S], settings: S, part: Literal["start", "round"]) -> list[Call]:
    """The stage calls of the start or of a round, in order, with the parameters that these settings come to."""
    notes = _Notes()
    loop = loop_of(recipe)
    with executed_by(notes):
        if part == "start":
            loop.start(settings)
        else:
            loop.take_round(settings, loop.state(**{name: name for name in loop.kinds}, proceed=True))
    return notes.calls
