"""Mode 3: a whole round as one stage, whose pod runs the round in process.

For loops that are on-policy at a fine grain, where a pod a stage would cost minutes of start-up a round. What the round
made on its way travels as one more output, ``artifacts``; its pages are outputs as they are.

The start of a loop is one stage in every pipeline, because what it does is known only when it runs: a person or a
schedule says whether a run begins anew or goes on from a champion.
"""

from __future__ import annotations

import shutil
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from kfp.dsl import Artifact

from selfloop.artifacts import hand_on
from selfloop.modes.inprocess import InProcess
from selfloop.modes.pods import lighten
from selfloop.recipe import Recipe, RunParams, Settings
from selfloop.resources import Resources
from selfloop.stage import Params, Stage, executed_by, is_page, outputs_named

S = typing.TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class InPods(Recipe[S]):
    """The same loop with its start, and where ``fused`` each of its rounds, as one stage."""

    whole: Any = None
    fused: bool = False

    def begin(self, settings: S) -> Any:
        """The start in one component. The first round always comes."""
        return self.turned(self.whole.fused_start(self.run_params(settings)), goes_on=True)

    def take_turn(self, settings: S, last: Any) -> Any:
        """A round, in one component where it is fused."""
        if not self.fused:
            return self.whole.take_turn(settings, last)
        given = {name: getattr(last, name) for name in self.state}
        outputs = self.whole.fused_round(self.run_params(settings), **given)
        return self.turned(outputs, outputs.proceed)


def in_pods(recipe: Recipe[S], fused: bool) -> Recipe[S]:
    """A recipe as a pipeline drives it."""
    return InPods(**{each.name: getattr(recipe, each.name) for each in fields(recipe)}, whole=recipe, fused=fused)


def fused_stage(recipe: Recipe[Any], part: Literal["start", "round"]) -> Stage:
    """The start or a round of a recipe as a stage."""
    pages = pages_of(recipe, part)

    def function(out: Any, params: RunParams, **given: Any) -> bool | None:
        settings = recipe.settings_of(params)
        driver = InProcess(Path(out.artifacts.path), round=params.round)
        with executed_by(driver):
            if part == "start":
                turn = recipe.begin(settings)
            else:
                turn = recipe.take_turn(settings, recipe.turn(**{k: given[k] for k in recipe.state}, goes_on=True))
        for name in recipe.state:
            hand_on(getattr(turn, name), getattr(out, f"next_{name}"))
        for name in pages.keys() & driver.pages.keys():
            page = getattr(out, name)
            shutil.copyfile(driver.pages[name].path, page.path)
            page.metadata.update(driver.pages[name].metadata)
        lighten(Path(out.artifacts.path))
        return None if part == "start" else bool(turn.goes_on)

    body = getattr(recipe, part)
    function.__doc__ = f"Run the {part} of {recipe.name} in one component.\n\n{body.__doc__ or ''}"
    kinds = {f"next_{name}": kind for name, kind in recipe.state.items()} | {"artifacts": Artifact} | pages
    proceeds = {"proceed": bool} if part == "round" else {}
    return Stage(
        name=f"{part}_{recipe.name.replace('-', '_')}",
        target=f"{recipe.target}.fused_{part}",
        function=function,
        params=RunParams,
        inputs={} if part == "start" else recipe.state,
        out=outputs_named(f"{part.title()}Outputs", kinds | proceeds),
        effects=True,
        image="finetune" if part == "start" else "rl",
        # a round may be halted, which another attempt would not mend
        resources=Resources(cpu="2", memory="4Gi", retries=0 if part == "round" else 2),
    )


def pages_of(recipe: Recipe[Any], part: Literal["start", "round"]) -> dict[str, type[Artifact]]:
    """The pages that the stages of the start or of a round make, by name."""
    calls = calls_of(recipe, recipe.settings(), part)
    return {name: kind for call in calls for name, kind in call.stage.outputs.items() if is_page(kind)}


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


def calls_of(recipe: Recipe[S], settings: S, part: Literal["start", "round"]) -> list[Call]:
    """The stage calls of the start or of a round, in order, with the parameters that these settings come to."""
    notes = _Notes()
    with executed_by(notes):
        if part == "start":
            recipe.start(settings)
        else:
            recipe.take_turn(settings, recipe.turn(**{name: name for name in recipe.state}, goes_on=True))
    return notes.calls
