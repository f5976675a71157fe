"""Trains in a process of its own, which ends as if killed once it has taken so many steps: ``WORKER place kill_at``."""

import json
import os
import signal
import sys
from pathlib import Path

from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.finetune import FinetuneParams, finetune_policy

place, kill_at = Path(sys.argv[1]), int(sys.argv[2])
job = json.loads((place / "job.json").read_text())


def watch(done: int, total: int, unit: str) -> None:
    print(done, flush=True)
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


with progress.watched_by(watch):
    finetune_policy.into(
        finetune_policy.out(
            candidate=Model(uri=str(place / "candidate.partial" / "candidate")),
            state=Artifact(uri=str(place / "candidate.partial" / "state")),
        ),
        FinetuneParams.model_validate(job["params"]),
        policy=Model(uri=job["policy"]),
        **{name: Dataset(uri=job[name]) for name in ("newest", "replay_pool", "seed_data", "eval_items")},
    )
