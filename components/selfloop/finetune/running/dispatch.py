"""Where a training stage's work is done: in this process, in those that ``accelerate launch`` starts, or across nodes.

What spans nodes is in ``nodes``; a small policy never leaves the pod.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from kfp.dsl import Artifact

from selfloop.artifacts import SIDECAR, sidecar_of, write_json
from selfloop.finetune.params import TrainingParams
from selfloop.finetune.running.checkpoints import scratch
from selfloop.finetune.running.launch import Job, Work, launch_processes
from selfloop.generate.engines import give_back
from selfloop.policy import weight_bytes


def run_training(
    work: Work,
    params: TrainingParams,
    inputs: Mapping[str, Artifact],
    output: Artifact,
    beside: Mapping[str, Artifact] = {},
) -> None:
    """Do a stage's work and note on its output what it came to; the checkpoints go once it is done.

    ``beside`` are further outputs: what the work left in folders of their names beside the policy.
    """
    import torch

    paths = {name: artifact.path for name, artifact in inputs.items()}
    job = Job(paths, Path(output.path), scratch(output.path, f"{work.__module__}:{work.__qualname__}", params, paths))
    if torch.cuda.is_available():
        give_back()
    if spans_nodes(params, paths["policy"]):
        from selfloop.finetune.running.nodes import train_on_nodes  # a program too: see its docstring

        made = train_on_nodes(work, params, job)
    else:
        alone = params.accelerate_config == "auto" and torch.cuda.device_count() < 2
        made = work(params, job) if alone else launch_processes(work, params, job)
    for name, artifact in beside.items():
        shutil.copytree(Path(output.path, name), artifact.path, dirs_exist_ok=True)
        shutil.rmtree(Path(output.path, name))
    write_json(output.path, sidecar_of(output.path) | made.moment, SIDECAR)
    output.metadata.update(made.metadata)
    shutil.rmtree(job.place, ignore_errors=True)


def spans_nodes(params: TrainingParams, policy: str) -> bool:
    """Whether a training leaves this pod for others: where it is to span nodes, and its policy is no small one."""
    return params.nodes > 1 and weight_bytes(policy) >= params.nodes_from_bytes
