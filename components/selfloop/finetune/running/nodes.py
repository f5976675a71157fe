"""A training across nodes: its inputs and what it came to go through the store, and a TrainJob does the work.

``train_on_nodes`` runs in the stage's pod: it puts the policies and one artifact with all else into the store, has
``cluster.trainjob`` run this module on each node, and takes the policy that was made from the store into its own
output. On a node this module fetches the inputs into the machine's cache and lets ``accelerate launch`` do the work, as
the pod would; the processes of all nodes train together, and the first one saves::

    python -m selfloop.finetune.running.nodes s3://bucket/prefix/<key of the artifact> <name and uid of the pod>

The Trainer tells a node its place in the environment (``PET_NNODES``, ``PET_NODE_RANK``, ``PET_NPROC_PER_NODE``,
``PET_MASTER_ADDR``, ``PET_MASTER_PORT``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from selfloop import machine
from selfloop.adapters import is_adapter, note_base, parts, put_base
from selfloop.artifacts import MANIFEST, SIDECAR, code_digest, manifest_of, read_json, seal, write_json
from selfloop.cluster.reasons import REFUSED
from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.finetune.running.launch import (
    JOB,
    Job,
    TrainingResult,
    Work,
    configuration,
    job_description,
    report_step,
    result,
    run_launcher,
)
from selfloop.store import Store, open_store

MADE = "selfloop made "
"""What the first node's last line begins with; then follows where in the store lies what it made."""
CONFIG, TABLES = "accelerate.yaml", "inputs"
REFUSED_STATUS = 2


def train_on_nodes(work: Work, params: TrainingParams, job: Job, beside: Sequence[str] = ()) -> TrainingResult:
    """The work, done on ``params.nodes`` nodes; ``beside`` are the folders that it leaves in the policy's.

    Raises ``UserError`` for what a node refuses and what ends it.
    """
    from selfloop.cluster import trainjob

    uri = os.environ.get("SELFLOOP_STORE")
    if not uri:
        raise UserError(
            f"nodes={params.nodes} needs a store that the nodes reach too: set SELFLOOP_STORE, or leave nodes at 1."
        )
    said: list[str] = []

    def on_line(line: str) -> None:
        if line.startswith(MADE):
            said.append(line.removeprefix(MADE).strip())
        elif not report_step(line):
            print(line, end="", flush=True)

    with open_store(uri) as store:
        handed = handed_over(store, work, params, job, beside)
        name = f"selfloop-{store.key(handed)[:16]}"
        trainjob.run(name, ["python", "-m", __name__, handed], params.nodes, on_line)
        if not said:
            raise UserError(
                f"TrainJob {name} ended well, but its first node's log does not say what it made: try again."
            )
        made = taken_back(store, said[-1], job, beside)
        store.delete(handed)
    return made


def handed_over(store: Store, work: Work, params: TrainingParams, job: Job, beside: Sequence[str]) -> str:
    """Put all that the work needs into the store: policies under their own keys, the rest in one artifact. Its URI."""
    config = configuration(params)
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        policies = {}
        for name, path in job.inputs.items():
            if manifest_of(path).kind == "Model":
                put_base(store, path)
                policies[name] = store.put(path)
            else:
                _copied(Path(path), place / TABLES / name)
        if config:
            shutil.copyfile(config, place / CONFIG)
        about = job_description(work, params) | {"policies": policies, "place": job.place.name, "beside": beside}
        about["code"] = code_digest()
        write_json(place, about, JOB)
        seal(place, "Artifact")
        return store.put(place)


def taken_back(store: Store, uri: str, job: Job, beside: Sequence[str]) -> TrainingResult:
    """Take the policy that was made, and what lay beside it, into the output; only the policy stays in the store."""
    place = store.get(uri)
    about = read_json(place)
    _copied(store.get(about["policy"]), job.output)
    for name in beside:
        _copied(place / name, job.output / name)
    if is_adapter(job.output):
        note_base(job.output, parts(job.inputs["policy"]).base)
    store.delete(uri)
    return TrainingResult(about["metadata"], about["moment"])


