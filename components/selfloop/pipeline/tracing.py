"""A recipe's stage calls as the tasks of a KFP pipeline.

Rounds are unrolled. A round that depends on the last one's stop rule is an ``If`` nested in the round before, on the
unnamed boolean that the rule's stage returns (``kfp.local`` silently skips an ``If`` on a named output).
"""

from __future__ import annotations

import inspect
import json
from contextlib import ExitStack
from typing import Any

from kfp import dsl

from selfloop import __version__
from selfloop.fused import in_pods
from selfloop.pipeline import calls, resolving
from selfloop.recipe import Recipe, Settings
from selfloop.stage import Outputs, Params, Stage

IMAGE_PREFIX = "selfloop"


class Tracer:
    """Traces stage calls into the pipeline that KFP is building."""

    def __init__(self, resolved: Any, profile: Profile) -> None:
        self._resolved, self._profile = resolved, profile
        self._round, self._ordinal, self._calls, self._nest = 0, -1, 0, ExitStack()
        self._components: dict[str, Any] = {}

    def begins(self, round: int, goes_on: Any) -> bool:
        """Open a round: inside an ``If`` where the last round decides whether there is to be another."""
        if goes_on is not True:
            self._nest.enter_context(dsl.If(goes_on == True, name=f"round-{round}"))  # noqa: E712 (a KFP condition)
        self._round, self._ordinal, self._calls = round, self._ordinal + 1, 0
        return True

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Outputs:
        """Add one task. Its parameters are the call's, and its pod takes them from the settings of the run."""
        if stage.target not in self._components:
            self._components[stage.target] = calls.component_of(stage, self._profile.image(stage))
        call = f"{self._ordinal}" if calls.is_whole(stage) else f"{self._ordinal}.{self._calls}"
        self._calls += 1
        task = self._components[stage.target](**{calls.RESOLVED: self._resolved, calls.CALL: call}, **inputs)
        placed(task, stage, self._profile, f"round {self._round} · {stage.verb}")
        returned = task.outputs["Output"] if stage.returns else None
        return Outputs({name: task.outputs[name] for name in stage.outputs}, returned)

    def close(self) -> None:
        """Leave the rounds, the innermost first."""
        self._nest.close()


def image_of(stage: Stage, prefix: str) -> str:
    """The image that a stage's pod runs."""
    return f"{prefix}/{stage.image}:{__version__}"


def placed(task: Any, stage: Stage, name: str) -> None:
    """Name a task, and ask the cluster for what it needs."""
    task.set_caching_options(False).set_display_name(name)
    task.set_cpu_request(stage.resources.cpu).set_memory_request(stage.resources.memory)
    task.set_cpu_limit(stage.resources.cpu).set_memory_limit(stage.resources.memory)
    if stage.resources.gpu:
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(stage.resources.gpu)


def pipeline(recipe: Recipe[Any], settings: Settings, fused: bool = False, image_prefix: str = IMAGE_PREFIX) -> Any:
    """A recipe as a KFP pipeline, whose inputs are the run's form."""
    recipe.check(settings)
    form = resolving.form_of(recipe, settings)
    types = {"int": int, "float": float, "str": str, "bool": bool}

    def body(*channels: Any) -> None:
        given = dict(zip(form, channels, strict=True))
        tracer = Tracer(_resolved(recipe, settings, given, image_prefix), image_prefix)
        try:
            in_pods(recipe, fused).drive(settings, tracer)
        finally:
            tracer.close()

    described = [recipe.summary, "", "Args:", *(f"    {name}: {text}" for name, (_, _, text) in form.items())]
    body.__doc__ = "\n".join(described)
    body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=types[kind])
            for name, (kind, default, _) in form.items()
        ]
    )
    return dsl.pipeline(name=recipe.name, description=recipe.summary)(body)


def _resolved(recipe: Recipe[Any], settings: Settings, channels: dict[str, Any], image_prefix: str) -> Any:
    stage = recipe.resolver
    task = resolving.component_of(stage, image_of(stage, image_prefix))(
        **channels,
        compiled=json.dumps(settings.chosen()),
        shape=calls.shape_of(recipe, settings),
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    )
    placed(task, stage, "resolve")
    return task.outputs["resolved"]
