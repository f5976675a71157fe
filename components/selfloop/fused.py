"""Mode 3: a whole round as one stage, whose pod runs the round in process.

For loops that are on-policy at a fine grain, where a pod a stage would cost minutes of start-up a round. What the round
made on its way travels as one more output, ``artifacts``.
"""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from kfp.dsl import Artifact
from pydantic import Field, create_model

from selfloop.artifacts import hand_on
from selfloop.inprocess import InProcess
from selfloop.recipe import Recipe, Settings
from selfloop.stage import Outputs, Params, Resources, Stage, executed_by, is_file

S = typing.TypeVar("S", bound=Settings)


def fuse(recipe: Recipe[S]) -> Recipe[S]:
    """The same loop with ``start`` and each round as one stage."""

    def turn(outputs: Outputs) -> Any:
        given = {name: outputs.named[f"next_{name}"] for name in recipe.carried}
        return recipe.turn(**given, goes_on=outputs.returned)

    def start(settings: S) -> Any:
        return turn(recipe.fused_start(_params(recipe.fused_start, settings)))

    def round(settings: S, last: Any) -> Any:
        stage = recipe.fused_round
        return turn(stage(_params(stage, settings), **{name: getattr(last, name) for name in stage.inputs}))

    return replace(recipe, start=start, round=round)


def fused_stage(recipe: Recipe[Any], part: Literal["start", "round"]) -> Stage:
    """One of a recipe's two functions as a stage; the settings of the run's form stay parameters of their own."""
    carried = recipe.carried
    body = getattr(recipe, part)

    def function(params: Any, **given: Artifact) -> bool:
        form = {name: getattr(params, name) for name in recipe.settings.form()}
        settings = recipe.resolve(json.loads(params.settings), form).bound(params.round)
        last = {name: given.get(name) for name in carried}
        with executed_by(InProcess(Path(given["artifacts"].path), round=params.round)):
            turn = body(settings, recipe.turn(**last, goes_on=True)) if part == "round" else body(settings)
        for name in carried:
            made, output = getattr(turn, name), given[f"next_{name}"]
            if is_file(carried[name]):
                Path(output.path).write_bytes(Path(made.path).read_bytes())
            else:
                hand_on(made, output)
        return bool(turn.goes_on)

    function.__doc__ = f"Run the {part} of {recipe.name} in one component.\n\n{body.__doc__ or ''}"
    return Stage(
        name=f"{part}_{recipe.name.replace('-', '_')}",
        target=f"{recipe.target}.fused_{part}",
        function=function,
        params=_fused_params(recipe),
        inputs={} if part == "start" else {name: kind for name, kind in carried.items() if not is_file(kind)},
        outputs={f"next_{name}": kind for name, kind in carried.items()} | {"artifacts": Artifact},
        returns=True,
        image="finetune",
        resources=Resources(cpu="2", memory="4Gi"),
    )


def _fused_params(recipe: Recipe[Any]) -> type[Params]:
    fields: dict[str, Any] = {
        name: (info.annotation, info)
        for name, info in recipe.settings.model_fields.items()
        if name in recipe.settings.form()
    }
    fields["settings"] = (str, Field("{}", description="The recipe's other settings, as JSON."))
    fields["round"] = (int, Field(0, ge=0, description="The number of the round; 0 is the start."))
    return create_model(f"Fused{recipe.settings.__name__}", __base__=Params, **fields)


def _params(stage: Stage, settings: Settings) -> Params:
    form = {name: getattr(settings, name) for name in settings.form()}
    fixed = {name: value for name, value in settings.unbound.chosen().items() if name not in form}
    values = form | {"settings": json.dumps(fixed), "round": settings.number}
    return stage.params.model_construct(**values)  # unvalidated: while tracing, the form's values are channels
