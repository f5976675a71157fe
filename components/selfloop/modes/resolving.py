"""``resolve``: the first task of every pipeline, never cached and never skipped.

It takes what a person typed into the form, or a schedule gave, and decides all settings of the run before a GPU is
asked for: validates them, pins what an alias names now, numbers the rounds, opens the run in MLflow and, in a cluster,
holds the loop's Lease.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kfp.dsl import Artifact
from pydantic import Field, create_model

from selfloop.artifacts import write_json
from selfloop.errors import UserError, ending_plainly
from selfloop.modes import privileges
from selfloop.modes.calls import shape_of, started_briefly
from selfloop.modes.configuration import configuration
from selfloop.modes.mlflow_plugin import parent_run
from selfloop.modes.noting import check
from selfloop.modes.pods import entered_flat
from selfloop.recipe import Recipe, load_recipe
from selfloop.settings import START, Settings, run_of, whole
from selfloop.stages import Params, Stage, as_plain, component, kfp_type, outputs_named

if TYPE_CHECKING:
    from selfloop.lineage.rounds import Origin

CHAMPION = "champion"
S = TypeVar("S", bound=Settings)
ORIGIN = (
    "Where the loop continues from: 'start', 'champion' (the start where there is none yet), NAME@champion, "
    "NAME@previous or NAME/VERSION."
)


def form_of(recipe: Recipe[Any], settings: Settings) -> dict[str, tuple[str, Any, str]]:
    """The inputs of a pipeline: type, default and description by flat name, grouped by the stage before it."""
    form, of_round = {}, settings.for_round(settings.first)
    for name, info in recipe.settings.inputs().items():
        stage, _, parameter = name.rpartition(".")
        default = as_plain(getattr(getattr(of_round, stage) if stage else settings, parameter), info.annotation)
        form[recipe.settings.in_form(name)] = (kfp_type(info.annotation, name), default, info.description or "")
    form["origin"] = ("str", settings.origin, ORIGIN)
    form["settings"] = ("str", "{}", 'Any other setting, as JSON: {"gate": {"guards": []}}.')
    return form


class ResolveParams(Params):
    """What a pipeline is compiled with, beside its form."""

    origin: str = Field(description=ORIGIN)
    settings: str = Field(description="Settings, as JSON.")
    compiled: str = Field(description="The settings that the pipeline was compiled with, as JSON.")
    shape: str = Field(description="A digest of the graph that they came to.")
    held: int = Field(description="Rounds that one run of the pipeline holds.")
    run: str = Field(description="The id of the KFP run.")


def resolve_stage(recipe: Recipe[Any]) -> Stage:
    """The stage that decides the settings of a run of this recipe."""

    def function(out: Any, params: Any) -> None:
        settings = settings_of(recipe, params)
        told = {"recipe": recipe.target, "settings": settings.overrides(), "configuration": configuration()}
        write_json(out.resolved.path, told | {"environment": begun(settings, params)})

    function.__doc__ = "Decide the settings of the run: what was typed is validated, what an alias names is pinned."
    form: dict[str, Any] = {
        recipe.settings.in_form(name): (info.annotation, info) for name, info in recipe.settings.inputs().items()
    }
    return Stage(
        name=f"resolve_{recipe.identifier}",
        target=f"{recipe.target}.resolve",
        function=function,
        params=create_model(f"Resolve{recipe.settings.__name__}", __base__=ResolveParams, **form),
        inputs={},
        out=outputs_named("Resolved", {"resolved": Artifact}),
        effects=True,
    )


def component_of(recipe: Recipe[Any], stage: Stage, image: str) -> Any:
    """Its KFP component; the form that describes the parameters is the pipeline's."""
    parameters = [f"{name}: {kfp_type(info.annotation, name)}" for name, info in stage.params.model_fields.items()]
    body = f"from selfloop.modes.resolving import main\n\n    return main({recipe.target!r}, locals())"
    signature = f"({', '.join([*stage.sides(), *parameters])})"
    made = component(stage.verb, signature, stage.summary, body, image)
    return started_briefly(made, __name__, recipe.target, signature)


def enter(target: str, given: Mapping[str, Any]) -> None:
    """Decide the settings of a run of the recipe at ``target``, as a container does."""
    entered_flat(resolve_stage(load_recipe(target)), given)


main = ending_plainly()(enter)


