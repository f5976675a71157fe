"""A training in the processes that ``accelerate launch`` starts on this machine.

Each process does the work on its share of every batch; the first one saves and tells. FSDP and DeepSpeed are asked for
in accelerate's own configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfloop import progress
from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.lookup import imported
from selfloop.metering import metered

JOB, RESULT, REFUSED, LOG = "job.json", "result.json", "refused.json", "launch.log"


class TrainingResult(NamedTuple):
    """What a training came to: what belongs to the policy, and what was of the moment."""

    metadata: dict[str, Any]
    moment: dict[str, Any]


class Job(NamedTuple):
    """What a process needs to know: the inputs' and the output's places, and the one for checkpoints."""

    inputs: Mapping[str, str]
    output: Path
    place: Path


Work = Callable[[Any, Job], TrainingResult]


def launch_processes(work: Work, params: TrainingParams, job: Job) -> TrainingResult:
    """The work, done by the processes of ``accelerate launch``. Raises what one of them refused."""
    config = configuration(params)
    import torch

    how = ["--config_file", config] if config else ["--multi_gpu", f"--num_processes={torch.cuda.device_count()}"]
    job.place.mkdir(parents=True, exist_ok=True)
    log = job.place / LOG
    with log.open("w") as kept:

        def on_line(line: str) -> None:
            if not report_step(line):
                kept.write(line)

        status = run_launcher(job_description(work, params), job, job.place, how, on_line)
    made = result(job.place)
    if status or made is None:
        raise UserError(f"The training processes ended with status {status}: what they said is in {log}.")
    return made


def configuration(params: TrainingParams) -> str:
    """The file of accelerate's configuration; empty where there is to be none."""
    config = params.accelerate_config
    if config != "auto" and not Path(config).is_file():
        raise UserError(f"There is no accelerate configuration at {config}: make one with 'accelerate config'.")
    return "" if config == "auto" else config


def job_description(work: Work, params: TrainingParams) -> dict[str, Any]:
    """What another process needs to know to do the work, but for the places of its inputs and output."""
    return {
        "work": f"{work.__module__}:{work.__qualname__}",
        "model": f"{type(params).__module__}:{type(params).__qualname__}",
        "params": params.model_dump(mode="json"),
    }


def run_launcher(
    about: Mapping[str, Any], job: Job, files: Path, how: Sequence[str], on_line: Callable[[str], None]
) -> int:
    """Let ``accelerate launch`` do what is described, with its files in a folder; ``on_line`` hears what is said.

    Returns the status with which it ended. Raises what one of the processes refused.
    """
    for name in (RESULT, REFUSED):
        (files / name).unlink(missing_ok=True)
    write_json(files, {**about, "job": [dict(job.inputs), str(job.output), str(job.place)]}, JOB)
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, "-m", __name__, str(files / JOB)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                on_line(line)
        except BaseException:  # such as the signal that ends this process
            process.terminate()
            raise
    if (files / REFUSED).exists():
        raise UserError(str(read_json(files, REFUSED)))
    return process.returncode


def report_step(line: str) -> bool:
    """Whether a line tells of a step, which is handed on to whoever watches the stage."""
    if not line.startswith(progress.STEP):
        return False
    finished, total = map(int, line.removeprefix(progress.STEP).split())
    progress.report(finished, total, "steps")
    return True


def result(files: Path) -> TrainingResult | None:
    """What the first process came to; none where it did not end well, or ran elsewhere."""
    return TrainingResult(*read_json(files, RESULT)) if (files / RESULT).exists() else None


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
            print(f"{progress.STEP}{finished} {total}", flush=True)

    try:
        with progress.watched_by(tell), metered() as meter:
            made = imported("work", about["work"])(params, Job(inputs, Path(output), Path(place)))
    except UserError as error:
        write_json(path.parent, str(error), REFUSED)
        raise
    if is_first():  # each process draws as many attempts
        made.moment["drawn"] = meter.drawn * int(os.environ.get("WORLD_SIZE", "1"))
        write_json(path.parent, list(made), RESULT)


if __name__ == "__main__":
    enter(Path(sys.argv[1]))
