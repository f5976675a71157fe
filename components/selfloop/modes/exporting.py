"""Stages as KFP component files, for pipelines that are put together by hand or by other tools."""

from __future__ import annotations

from pathlib import Path

import yaml
from google.protobuf.json_format import MessageToDict

from selfloop import __version__
from selfloop.errors import UserError
from selfloop.stages import Stage, stages

HEAD = """\
# {stage.summary}
# A stage of selfloop, written by 'selfloop compile --components'. Take it into a pipeline of your own with
# kfp.components.load_component_from_file, and switch KFP's cache off: its key does not know what an artifact holds.
"""


def export_components(folder: Path, image_prefix: str = "selfloop") -> list[Path]:
    """Write each stage that comes with selfloop into ``folder`` as ``<stage>.yaml``; components of no stage go.

    Raises ``UserError`` where the folder holds anything else.
    """
    found = stages()
    folder.mkdir(parents=True, exist_ok=True)
    strange = sorted(path.name for path in folder.iterdir() if not _is_ours(path))
    if strange:
        raise UserError(f"{folder} holds {strange[0]}, which is no exported stage: choose another --output.")
    for path in folder.iterdir():
        path.unlink()
    for name, stage in found.items():
        (folder / f"{name}.yaml").write_text(_as_yaml(stage, image_prefix), encoding="utf-8")
    return [folder / f"{name}.yaml" for name in found]


def _as_yaml(stage: Stage, image_prefix: str) -> str:
    # KFP's own writer puts defaults into a comment, also those of several lines
    component = stage.component(f"{image_prefix}/{stage.image}:{__version__}")
    return HEAD.format(stage=stage) + yaml.safe_dump(MessageToDict(component.pipeline_spec), width=120)


def _is_ours(path: Path) -> bool:
    return path.suffix == ".yaml" and "\n# A stage of selfloop," in path.read_text(encoding="utf-8")