def settings_of(recipe: Recipe[S], params: Any) -> S:
    """The settings of a run: those it was compiled with, then the JSON, then what was changed in the form.

    Raises ``UserError`` for what no run of this pipeline can have.
    """
    compiled = recipe.resolve(json.loads(params.compiled))
    form = form_of(recipe, compiled)
    changed: dict[str, Any] = {}
    for name, info in recipe.settings.inputs().items():
        value = getattr(params, recipe.settings.in_form(name))
        if as_plain(value, info.annotation) != form[recipe.settings.in_form(name)][1]:
            stage, _, parameter = name.rpartition(".")
            (changed.setdefault(stage, {}) if stage else changed)[parameter] = value
    settings = recipe.resolve(compiled.overrides(), _typed(params.settings), changed)
    for name in recipe.settings.fixed():
        if getattr(settings, name) != getattr(compiled, name):
            raise UserError(
                f"The setting '{name}' is fixed when a pipeline is compiled, here to {getattr(compiled, name)!r}: "
                "compile another pipeline for another value."
            )
    if before := run_of(params.origin):
        settings = _continuing(recipe, settings, before)
    else:
        settings = continued_from(recipe, settings, params.origin, params.run)
    check(recipe, settings)
    if shape_of(recipe, settings) != params.shape:
        raise UserError(
            "These settings change which stages a round calls, which is fixed when a pipeline is compiled: compile "
            "another pipeline with them."
        )
    privileges.check(settings, compiled)
    return settings


def _typed(text: str) -> dict[str, Any]:
    try:
        typed = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise UserError(f"The input 'settings' is not JSON ({error}): write it as {{\"gate\": {{...}}}}.") from None
    if not isinstance(typed, dict):
        raise UserError(f"The input 'settings' is {text}, not an object: write it as {{\"gate\": {{...}}}}.")
    return typed


def _continuing(recipe: Recipe[S], settings: S, before: str) -> S:
    """The settings of a run that does the rounds that the run ``before`` left to do."""
    from selfloop import lineage

    if not lineage.is_on():
        raise UserError(f"There is no registry in which run {before} left its loop: set MLFLOW_TRACKING_URI.")
    left = lineage.left_by(settings.loop, before)
    return recipe.resolve(settings.overrides(), {"origin": left.origin, "first": left.first, "rounds": left.rounds})


def continued_from(recipe: Recipe[S], settings: S, origin: str, run: str) -> S:
    """The settings of a run that continues from ``origin``: the version that it named when the run began, and the
    number of its next round; the loop has the version's name, unless another was chosen.
    """
    from selfloop import lineage

    if origin == settings.origin:
        return settings
    if origin != START and not lineage.is_on():
        raise UserError(f"There is no registry to continue from '{origin}': set MLFLOW_TRACKING_URI.")
    found = _pinned(settings, origin, run)
    named = {"model": found.name} if found.name and not settings.model else {}
    return recipe.resolve(settings.overrides(), {"origin": found.pinned, "first": found.first}, named)


def _pinned(settings: Settings, origin: str, run: str) -> Origin:
    """What an origin names: what it named before, where KFP runs this task again."""
    from selfloop import lineage
    from selfloop.lineage.registry import Registry
    from selfloop.lineage.rounds import Origin, find_origin

    if lineage.is_on() and (begun := lineage.begun_as(run)):
        return Origin(begun[0].rpartition("/")[0], *begun)
    if origin == CHAMPION:
        origin = f"{settings.loop}@champion" if Registry(settings.loop).settle() else START
    return Origin("", START, 1) if origin == START else find_origin(origin)


def begun(settings: Settings, params: Any) -> dict[str, str]:
    """What the pods of a run find in their environment: its run in MLflow, opened here unless KFP has opened one, or
    that of the run that it continues.

    In a cluster the run holds the loop's Lease from now on. Raises ``UserError`` where the loop will outlast the run
    and nothing can continue it.
    """
    from selfloop import lineage

    outlasts = params.held < settings.rounds
    if not lineage.is_on():
        if outlasts:
            raise UserError(
                f"{settings.rounds} rounds are more than the {params.held} of one run, and without a registry no run "
                f"continues another: set MLFLOW_TRACKING_URI, or compile with --rounds {params.held}."
            )
        return {}
    before = run_of(params.origin)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        _hold(settings.loop, params.run, before, outlasts)
    if before:
        run_id = lineage.left_by(settings.loop, before).run
        lineage.join_run(run_id, before, params.run)
    else:
        name = f"{settings.loop} {params.run[:8]}"
        run_id = lineage.opened_run(name, whole(settings), params.run, parent_run())
    os.environ["MLFLOW_RUN_ID"] = run_id
    lineage.note_beginning(settings.loop)
    return {"MLFLOW_RUN_ID": run_id, lineage.THIS_RUN: params.run}


def _hold(loop: str, run: str, before: str, outlasts: bool) -> None:
    """Hold the Lease: free, or that of the run that this one continues, which has no more to do."""
    from selfloop.cluster import lease, runs
    from selfloop.cluster.access import of_pod
    from selfloop.cluster.connection import connect

    connection, access = connect(), of_pod()
    if outlasts:  # who does not answer now would not continue the loop later; a schedule's run is known after a while
        runs.has_ended(connection, run)
    if before and runs.was_cancelled(runs.find_run(connection, before)):
        raise UserError(f"Run {before} was cancelled: the loop ends with it.")
    has_ended = partial(runs.has_ended, connection, is_at_work=partial(lease.at_work, access=access))
    lease.hold(loop, run, lambda holder: holder == before or has_ended(holder), access)
