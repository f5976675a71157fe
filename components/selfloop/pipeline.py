"""Mode 2: the same recipe as a KFP pipeline, a pod a stage (or, fused, a pod a round), and its run by ``kfp.local``.

Rounds are unrolled. A round that depends on the last one's stop rule is an ``If`` nested in the round before, on the
unnamed boolean that the rule's stage returns (``kfp.local`` silently skips an ``If`` on a named output).
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from kfp import compiler, dsl, local

from selfloop import __version__
from selfloop.errors import UserError
from selfloop.fused import fuse
from selfloop.recipe import Recipe, Settings
from selfloop.stage import Outputs, Params, Stage

IMAGE_PREFIX = "selfloop"


class Tracer:
    """Traces stage calls into the pipeline that KFP is building."""

    def __init__(self, image_prefix: str = IMAGE_PREFIX) -> None:
        self._image_prefix, self._round, self._nest = image_prefix, 0, ExitStack()
        self._components: dict[str, Any] = {}

    def begins(self, round: int, goes_on: Any) -> bool:
        """Open a round: inside an ``If`` where the last round decides whether there is to be another."""
        if goes_on is not True:
            self._nest.enter_context(dsl.If(goes_on == True, name=f"round-{round}"))  # noqa: E712 (a KFP condition)
        self._round = round
        return True

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Outputs:
        """Add one task. Parameters at their defaults are left to the component's own."""
        if stage.target not in self._components:
            image = f"{self._image_prefix}/{stage.image}:{__version__}"
            self._components[stage.target] = stage.component(image)
        task = self._components[stage.target](**_changed(params), **inputs)
        task.set_caching_options(False).set_display_name(f"round {self._round} · {stage.verb}")
        task.set_cpu_request(stage.resources.cpu).set_memory_request(stage.resources.memory)
        task.set_cpu_limit(stage.resources.cpu).set_memory_limit(stage.resources.memory)
        if stage.resources.gpu:
            task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(stage.resources.gpu)
        returned = task.outputs["Output"] if stage.returns else None
        return Outputs({name: task.outputs[name] for name in stage.outputs}, returned)

    def close(self) -> None:
        """Leave the rounds, the innermost first."""
        self._nest.close()


def _changed(params: Params) -> dict[str, Any]:
    given = {name: getattr(params, name) for name in type(params).model_fields}
    defaults = {name: info.get_default(call_default_factory=True) for name, info in type(params).model_fields.items()}
    # a channel is compared by identity: its == builds a condition
    return {k: v for k, v in given.items() if not isinstance(v, type(defaults[k])) or v != defaults[k]}


def pipeline(recipe: Recipe[Any], settings: Settings, fused: bool = False, image_prefix: str = IMAGE_PREFIX) -> Any:
    """A recipe as a KFP pipeline, whose inputs are the settings of the run's form."""
    recipe.check(settings)
    loop = fuse(recipe) if fused else recipe
    form = {name: type(settings).model_fields[name] for name in settings.form()}

    def body(*channels: Any) -> None:
        tracer = Tracer(image_prefix)
        try:
            loop.drive(settings.model_copy(update=dict(zip(form, channels, strict=True))), tracer)
        finally:
            tracer.close()

    described = [recipe.summary, "", "Args:", *(f"    {name}: {info.description}" for name, info in form.items())]
    body.__doc__ = "\n".join(described)
    body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=getattr(settings, name), annotation=t
            )
            for name, t in ((name, info.annotation) for name, info in form.items())
        ]
    )
    return dsl.pipeline(name=recipe.name, description=recipe.summary)(body)


def merged(spec: dict[str, Any]) -> dict[str, Any]:
    """A pipeline's IR where equal executors and components, which KFP repeats for every use, stand once.

    For the cluster only: ``kfp.local`` puts a task's outputs into a folder named after its component.
    """
    executors, components = spec["deploymentSpec"]["executors"], spec["components"]
    kept = _first_equals(executors)
    for component in components.values():
        if "executorLabel" in component:
            component["executorLabel"] = kept[component["executorLabel"]]
    spec["deploymentSpec"]["executors"] = {name: executors[name] for name in sorted(set(kept.values()))}
    kept = _first_equals(components)
    dags = [spec["root"]["dag"], *(component["dag"] for component in components.values() if "dag" in component)]
    for dag in dags:
        for task in dag["tasks"].values():
            task["componentRef"]["name"] = kept[task["componentRef"]["name"]]
    spec["components"] = {name: components[name] for name in sorted(set(kept.values()))}
    return spec


def _first_equals(named: Mapping[str, Any]) -> dict[str, str]:
    """For each name, the shortest name that has an equal value."""
    seen: dict[str, str] = {}
    names = sorted(named, key=lambda name: (len(name), name))
    return {name: seen.setdefault(json.dumps(named[name], sort_keys=True), name) for name in names}


def compile_pipeline(
    recipe: Recipe[Any], settings: Settings, output: Path, fused: bool = False, image_prefix: str = IMAGE_PREFIX
) -> None:
    """Write a recipe's pipeline as YAML for the KFP UI."""
    if output.suffix not in {".yaml", ".yml", ".json"}:
        raise UserError(f"KFP reads .yaml or .json, not '{output.name}': choose another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    traced = pipeline(recipe, settings, fused, image_prefix)
    spec = ParseDict(merged(MessageToDict(traced.pipeline_spec)), type(traced.pipeline_spec)())
    traced.component_spec.implementation.graph = spec
    compiler.Compiler().compile(traced, str(output))


def run_locally(recipe: Recipe[Any], settings: Settings, root: Path, fused: bool = False) -> None:
    """Run a recipe's pipeline on this machine by ``kfp.local``, a process a task; its artifacts lie in ``root``."""
    with warnings.catch_warnings(), _importable():
        warnings.filterwarnings("ignore", message=".*non-Python base image.*")
        warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        pipeline(recipe, settings, fused)()


@contextmanager
def _importable() -> Iterator[None]:
    """Let the tasks' processes import what this one can, such as a recipe beside the user's own files."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
