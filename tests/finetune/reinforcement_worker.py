"""Reinforces in a process of its own that ends as if killed after so many steps: ``WORKER place kill_at``."""

import json
import os
import signal
import sys
from pathlib import Path

from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.finetune import ReinforceParams, reinforce_policy

place, kill_at = Path(sys.argv[1]), int(sys.argv[2])
job = json.loads((place / "job.json").read_text())


def watch(done: int, total: int, unit: str) -> None:
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


with progress.watched_by(watch):
    reinforce_policy.into(
        reinforce_policy.out(
            candidate=Model(uri=str(place / "candidate.partial" / "candidate")),
            rollouts=Dataset(uri=str(place / "candidate.partial" / "rollouts")),
            state=Artifact(uri=str(place / "candidate.partial" / "state")),
        ),
        ReinforceParams.model_validate(job["params"]),
        policy=Model(uri=job["policy"]),
        tasks=Dataset(uri=job["tasks"]),
        eval_items=Dataset(uri=job["eval_items"]),
        state=Artifact(uri=job["state"]),
    )