class Node(NamedTuple):
    """Which of how many nodes this is, how many processes each has, and where the first one is."""

    rank: int
    nodes: int
    processes: int
    address: str
    port: str

    @classmethod
    def of_environment(cls) -> Node:
        """What the Trainer told. Raises ``UserError`` where it told nothing."""
        try:
            rank, nodes, processes = (
                int(os.environ[f"PET_{name}"]) for name in ("NODE_RANK", "NNODES", "NPROC_PER_NODE")
            )
            return cls(rank, nodes, processes, os.environ["PET_MASTER_ADDR"], os.environ["PET_MASTER_PORT"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"This is no node of a TrainJob (no whole number or no value for {error}): it is started by "
                "the Trainer, from a runtime whose mlPolicy is torch."
            ) from None

    def launching(self, config: Path) -> list[str]:
        """How ``accelerate launch`` is told."""
        world = self.nodes * self.processes
        plain = ["--mixed_precision=no", "--dynamo_backend=no", *(["--multi_gpu"] if world > 1 else [])]
        how = ["--config_file", str(config)] if config.exists() else plain
        how += [f"--num_processes={world}", f"--num_machines={self.nodes}", f"--machine_rank={self.rank}"]
        if self.nodes == 1:
            return how
        # DeepSpeed's own launcher would go from node to node by ssh
        how += ["--same_network", "--deepspeed_multinode_launcher=standard"]
        return [*how, f"--main_process_ip={self.address}", f"--main_process_port={self.port}"]


def serve(uri: str, node: Node) -> str:
    """Do this node's part of the work. Returns where what was made is; nothing on nodes other than the first.

    Checkpoints lie in ``SELFLOOP_SCRATCH``, a place that all nodes share: a training that the Trainer starts again
    continues from them. Where it is not set they go with the pod, and such a training begins anew.
    """
    with open_store(uri.rpartition("/")[0]) as store, tempfile.TemporaryDirectory() as made:
        handed, here = store.get(uri), Path(made)
        about = read_json(handed, JOB)
        if about["code"] != code_digest():
            raise UserError(
                "The nodes hold another version of selfloop than the pod that sent them the work: let both run one "
                "image, by digest."
            )
        inputs = {path.name: str(path) for path in (handed / TABLES).glob("*")}
        inputs |= {name: str(store.get(policy)) for name, policy in about["policies"].items()}
        place = Path(os.environ.get("SELFLOOP_SCRATCH") or here) / str(about["place"])
        job = Job(inputs, here / "output", place)
        status = run_launcher(
            about, job, here, node.launching(handed / CONFIG), lambda line: print(line, end="", flush=True)
        )
        made_here = result(here)
        if status or (made_here is None and node.rank == 0):
            print(f"The training processes of this node ended with status {status}.", flush=True)
            sys.exit(1)
        if made_here is None:
            return ""
        made_here.moment.update(cpus=node.nodes * machine.cores(), gpus=node.nodes * machine.gpus())
        uri = _kept(store, made_here, job.output, about["beside"])
        shutil.rmtree(place, ignore_errors=True)
        return uri


def _kept(store: Store, made: TrainingResult, output: Path, beside: Sequence[str]) -> str:
    """Put the policy into the store under its own key, and in another artifact, whose URI this is, what the training
    came to and what it left beside the policy.
    """
    with tempfile.TemporaryDirectory() as place:
        for name in beside:
            shutil.move(output / name, Path(place, name))
        seal(output, "Model")
        put_base(store, output)
        about: dict[str, Any] = {"policy": store.put(output), "metadata": made.metadata, "moment": made.moment}
        write_json(place, about)
        seal(Path(place), "Artifact")
        return store.put(place)


def _copied(source: Path, target: Path) -> None:
    """Give the files of an artifact a second place: links where that works."""

    def link(a: str, b: str) -> None:
        try:
            os.link(a, b)
        except OSError:
            shutil.copyfile(a, b)

    shutil.copytree(
        source, target, copy_function=link, ignore=shutil.ignore_patterns(MANIFEST, SIDECAR), dirs_exist_ok=True
    )


def main(uri: str, owner: str, uid: str) -> None:
    """Serve as a node for a pod, and say with the last line what came of it."""
    from selfloop.cluster.trainjob import end_with

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    end_with(owner, uid)
    os.environ.setdefault("SELFLOOP_STORE", uri.rpartition("/")[0])
    try:
        made = serve(uri, Node.of_environment())
    except UserError as error:
        print(f"{REFUSED}{json.dumps(str(error))}", flush=True)
        sys.exit(REFUSED_STATUS)
    if made:
        print(f"{MADE}{made}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
