"""A stage call of a loop, in its pod.

A task of a compiled loop says which call of its recipe it is: ``3.4`` is the fifth of the third round, ``3`` the whole
round, ``0`` the start. Its parameters are those that the recipe gives this call with the settings that ``resolve`` has
decided, so that no parameter travels through the graph, and a recipe may compute with any setting.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from keyword import iskeyword
from typing import Any, Literal

from selfloop import metering
from selfloop.artifacts import read_json
from selfloop.errors import UserError, ending_plainly
from selfloop.modes import mlflow_plugin
from selfloop.modes.compact import SIGNATURE
from selfloop.modes.fused import fused_stage
from selfloop.modes.noting import calls_of
from selfloop.modes.pods import entered, followed, handed, own_place
from selfloop.recipe import Recipe, load_recipe
from selfloop.settings import RunParams, Settings
from selfloop.stages import Params, Stage, component

RESOLVED, CALL, SHARD = "resolved", "call", "shard"
COMMAND = ["env", "_KFP_RUNTIME=true", "python3", "-m", "selfloop.modes.task", "kfp.dsl.executor_main"]
"""What a task's container runs. ``kfp.local`` takes a command only where it names KFP's own program."""


def component_of(
    stage: Stage, image: str, given: Collection[str], sharded: bool = False, lengths: Mapping[str, int] = {}
) -> Any:
    """The KFP component of a stage in a loop: its artifacts, the settings of the run, which call it is, and which of
    the shards of that call; ``given`` are the inputs that it is given, ``lengths`` those of its lists of several tasks'
    outputs.
    """
    taken = {RESOLVED, CALL, SHARD} & {*stage.flat.inputs.values(), *stage.flat.outputs.values()}
    if taken:
        raise TypeError(f"Stage '{stage.name}' may not call an artifact '{taken.pop()}': loops use this name.")
    which = [f"{CALL}: str", *([f"{SHARD}: int"] if sharded else [])]
    signature = f"({', '.join([f'{RESOLVED}: Input[Artifact]', *stage.sides(given, lengths), *which])})"
    signature += " -> bool" if stage.returns else ""
    body = f"from selfloop.modes.calls import main\n\n    return main({stage.target!r}, locals())"
    name = stage.name if iskeyword(stage.verb) else stage.verb
    made = component(name, signature, stage.summary, body, image)
    return started_briefly(made, __name__, stage.target, signature)


def started_briefly(component: Any, module: str, target: str, signature: str) -> Any:
    """A KFP component whose container's command names the module whose ``main`` is called, and the stage.

    KFP puts the function's source and a shell script around it there, and Argo notes the command six times for each
    task. KFP knows a component by its container, so a digest of the signature tells two components of a stage apart
    until both are in a pipeline.
    """
    digest = hashlib.sha256(signature.encode()).hexdigest()[:8]
    container = component.component_spec.implementation.container
    container.command, container.args = COMMAND, ["{{$}}", module, target, f"{SIGNATURE}{digest}"]
    return component


def is_whole(stage: Stage) -> bool:
    """Whether a stage is the start or a whole round, fused."""
    return stage.params is RunParams and "artifacts" in stage.outputs


def enter(target: str, given: Mapping[str, Any]) -> bool | None:
    """Run one call of a loop, as a container does."""
    about = read_json(followed(given[RESOLVED]).path)
    os.environ.update(about["configuration"])
    mlflow_plugin.take_own()
    for name, value in about["environment"].items():
        os.environ.setdefault(name, value)
    recipe = load_recipe(about["recipe"])
    settings = recipe.resolve(about["settings"])
    round, _, number = given[CALL].partition(".")
    number_of_round = settings.first - 1 + int(round)
    stage, params = _called(recipe, settings.for_round(number_of_round), target, number)
    if SHARD in given:
        params = params.model_copy(update={SHARD: given[SHARD]})
    out, inputs = handed(stage, given)
    for name in stage.outputs:
        own_place(getattr(out, name))
    with metering.in_round(number_of_round):
        return entered(stage, out, params, inputs)


main = ending_plainly()(enter)


def _called(recipe: Recipe[Any], settings: Settings, target: str, number: str) -> tuple[Stage, Params]:
    if not number:
        part: Literal["start", "round"] = "start" if target.endswith(".start") else "round"
        return fused_stage(recipe, part), recipe.run_params(settings)
    call = calls_of(recipe, settings, "round")[int(number)]
    if call.stage.target != target:
        raise UserError(
            f"Call {number} of recipe '{recipe.name}' is {call.stage.target} in this image, and {target} in the "
            "pipeline: compile the pipeline with the code that the image holds."
        )
    return call.stage, call.params


def shape_of(recipe: Recipe[Any], settings: Settings) -> str:
    """A digest of a round's graph: which stages it calls, and what each takes from where."""
    calls = calls_of(recipe, settings.for_round(settings.first), "round")
    graph = [[call.stage.target, sorted((name, str(source)) for name, source in call.inputs.items())] for call in calls]
    return hashlib.sha256(json.dumps(graph).encode()).hexdigest()[:12]
