"""Mode 3: a whole round as one stage, whose pod runs the round in process.

For loops that are on-policy at a fine grain, where a pod a stage would cost minutes of start-up a round. What the round
made on its way travels as one more output, ``artifacts``.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from kfp.dsl import Artifact

from selfloop.artifacts import hand_on
from selfloop.inprocess import InProcess
from selfloop.recipe import Recipe, Settings
from selfloop.resources import Resources
from selfloop.stage import Stage, executed_by, is_file

S = typing.TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Fused(Recipe[S]):
    """The same loop with its start and each of its rounds as one stage."""

    whole: Any = None

    def begin(self, settings: S) -> Any:
        """The start in one component."""
        outputs = self.whole.fused_start(self.whole.run_params(settings))
        return self.turned(outputs, outputs.returned)

    def take_turn(self, settings: S, last: Any) -> Any:
        """A round in one component."""
        given = {name: getattr(last, name) for name in self.state}
        outputs = self.whole.fused_round(self.whole.run_params(settings), **given)
        return self.turned(outputs, outputs.returned)


def fuse(recipe: Recipe[S]) -> Recipe[S]:
    """A recipe as one that is driven a component a round."""
    return Fused(**{each.name: getattr(recipe, each.name) for each in fields(recipe)}, whole=recipe)


def fused_stage(recipe: Recipe[Any], part: Literal["start", "round"]) -> Stage:
    """The start or a round of a recipe as a stage; the settings of the run's form stay parameters of their own."""

    def function(params: Any, **given: Artifact) -> bool:
        settings = recipe.settings_of(params)
        with executed_by(InProcess(Path(given["artifacts"].path), round=params.round)):
            if part == "start":
                turn = recipe.begin(settings)
            else:
                last = {name: given.get(name) for name in recipe.carried}
                turn = recipe.take_turn(settings, recipe.turn(**last, goes_on=True))
        for name, kind in recipe.carried.items():
            made, output = getattr(turn, name), given[f"next_{name}"]
            if is_file(kind):
                Path(output.path).write_bytes(Path(made.path).read_bytes())
            else:
                hand_on(made, output)
        return bool(turn.goes_on)

    body = getattr(recipe, part)
    function.__doc__ = f"Run the {part} of {recipe.name} in one component.\n\n{body.__doc__ or ''}"
    return Stage(
        name=f"{part}_{recipe.name.replace('-', '_')}",
        target=f"{recipe.target}.fused_{part}",
        function=function,
        params=recipe.run_params_type,
        inputs={} if part == "start" else recipe.state,
        outputs={f"next_{name}": kind for name, kind in recipe.carried.items()} | {"artifacts": Artifact},
        returns=True,
        image="finetune",
        # a round may be halted, which another attempt would not mend
        resources=Resources(cpu="2", memory="4Gi", retries=0 if part == "round" else 2),
    )
