"""A traced pipeline as a file for the KFP UI, or as a run on this machine by ``kfp.local``."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from kfp import compiler, components, local

from selfloop.errors import UserError
from selfloop.pipeline.compact import compacted
from selfloop.pipeline.tracing import IMAGE_PREFIX, pipeline
from selfloop.recipe import Recipe, Settings


def compile_pipeline(
    recipe: Recipe[Any], settings: Settings, output: Path, fused: bool = False, image_prefix: str = IMAGE_PREFIX
) -> None:
    """Write a recipe's pipeline as YAML for the KFP UI."""
    if output.suffix not in {".yaml", ".yml", ".json"}:
        raise UserError(f"KFP reads .yaml or .json, not '{output.name}': choose another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    traced = pipeline(recipe, settings, fused, image_prefix)
    spec = ParseDict(compacted(MessageToDict(traced.pipeline_spec)), type(traced.pipeline_spec)())
    traced.component_spec.implementation.graph = spec
    compiler.Compiler().compile(traced, str(output))


def run_locally(recipe: Recipe[Any], settings: Settings, root: Path, fused: bool = False) -> None:
    """Run a recipe's pipeline on this machine by ``kfp.local``, a process a task; its artifacts lie in ``root``."""
    with warnings.catch_warnings(), _importable():
        warnings.filterwarnings("ignore", message=".*non-Python base image.*")
        warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        with tempfile.TemporaryDirectory() as place:
            compiled = Path(place, "pipeline.yaml")
            compile_pipeline(recipe, settings, compiled, fused)
            loaded = components.load_component_from_file(str(compiled))
        loaded()


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
