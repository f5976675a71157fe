"""A stage's pod: trains across nodes, with what is mounted into a pod at the given places. ``WORKER place files``."""

import json
import sys
from pathlib import Path

from kfp.dsl import Artifact, Dataset, Model
from kubernetes.config import incluster_config
from selfloop import progress
from selfloop.cluster import access, trainjob
from selfloop.finetune import FinetuneParams, finetune_policy

place, files = Path(sys.argv[1]), json.loads(sys.argv[2])
incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME = files["token"], files["ca.crt"]
access.NAMESPACE_OF_POD = Path(files["namespace"])
trainjob.LOOK_EVERY_S = 0.1
job = json.loads((place / "job.json").read_text())

with progress.watched_by(lambda done, total, unit: print(done, flush=True)):
    finetune_policy.into(
        finetune_policy.out(candidate=Model(uri=str(place / "candidate")), state=Artifact(uri=str(place / "state"))),
        FinetuneParams.model_validate(job["params"]),
        policy=Model(uri=job["policy"]),
        **{name: Dataset(uri=job[name]) for name in ("newest", "replay_pool", "seed_data", "eval_items")},
    )
