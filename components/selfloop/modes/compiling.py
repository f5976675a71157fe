"""A traced pipeline as a file for the KFP UI, or as a run on this machine by ``kfp.local``."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from kfp import local
from kfp.compiler import pipeline_spec_builder
from kfp.components import load_component_from_file

from selfloop.errors import UserError
from selfloop.modes import noting
from selfloop.modes.argo import ROOM, Cost, cost
from selfloop.modes.compact import compacted
from selfloop.modes.privileges import privileges
from selfloop.modes.tracing import Here, OnCluster, Pods, pipeline, stages_of
from selfloop.profiles import Profile
from selfloop.profiles.fitting import check
from selfloop.recipe import Recipe
from selfloop.settings import Settings

FEW = (2, 8)
"""Rounds of two pipelines that tell what each further round costs."""
MANY = {False: 16, True: 64}
"""So many rounds, a pod a stage or fused, are compiled to see whether a cluster keeps them; of more one asks first how
many fit.
"""


class Dumper(yaml.CSafeDumper):
    """Writes YAML in which no text is read as a number, whatever reads it: to Kubernetes' YAML 1e5 is one, as may be a
    part of a digest.
    """


def _text(dumper: yaml.CSafeDumper, text: str) -> Any:
    looks_like_number = re.match(r"[-+]?\.?\d", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if looks_like_number else None)


Dumper.add_representer(str, _text)


def compile_pipeline(
    recipe: Recipe[Any],
    settings: Settings,
    output: Path,
    fused: bool = False,
    profile: Profile | None = None,
    held: int | None = None,
) -> int:
    """Write a recipe's pipeline as YAML for the KFP UI. Without a profile its tasks ask nothing of a cluster, and no
    cluster is to keep it. A run of it holds as many rounds as is said, or else as a cluster keeps to the end, and
    begins the run that continues it where more are asked for. Returns how many it holds.

    Raises ``UserError`` for settings that recipe, environment or profile refuse, and for runs that hold more rounds
    than a cluster keeps.
    """
    if output.suffix not in {".yaml", ".yml"}:
        raise UserError(f"KFP reads .yaml, not '{output.name}': choose another --output.")
    pods = _pods(recipe, settings, fused, profile)
    if profile is not None and held is None:
        traced, held = _fitting(recipe, settings, fused, pods)
    else:
        held = min(held or settings.rounds, settings.rounds)
        traced = compiled(recipe, settings, fused, pods, held)
        if profile is not None and cost_of(traced).stored > ROOM:
            raise _too_many(recipe, held, fused, _most(recipe, settings, fused, pods))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(as_yaml(traced), encoding="utf-8")
    return held


def as_yaml(traced: Any) -> str:
    """A pipeline as the UI takes it: what KFP's own writer writes, in fewer lines and a third of the time."""
    spec, platform = MessageToDict(traced.pipeline_spec), MessageToDict(traced.platform_spec)
    summary = traced.description.partition("\n")[0]
    comments = pipeline_spec_builder.extract_comments_from_pipeline_spec(spec, summary)
    documents = [spec, platform] if platform else [spec]
    text = yaml.dump_all(documents, Dumper=Dumper, default_flow_style=None, allow_unicode=True, width=120)
    return f"{comments}{text}"


def rounds_that_fit(
    recipe: Recipe[Any], settings: Settings, fused: bool = False, profile: Profile | None = None
) -> int:
    """The most rounds of a loop that a cluster keeps in one run, to the end of it, with the task that begins the next
    run; however many the settings ask for.

    Raises ``UserError`` where not even one round fits.
    """
    return _most(recipe, settings, fused, _pods(recipe, settings, fused, profile))


def compiled(recipe: Recipe[Any], settings: Settings, fused: bool, pods: Pods, held: int | None = None) -> Any:
    """A recipe's pipeline, made small."""
    traced = pipeline(recipe, settings, fused, pods, held)
    platform = MessageToDict(traced.platform_spec)
    spec = compacted(MessageToDict(traced.pipeline_spec), platform)
    traced.component_spec.implementation.graph = ParseDict(spec, type(traced.pipeline_spec)())
    if platform:
        traced.component_spec.platform_spec = ParseDict(platform, type(traced.platform_spec)())
    return traced


def cost_of(traced: Any) -> Cost:
    """What it costs a cluster to keep a run of a pipeline."""
    return cost(MessageToDict(traced.pipeline_spec), MessageToDict(traced.platform_spec))


def _pods(recipe: Recipe[Any], settings: Settings, fused: bool, profile: Profile | None) -> Pods:
    """Where the stages run; the recipe and the profile are asked whether the settings will do."""
    noting.check(recipe, settings)
    if profile is None:
        return Here()
    check(profile, recipe, settings, fused)
    return OnCluster(profile, stages_of(recipe, settings, fused), privileges(settings))


def _fitting(recipe: Recipe[Any], settings: Settings, fused: bool, pods: Pods) -> tuple[Any, int]:
    """The pipeline whose runs a cluster keeps, and the rounds that a run holds: all, or as many as fit."""
    if settings.rounds <= MANY[fused]:
        whole = compiled(recipe, settings, fused, pods)
        if cost_of(whole).stored <= ROOM:
            return whole, settings.rounds
    held = min(_most(recipe, settings, fused, pods), settings.rounds)
    return compiled(recipe, settings, fused, pods, held), held


def _most(recipe: Recipe[Any], settings: Settings, fused: bool, pods: Pods) -> int:
    def stored(rounds: int) -> int:
        longer = settings.model_copy(update={"rounds": rounds + 1})
        return cost_of(compiled(recipe, longer, fused, pods, rounds)).stored

    few, more = map(stored, FEW)
    most = FEW[0] + int((ROOM - few) * (FEW[1] - FEW[0]) / (more - few))
    while stored(most + 1) <= ROOM:  # no two rounds cost the same: their names and digests compress as they do
        most += 1
    while most > 0 and stored(most) > ROOM:
        most -= 1
    if most < 1:
        raise UserError(
            f"One round of {recipe.name} is more than a cluster keeps as one run: give --fused, or let the recipe call "
            "fewer stages."
        )
    return most


def _too_many(recipe: Recipe[Any], held: int, fused: bool, most: int) -> UserError:
    """The error for a run that is to hold too many rounds, with the number that fits."""
    ways = "" if fused else "give --fused, which makes each round one pod, or "
    return UserError(
        f"A run of {held} rounds of {recipe.name} would outgrow what a cluster keeps of it before it ends, {most} fit: "
        f"{ways}leave out --rounds-a-run."
    )


def run_locally(
    recipe: Recipe[Any],
    settings: Settings,
    root: Path,
    fused: bool = False,
    form: Mapping[str, Any] | None = None,
    held: int | None = None,
) -> None:
    """Run a recipe's pipeline on this machine by ``kfp.local``, a process a task; its artifacts lie in ``root``.

    It is the pipeline that the KFP UI takes; ``form`` is what a person changes in its form.
    """
    with warnings.catch_warnings(), _importable():
        warnings.filterwarnings("ignore", message=".*non-Python base image.*")
        warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        with tempfile.TemporaryDirectory() as place:
            compiled = Path(place, "pipeline.yaml")
            compile_pipeline(recipe, settings, compiled, fused, held=held)
            loaded = load_component_from_file(str(compiled))
        loaded(**(form or {}))


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
