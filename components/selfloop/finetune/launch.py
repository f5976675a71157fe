"""Where a training stage's work is done: in this process, or in the processes that ``accelerate launch`` starts.

Each process does the work on its share of every batch; the first one saves and tells. FSDP and DeepSpeed are asked for
in accelerate's own configuration.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kfp.dsl import Artifact

from selfloop import progress
from selfloop.artifacts import SIDECAR, read_json, sidecar_of, write_json
from selfloop.errors import UserError
from selfloop.finetune.checkpoints import scratch
from selfloop.finetune.params import TrainingParams
from selfloop.generate.engines import give_back
from selfloop.names import imported

JOB, RESULT, REFUSED, LOG = "job.json", "result.json", "refused.json", "launch.log"
STEP = "selfloop step "


class Made(NamedTuple):
    """What a training came to: what belongs to the policy, and what was of the moment."""

    metadata: dict[str, Any]
    moment: dict[str, Any]


class Job(NamedTuple):
    """What a process needs to know: the inputs' and the output's places, and the one for checkpoints."""

    inputs: Mapping[str, str]
    output: Path
    place: Path


Work = Callable[[Any, Job], Made]


def done(work: Work, params: TrainingParams, inputs: Mapping[str, Artifact], output: Artifact) -> None:
    """Do a stage's work and note on its output what it came to; the checkpoints go once it is done."""
    import torch

    paths = {name: artifact.path for name, artifact in inputs.items()}
    job = Job(paths, Path(output.path), scratch(output.path, f"{work.__module__}:{work.__qualname__}", params, paths))
    if torch.cuda.is_available():
        give_back()
    alone = params.accelerate_config == "auto" and torch.cuda.device_count() < 2
    made = work(params, job) if alone else launched(work, params, job)
    write_json(output.path, sidecar_of(output.path) | made.moment, SIDECAR)
    output.metadata.update(made.metadata)
    shutil.rmtree(job.place, ignore_errors=True)


def launched(work: Work, params: TrainingParams, job: Job) -> Made:
    """The work, done by the processes of ``accelerate launch``. Raises what one of them refused."""
    config = params.accelerate_config
    if config != "auto" and not Path(config).is_file():
        raise UserError(f"There is no accelerate configuration at {config}: make one with 'accelerate config'.")
    import torch

    how = (
        ["--config_file", config]
        if config != "auto"
        else ["--multi_gpu", f"--num_processes={torch.cuda.device_count()}"]
    )
    job.place.mkdir(parents=True, exist_ok=True)
    for name in (RESULT, REFUSED):
        (job.place / name).unlink(missing_ok=True)
    about = {
        "work": f"{work.__module__}:{work.__qualname__}",
        "model": f"{type(params).__module__}:{type(params).__qualname__}",
        "params": params.model_dump(mode="json"),
        "job": [dict(job.inputs), str(job.output), str(job.place)],
    }
    write_json(job.place, about, JOB)
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "-m", __name__, str(job.place / JOB)]
    status = _followed(command, job.place / LOG)
    if (job.place / REFUSED).exists():
        raise UserError(str(read_json(job.place, REFUSED)))
    if status or not (job.place / RESULT).exists():
        raise UserError(f"The training processes ended with status {status}: what they said is in {job.place / LOG}.")
    return Made(*read_json(job.place, RESULT))


def _followed(command: list[str], log: Path) -> int:
    """Run a command, hand on the steps that it reports, and keep all else that it says."""
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(STEP):
                finished, total = map(int, line.removeprefix(STEP).split())
                progress.report(finished, total, "steps")
            else:
                kept.write(line)
        return process.wait()


def is_first() -> bool:
    """Whether this process is the one that saves."""
    return os.environ.get("RANK", "0") == "0"


def enter(path: Path) -> None:
    """Do the work of a job in this process."""
    about = json.loads(path.read_text())
    inputs, output, place = about["job"]
    params = imported("parameters", about["model"]).model_validate(about["params"])

    def tell(finished: int, total: int, unit: str) -> None:
        if is_first():
            print(f"{STEP}{finished} {total}", flush=True)

    try:
        with progress.watched_by(tell):
            made = imported("work", about["work"])(params, Job(inputs, Path(output), Path(place)))
    except UserError as error:
        write_json(place, str(error), REFUSED)
        raise
    if is_first():
        write_json(place, list(made), RESULT)


if __name__ == "__main__":
    enter(Path(sys.argv[1]))
