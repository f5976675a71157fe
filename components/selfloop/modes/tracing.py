"""A recipe's stage calls as the tasks of a KFP pipeline.

Rounds are unrolled. A round that depends on the last one's stop rule is an ``If`` nested in the round before, on the
unnamed boolean that the rule's stage returns (``kfp.local`` silently skips an ``If`` on a named output).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from kfp import dsl

from selfloop import __version__
from selfloop.errors import UserError
from selfloop.modes import calls, images, placing, resolving
from selfloop.modes.describing import arguments, described
from selfloop.modes.fused import LoopInPods, fused_stage
from selfloop.modes.noting import calls_of
from selfloop.modes.privileges import labels
from selfloop.modes.relaying import relay
from selfloop.profiles import Profile
from selfloop.recipe import Recipe
from selfloop.settings import Settings
from selfloop.stages import Params, Stage

ARGUMENT_BYTES = 120_000
"""Of an input that a pod is told. Linux takes 128 KiB for a word of a command line, and an input is a part of one."""


def _place_like(first: Any, task: Any) -> None:
    """Ask for the same as another task of the same stage does; saying it anew takes KFP most of the time."""
    task.container_spec, task.platform_config = first.container_spec, first.platform_config
    task._task_spec.retry_policy = first._task_spec.retry_policy


class Pods(Protocol):
    """Where the tasks of a pipeline run."""

    def image(self, stage: Stage) -> str:
        """The image of a stage's pod."""
        ...

    def place(self, task: Any, stage: Stage, configured: bool = False) -> None:
        """Put onto a task what its pod asks of the cluster; its configuration too where ``resolve`` tells it none."""
        ...


class Here:
    """Tasks that run on this machine."""

    def image(self, stage: Stage) -> str:
        """A name; nothing is pulled."""
        return f"selfloop/{stage.image}:{__version__}"

    def place(self, task: Any, stage: Stage, configured: bool = False) -> None:
        """Ask for nothing."""


class OnCluster:
    """Tasks that run where a profile says."""

    def __init__(self, profile: Profile, stages: Iterable[Stage], privileges: Collection[str] = ()) -> None:
        self._profile, self._privileges = profile, privileges
        self._images = images.references(profile, sorted({stage.image for stage in stages}))

    def image(self, stage: Stage) -> str:
        """Its reference, by digest where the registry answers."""
        return self._images[stage.image]

    def place(self, task: Any, stage: Stage, configured: bool = False) -> None:
        """Ask for what the profile says of the stage, and for the privileges of the loop."""
        placing.place(task, stage, self._profile, self.image(stage), labels(stage, self._privileges), configured)


class Tracer:
    """Traces stage calls into the pipeline that KFP is building."""

    def __init__(self, resolved: Any, pods: Pods) -> None:
        self._resolved, self._pods = resolved, pods
        self._round, self._ordinal, self._calls, self._nest = 0, -1, 0, ExitStack()
        self._components: dict[str, Any] = {}
        self._first: dict[str, Any] = {}

    def begins(self, round: int, proceed: Any) -> bool:
        """Open a round: inside an ``If`` where the last round decides whether there is to be another."""
        if proceed is not True:
            self._nest.enter_context(dsl.If(proceed == True, name=f"round-{round}"))  # noqa: E712 (a KFP condition)
        self._round, self._ordinal, self._calls = round, self._ordinal + 1, 0
        return True

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        """Add one task. Its parameters are the call's, and its pod takes them from the settings of the run."""
        task = self._task(stage, inputs)
        returned = task.outputs["Output"] if stage.returns else None
        return stage.made({name: task.outputs[flat] for name, flat in stage.flat.outputs.items()}, returned)

    def map(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        """Add a task for each shard, side by side."""
        with dsl.ParallelFor(items=list(range(getattr(params, "shards", 1)))) as shard:
            task = self._task(stage, inputs, {calls.SHARD: shard})
        return dsl.Collected(next(iter(task.outputs.values())))

    def _task(self, stage: Stage, inputs: dict[str, Any], more: dict[str, Any] | None = None) -> Any:
        lengths = {name: len(given) for name, given in inputs.items() if isinstance(given, list)}
        kind = f"{stage.target} {'sharded' if more else 'whole'} {sorted(inputs)} {lengths}"
        if kind not in self._components:
            self._components[kind] = calls.component_of(stage, self._pods.image(stage), inputs, bool(more), lengths)
        call = f"{self._ordinal}" if calls.is_whole(stage) else f"{self._ordinal}.{self._calls}"
        self._calls += 1
        given = {calls.RESOLVED: self._resolved, calls.CALL: call} | flattened(stage, inputs) | (more or {})
        task = self._components[kind](**given)
        task.set_caching_options(False).set_display_name(f"round {self._round} · {stage.verb}")
        if kind in self._first:
            _place_like(self._first[kind], task)
        else:
            self._pods.place(task, stage)
            self._first[kind] = task
        return task

    def relay(self, proceed: Any) -> None:
        """Add the task that begins the next run, where the last round here decides that there is to be another."""
        self._nest.enter_context(dsl.If(proceed == True, name="relay"))  # noqa: E712
        component = relay.component(self._pods.image(relay))
        task = component(resolved=self._resolved, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        task.set_caching_options(False).set_display_name("relay")
        self._pods.place(task, relay, configured=True)

    def close(self) -> None:
        """Leave the rounds, the innermost first."""
        self._nest.close()


def flattened(stage: Stage, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a stage under flat names; of a list, each part under its own."""
    flat: dict[str, Any] = {}
    for name, given in inputs.items():
        of_list = isinstance(given, list)
        called = stage.flat.inputs[name]
        flat |= {f"{called}_{number}": part for number, part in enumerate(given)} if of_list else {called: given}
    return flat


def pipeline(
    recipe: Recipe[Any], settings: Settings, fused: bool = False, pods: Pods | None = None, held: int | None = None
) -> Any:
    """A recipe as a KFP pipeline, whose inputs are the run's form. Where it holds fewer rounds than the settings ask
    for, its last task begins the run that continues it.
    """
    held = min(held or settings.rounds, settings.rounds)
    pods = pods or Here()
    form = resolving.form_of(recipe, settings)
    types: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "List": list, "Dict": dict}

    def body(*channels: Any) -> None:
        given = dict(zip(form, channels, strict=True))
        tracer = Tracer(_resolved(recipe, settings, given, pods, held), pods)
        try:
            last = LoopInPods(recipe, fused).drive(settings.model_copy(update={"rounds": held}), tracer)
            if held < settings.rounds:
                tracer.relay(last.proceed)
        finally:
            tracer.close()

    inputs = [f"    {name}: {text}" for name, text in arguments(recipe, form).items()]
    body.__doc__ = "\n".join([recipe.summary, "", "Args:", *inputs])
    body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=default,
                annotation=types[kind.partition("[")[0]],
            )
            for name, (kind, default, _) in form.items()
        ]
    )
    return dsl.pipeline(name=recipe.label, description=described(recipe, form))(body)


def _resolved(recipe: Recipe[Any], settings: Settings, form: dict[str, Any], pods: Pods, held: int) -> Any:
    stage, whole = resolving.resolve_stage(recipe), json.dumps(settings.overrides())
    _check_length(recipe, settings)
    task = resolving.component_of(recipe, stage, pods.image(stage))(
        **form,
        compiled=whole,
        shape=calls.shape_of(recipe, settings),
        held=held,
        run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    )
    task.set_caching_options(False).set_display_name("resolve")
    pods.place(task, stage, configured=True)
    return task.outputs["resolved"]


def _check_length(recipe: Recipe[Any], settings: Settings) -> None:
    """Refuse settings that are longer than a task of KFP can be told. Raises ``UserError``: one sentence."""
    given, form = settings.overrides(), resolving.form_of(recipe, settings)
    typed = {name: default for name, (_, default, _) in form.items()}
    told = json.dumps(json.dumps(typed | {"compiled": json.dumps(given)}))  # a driver is told them as JSON in JSON
    if len(told) <= ARGUMENT_BYTES:
        return
    flat = {
        f"{name}.{part}" if isinstance(value, dict) else name: text
        for name, value in given.items()
        for part, text in (value.items() if isinstance(value, dict) else [("", value)])
    }
    sizes = {name: len(json.dumps(value)) // 1000 for name, value in flat.items()}
    longest = max(sizes, key=lambda name: sizes[name])
    raise UserError(
        f"The settings of {recipe.name} come to {len(told) // 1000} kB as KFP writes them, '{longest}' alone to "
        f"{sizes[longest]} kB, and a task of KFP is told {ARGUMENT_BYTES // 1000} kB at most: put what is long into a "
        "file, and name that."
    )


def stages_of(recipe: Recipe[Any], settings: Settings, fused: bool) -> list[Stage]:
    """The stages that the tasks of a pipeline run."""
    round = [fused_stage(recipe, "round")] if fused else [call.stage for call in calls_of(recipe, settings, "round")]
    return [resolving.resolve_stage(recipe), fused_stage(recipe, "start"), *round, relay]
