"""A training across nodes: a TrainJob at a server that takes it only as it should be, and really runs it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kubernetes.config import incluster_config
from selfloop import progress
from selfloop.artifacts import manifest_of, read_json, sidecar_of, write_json
from selfloop.cluster import access, reasons, trainjob
from selfloop.errors import UserError
from selfloop.finetune import FinetuneParams
from selfloop.finetune.running.dispatch import spans_nodes
from selfloop.policy import load, weight_bytes
from selfloop.store import open_store

from .. import s3
from ..finetune.conftest import Finetuned, finetuned, plain, tried
from ..finetune.test_launch import CONFIG
from ..s3 import Server, User
from .trainer_api import IMAGE, POD, Fault, TrainerApi, now, serving

pytestmark = pytest.mark.slow

__all__ = ["finetuned", "plain"]

server, owner = s3.server, s3.owner

ACROSS = {"nodes": 2, "nodes_from_bytes": 0}


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainerApi]:
    """The server, and this process as the pod of a stage."""
    place = tmp_path / "kubernetes"
    place.mkdir()
    with serving(place) as api:
        for name, value in api.environment().items():
            monkeypatch.setenv(name, value)
        files = api.files()
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(files["token"]))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(files["ca.crt"]))
        monkeypatch.setattr(access, "NAMESPACE_OF_POD", files["namespace"])
        monkeypatch.setattr(trainjob, "LOOK_EVERY_S", 0.1)
        monkeypatch.setattr(trainjob, "of_pod", lambda: access.of_pod(access.PATIENT.new(backoff_factor=0.01)))
        store = tmp_path / "store"
        monkeypatch.setenv("SELFLOOP_STORE", str(store))
        monkeypatch.setenv("SELFLOOP_IMAGE", IMAGE)
        monkeypatch.setenv("AWS_REGION", "eu-1")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
        api.secrets["selfloop-s3"] = {"AWS_SECRET_ACCESS_KEY": "not-to-be-seen"}
        api.add_pod()["spec"]["containers"][0] |= {
            "env": [
                {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {
                    "name": "AWS_SECRET_ACCESS_KEY",
                    "valueFrom": {"secretKeyRef": {"name": "selfloop-s3", "key": "AWS_SECRET_ACCESS_KEY"}},
                },
                {"name": "PASSWORD_OF_SOMETHING", "value": "by-value"},
            ],
            "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        }
        yield api


def on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that would stay in the pod goes to one node."""
    monkeypatch.setattr("selfloop.finetune.running.dispatch.spans_nodes", lambda *_: True)


def test_one_node_makes_what_the_pod_would_have_made(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = finetuned(plain, "alone", tried(), steps=4)
    on_a_node(monkeypatch)
    seen: list[tuple[int, int]] = []
    with progress.watched_by(lambda done, total, unit: seen.append((done, total))):
        made = finetuned(plain, "made", tried(), steps=4)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert made.metadata == alone.metadata
    for output in ("{}", "{} state"):
        here, there = (manifest_of(tmp_path / output.format(name)).digest for name in ("alone", "made"))
        assert here == there
    assert sidecar_of(made.path)["tokens_per_second"] > 0
    assert trainer.jobs == {}
    with open_store(str(tmp_path / "store")) as store:
        assert sorted(store.keys()) == sorted([manifest_of(plain).digest, manifest_of(made.path).digest])


def test_two_nodes_train_as_two_processes_of_the_pod_do(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "two.yaml"
    config.write_text(CONFIG)
    in_pod = finetuned(plain, "in pod", tried(), steps=4, accelerate_config=str(config))
    seen: list[tuple[int, int]] = []
    with progress.watched_by(lambda done, total, unit: seen.append((done, total))):
        across = finetuned(plain, "across", tried(), steps=4, accelerate_config=str(config), **ACROSS)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert across.metadata["loss"] == pytest.approx(in_pod.metadata["loss"], rel=1e-5)
    there = load(across.path).model.state_dict()
    for name, weights in load(in_pod.path).model.state_dict().items():
        assert torch.allclose(weights, there[name], atol=1e-6)
    assert trainer.jobs == {}
    assert "selfloop made" not in capfd.readouterr().out


def test_an_adapter_comes_back_with_its_base(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = {"adapter": "lora", "lora_rank": 2, "steps": 2}
    alone = finetuned(plain, "alone", tried(), **lora)
    on_a_node(monkeypatch)
    made = finetuned(plain, "made", tried(), **lora)
    assert manifest_of(made.path).digest == manifest_of(alone.path).digest
    assert sidecar_of(made.path)["base"] == sidecar_of(alone.path)["base"]


@pytest.mark.debian("radosgw")
@pytest.mark.debian("ceph-mon")
@pytest.mark.debian("ceph-osd")
def test_nodes_reach_s3_with_the_keys_of_the_runtime(
    plain: Path,
    finetuned: Finetuned,
    trainer: TrainerApi,
    server: Server,
    owner: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.client(owner).create_bucket(Bucket="team")
    keys = owner.environment(server.endpoint) | {"SELFLOOP_STORE": "s3://team/loops"}
    for name, value in (keys | {"SELFLOOP_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    trainer.secrets["selfloop-s3"] = keys
    on_a_node(monkeypatch)
    made = finetuned(plain, "made", tried(), adapter="lora", lora_rank=2, steps=2)
    assert load(made.path).model.num_parameters() == load(plain).model.num_parameters()
    assert owner.secret_key not in json.dumps(trainer.created)
    with open_store("s3://team/loops") as store:
        assert set(store.keys()) == {manifest_of(plain).digest, manifest_of(made.path).digest}


def test_what_a_node_refuses_is_told(
    trained: Path, finetuned: Finetuned, trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_node(monkeypatch)
    with pytest.raises(UserError, match="packing cannot keep this policy's position scheme"):
        finetuned(trained, "packed", tried(), method="sft,packing=true")
    assert trainer.jobs == {}


def test_nodes_that_do_not_share_their_checkpoints_are_refused(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.runtime["SELFLOOP_SCRATCH"] = f"{tmp_path}/scratch-{{node}}"
    start = TrainerApi.start

    def with_a_checkpoint_on_one(api: TrainerApi, name: str) -> None:
        (handed,) = (tmp_path / "store").glob("*/job.json")
        place = tmp_path / "scratch-1" / read_json(handed.parent, "job.json")["place"] / "checkpoint-2"
        write_json(place, {"total": 1.0}, "whole.json")
        start(api, name)

    trainer.pretend = with_a_checkpoint_on_one
    with pytest.raises(UserError, match=r"The nodes see checkpoints of different steps \(0, 2\): set SELFLOOP_SCRATCH"):
        finetuned(plain, "made", tried(), **ACROSS)


def test_a_training_whose_node_died_continues_from_what_the_nodes_share(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, tmp_path: Path
) -> None:
    long = {"steps": 200, "checkpoint_every": 4}
    alone = finetuned(plain, "alone", tried(), **long)
    trainer.runtime["SELFLOOP_SCRATCH"] = str(tmp_path / "scratch")

    def with_one_that_dies(api: TrainerApi, name: str) -> None:
        api.start(name)
        api.nodes[name][0].dies_at = "selfloop step 9 200"

    trainer.pretend = with_one_that_dies
    with pytest.raises(UserError, match=r"Node \d of TrainJob selfloop-\w{16} ended with status"):
        finetuned(plain, "cut", tried(), **long, **ACROSS)
    trainer.pretend = None
    seen: list[int] = []
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        made = finetuned(plain, "made", tried(), **long, **ACROSS)
    assert seen == list(range(seen[0], 201))
    assert seen[0] % 4 == 1
    assert seen[0] > 8
    there = load(made.path).model.state_dict()
    for name, weights in load(alone.path).model.state_dict().items():
        assert torch.allclose(weights, there[name], atol=1e-4)
    assert not list((tmp_path / "scratch").iterdir())


def test_a_training_that_is_ended_takes_its_nodes_with_it(
    plain: Path, trainer: TrainerApi, tmp_path: Path, finetuned: Finetuned
) -> None:
    monkey = pytest.MonkeyPatch()
    monkey.setattr("selfloop.finetune.offline.finetuning.run_training", lambda *_: None)  # its inputs are wanted
    finetuned(plain, "cut", tried(), steps=2)
    monkey.undo()
    inputs = {name: str(tmp_path / f"cut {name}") for name in ("newest", "replay_pool", "seed_data", "eval_items")}
    job = {"params": {"steps": 100_000, "batch_size": 8} | ACROSS, "policy": str(plain), **inputs}
    (tmp_path / "job.json").write_text(json.dumps(job))
    files = {name: str(path) for name, path in trainer.files().items()}
    command = [sys.executable, str(Path(__file__).with_name("pod_worker.py")), str(tmp_path), json.dumps(files)]
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}) as stage:
        assert stage.stdout is not None
        assert "1\n" in iter(stage.stdout.readline, "")
        assert list(trainer.jobs)
        processes = [node.process for nodes in trainer.nodes.values() for node in nodes]
        stage.send_signal(signal.SIGTERM)
        assert stage.wait(60) == 128 + signal.SIGTERM
    assert trainer.jobs == {}
    assert len(processes) == 2
    assert all(process is not None and process.poll() is not None for process in processes)


def test_a_small_policy_stays_in_the_pod(plain: Path, finetuned: Finetuned, trainer: TrainerApi) -> None:
    finetuned(plain, "small", tried(), nodes=2)
    assert trainer.calls == []
    size = weight_bytes(plain)
    for nodes, least, goes in ((1, 0, False), (2, size + 1, False), (2, size, True), (8, 0, True)):
        params = FinetuneParams(nodes=nodes, nodes_from_bytes=least)
        assert spans_nodes(params, str(plain)) == goes


def test_nodes_need_a_pod_and_a_store(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SELFLOOP_STORE")
    with pytest.raises(UserError, match="nodes=2 needs a store that the nodes reach too: set SELFLOOP_STORE"):
        finetuned(plain, "no store", tried(), **ACROSS)
    monkeypatch.setenv("SELFLOOP_STORE", str(plain.parent / "store"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(UserError, match="is started from a pod on a cluster: submit the loop there, or set nodes to 1"):
        finetuned(plain, "no pod", tried(), **ACROSS)


@pytest.fixture
def runs(trainer: TrainerApi) -> Callable[..., list[str]]:
    """Runs a TrainJob of two nodes with what is done to it pretended; the lines that its first node said."""

    def run(pretend: Callable[[TrainerApi, str], None], nodes: int = 2) -> list[str]:
        trainer.pretend, said = pretend, list[str]()
        trainjob.run("selfloop-abc", ["python", "-m", "train"], nodes, said.append)
        return said

    return run


def ran(api: TrainerApi, name: str) -> None:
    """Both nodes do their work."""
    for number in range(2):
        ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        api.add_node(name, number, ended, phase="Succeeded").say(f"node {number}\n")
    api.finish(name, "Complete")


def test_the_trainjob_asks_for_what_the_pod_has(trainer: TrainerApi, runs: Callable[..., list[str]]) -> None:
    trainer.pods[POD]["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "selfloop", "pipeline/runid": "x"}
    trainer.pods[POD]["spec"]["activeDeadlineSeconds"] = 3600
    assert runs(ran) == ["node 0\n"]
    (sent,) = trainer.created
    assert sent["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": POD, "uid": f"uid-{POD}"}
    ]
    assert sent["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "selfloop"
    assert sent["spec"]["activeDeadlineSeconds"] == 3600
    asked = sent["spec"]["trainer"]
    assert asked["image"] == IMAGE
    assert asked["command"] == ["python", "-m", "train", POD, f"uid-{POD}"]
    assert asked["numProcPerNode"] == 1
    own = {"cpu": "1", "memory": "2Gi"}
    assert asked["resourcesPerNode"] == {"requests": own, "limits": own}
    assert {each["name"]: each["value"] for each in asked["env"]} == {
        "AWS_REGION": "eu-1",
        "SELFLOOP_STORE": os.environ["SELFLOOP_STORE"],
    }
    assert "not-to-be-seen" not in json.dumps(sent)
    assert "by-value" not in json.dumps(sent)


def test_a_node_has_a_process_for_each_gpu(
    trainer: TrainerApi, runs: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFLOOP_NODE_RESOURCES", '{"cpu": 64, "memory": "512Gi", "nvidia.com/gpu": "8"}')
    runs(ran)
    asked = trainer.created[0]["spec"]["trainer"]
    assert asked["numProcPerNode"] == 8
    assert asked["resourcesPerNode"]["limits"] == {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
    for said in ("8", '{"cpu": ["8"]}', "cpu=8"):
        monkeypatch.setenv("SELFLOOP_NODE_RESOURCES", said)
        with pytest.raises(UserError, match="SELFLOOP_NODE_RESOURCES is no JSON of quantities by resource"):
            runs(ran)


def test_only_these_rights_are_used(
    trainer: TrainerApi, runs: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts(pause_s: float) -> None:
        ran(trainer, "selfloop-abc")

    monkeypatch.setattr(trainjob, "nap", starts)
    assert runs(lambda api, name: None) == ["node 0\n"]
    assert set(trainer.calls) == {
        ("create", "trainjobs"),
        ("get", "trainjobs"),
        ("delete", "trainjobs"),
        ("get", "pods"),
        ("list", "pods"),
        ("get", "pods/log"),
        ("list", "events"),
    }


def ended(status: int, reason: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": status, "reason": reason, "finishedAt": "2026-01-01T00:00:00Z"}}


def out_of_memory(api: TrainerApi, name: str) -> None:
    api.add_node(name, 0, ended(1, "Error"), phase="Failed").say("RuntimeError: Connection closed by peer\n")
    api.add_node(name, 1, ended(137, "OOMKilled"), phase="Failed")
    api.finish(name, "Failed", "FailedJobs", "jobset failed")


def test_the_node_that_took_the_others_with_it_is_named(runs: Callable[..., list[str]], trainer: TrainerApi) -> None:
    with pytest.raises(UserError) as refused:
        runs(out_of_memory)
    assert str(refused.value) == (
        "Node 1 of TrainJob selfloop-abc ran out of memory (OOMKilled at 2Gi): raise accumulate, lower batch_size or "
        "max_length, set gradient_checkpointing, or give nodes more memory."
    )
    assert trainer.jobs == {}


def test_the_last_words_of_a_node_are_told(runs: Callable[..., list[str]]) -> None:
    def broken(api: TrainerApi, name: str) -> None:
        node = api.add_node(name, 1, ended(1, "Error"), phase="Failed")
        for line in ("Traceback (most recent call last):\n", '  File "x.py"\n', "ValueError: no\n", "status 1.\n"):
            node.say(line)
        api.finish(name, "Failed", "FailedJobs", "jobset failed")

    with pytest.raises(
        UserError, match=r"ended with status 1 after it said 'File \"x.py\" / ValueError: no / status 1\.': mend"
    ):
        runs(broken)


def test_a_node_that_dies_without_a_word_is_told_from_what_runs_beside_it(runs: Callable[..., list[str]]) -> None:
    def silent(api: TrainerApi, name: str) -> None:
        node = api.add_node(name, 1, ended(137, "Error"), phase="Failed")
        node.say("selfloop step 1 4\n")
        (status,) = node.pod["status"]["containerStatuses"]
        beside = status | {"name": "istio-proxy", "state": ended(0, "Completed")}
        node.pod["status"]["containerStatuses"] = [beside, status]
        api.finish(name, "Failed", "FailedJobs", "jobset failed")

    with pytest.raises(UserError, match=r"Node 1 .* ended with status 137 and without a word: its machine may have"):
        runs(silent)


def test_what_a_node_refused_is_told_at_once_though_it_is_started_again(runs: Callable[..., list[str]]) -> None:
    def again(api: TrainerApi, name: str) -> None:
        api.add_node(name, 0, {"running": {}}, phase="Running")
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        node = api.add_node(name, 1, waiting, phase="Running", restarts=1, last=ended(2, "Error"))
        node.before.append((now(), 'selfloop refused "There is nothing to train on."\n'))

    with pytest.raises(UserError, match=r"^There is nothing to train on\.$"):
        runs(again)


def test_a_node_ends_with_the_pod_that_it_works_for(
    trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told, looks = threading.Event(), list[float]()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())

    def the_pod_ends(pause_s: float) -> None:
        looks.append(pause_s)
        trainer.faults = [Fault("get", "pods", 500, times=9)] if len(looks) == 1 else []
        if len(looks) == 2:
            trainer.pods[POD]["status"]["phase"] = "Failed"

    try:
        monkeypatch.setattr(trainjob, "nap", the_pod_ends)
        trainjob.end_with(POD, f"uid-{POD}")
        assert told.wait(60)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(looks) == 2
    assert f"Pod {POD}, which this node works for, has ended" in capfd.readouterr().out


def test_a_node_that_may_not_look_works_on(trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch) -> None:
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("builtins.print", lambda line, **_: said.put(line))
    trainer.denied = {("get", "pods")}
    trainjob.end_with(POD, f"uid-{POD}")
    assert f"does not see whether pod {POD} still waits for it, and works on." in said.get(timeout=60)


def test_a_node_that_was_evicted_is_told(runs: Callable[..., list[str]]) -> None:
    def evicted(api: TrainerApi, name: str) -> None:
        about = {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
        api.add_node(name, 0, ended(143, "Error"), phase="Failed", **about)
        api.finish(name, "Failed", "FailedJobs", "jobset failed")

    with pytest.raises(UserError, match=r"Node 0 .* was ended \(Evicted: The node was low on resource: ephemeral-st"):
        runs(evicted)


def test_a_trainjob_that_fails_without_nodes_tells_what_the_trainer_says(runs: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match=r"TrainJob selfloop-abc failed \(no such runtime\): look at its pods"):
        runs(lambda api, name: api.finish(name, "Failed", "TrainingRuntimeNotSupported", "no such runtime"))
    with pytest.raises(
        UserError, match=r"ran out of time \(TrainJob exceeded its active deadline\): raise the stage's"
    ):
        runs(lambda api, name: api.finish(name, "Failed", "DeadlineExceeded", "TrainJob exceeded its active deadline"))


def no_image(api: TrainerApi, name: str) -> None:
    for number in range(2):
        waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
        api.add_node(name, number, {"waiting": waiting})


def unschedulable(api: TrainerApi, name: str) -> None:
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    api.add_node(name, 0, {"running": {}}, phase="Running")
    api.add_node(name, 1, {}, conditions=[condition])


def over_quota(api: TrainerApi, name: str) -> None:
    api.warn("another-job", "FailedMount", "not about this one")
    api.warn(f"{name}-node-0", "FailedCreate", "pods is forbidden: exceeded quota: gpus")


@pytest.mark.parametrize(
    ("pretend", "message"),
    [
        (no_image, r"does not start \(ImagePullBackOff: Back-off pulling image\): let SELFLOOP_IMAGE name an image"),
        (
            unschedulable,
            r"does not start \(Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu\): ask",
        ),
        (over_quota, r"does not start \(FailedToStart: pods is forbidden: exceeded quota: gpus\): mend what that says"),
        (lambda api, name: None, r"does not start \(no node was made\): ask who runs the cluster"),
    ],
)
def test_a_trainjob_that_does_not_start_is_given_up(
    runs: Callable[..., list[str]],
    trainer: TrainerApi,
    monkeypatch: pytest.MonkeyPatch,
    pretend: Callable[[TrainerApi, str], None],
    message: str,
) -> None:
    monkeypatch.setattr(reasons, "BROKEN_S", 0.0)
    monkeypatch.setattr(reasons, "START_WITHIN_S", 0.0)
    with pytest.raises(UserError, match=message):
        runs(pretend)
    assert trainer.jobs == {}


def test_a_trainjob_in_a_queue_is_waited_for(
    runs: Callable[..., list[str]], trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "START_WITHIN_S", 0.0)
    looks: list[str] = []

    def admitted(pause_s: float) -> None:
        looks.append("suspended")
        if len(looks) == 3:
            trainer.jobs["selfloop-abc"]["spec"]["suspend"] = False
            ran(trainer, "selfloop-abc")

    monkeypatch.setattr(trainjob, "nap", admitted)
    assert runs(lambda api, name: api.jobs[name]["spec"].update(suspend=True)) == ["node 0\n"]
    assert len(looks) == 3


def test_a_node_that_is_started_again_is_heard_again(
    runs: Callable[..., list[str]], trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(api: TrainerApi, name: str) -> None:
        api.add_node(name, 0, {"running": {}}, phase="Running").say("begun\n")
        api.add_node(name, 1, {"running": {}}, phase="Running")

    def on(pause_s: float) -> None:
        name = "selfloop-abc"
        if trainer.nodes[name][0].log[-1][1] == "begun\n":
            trainer.nodes[name][0].say("a step\n")
            return
        trainer.nodes[name].clear()
        ran(trainer, name)

    monkeypatch.setattr(trainjob, "nap", on)
    assert runs(first) == ["begun\n", "a step\n", "node 0\n"]


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (
            {"denied": {("create", "trainjobs")}},
            r"403 Forbidden: trainjobs is forbidden.*the right to create trainjobs in",
        ),
        ({"denied": {("get", "pods")}}, r"This pod, 'finetune-pod',.*give the account the right to get pods"),
        (
            {"pods": {}},
            r"There is no pod 'finetune-pod' in namespace team-a, and it ought to be this one: set POD_NAME",
        ),
        ({"denied": {("get", "pods/log")}}, r"TrainJob selfloop-abc .*give the account the right to get pods/log"),
        ({"absent": True}, r"install Kubeflow's Trainer with its runtime selfloop-torch, or set nodes to 1"),
        (
            {"faults": [Fault("create", "trainjobs", 422)]},
            r"is refused by the cluster: 422 .*the server is out of order",
        ),
        ({"faults": [Fault("create", "trainjobs", 500, times=9)]}, r"500 .*wait until the cluster is well again"),
    ],
)
def test_what_the_api_refuses_is_one_sentence(
    runs: Callable[..., list[str]], trainer: TrainerApi, plant: dict[str, Any], message: str
) -> None:
    for name, value in plant.items():
        setattr(trainer, name, value)
    with pytest.raises(UserError, match=message):
        runs(ran)
    assert trainer.jobs == {}


def test_an_api_that_is_away_for_a_while_ends_nothing(
    runs: Callable[..., list[str]], trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [("get", "trainjobs"), ("list", "pods"), ("get", "pods/log"), ("list", "events")]
    trainer.faults = [Fault(verb, resource, 500, times=11) for verb, resource in away]
    naps: list[float] = []

    def starts(pause_s: float) -> None:
        naps.append(pause_s)
        if not trainer.faults[-1].times and not trainer.nodes["selfloop-abc"]:
            ran(trainer, "selfloop-abc")

    monkeypatch.setattr(trainjob, "nap", starts)
    assert runs(lambda api, name: None) == ["node 0\n"]
    assert len(naps) > 4
    assert not any(fault.times for fault in trainer.faults)
    monkeypatch.setattr(trainjob, "PATIENCE_S", 0.0)
    trainer.faults = [Fault("get", "trainjobs", 500, times=11)]
    with pytest.raises(UserError, match="wait until the cluster is well again"):
        runs(ran)


def test_a_creation_whose_answer_was_lost_is_reused(runs: Callable[..., list[str]], trainer: TrainerApi) -> None:
    trainer.faults = [Fault("create", "trainjobs")]
    assert runs(ran) == ["node 0\n"]
    assert len(trainer.created) == 1


def left(trainer: TrainerApi, owner: str, *conditions: str) -> None:
    """A TrainJob of the same name that another pod created."""
    reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": f"uid-{owner}"}
    trainer.jobs["selfloop-abc"] = {
        "metadata": {
            "name": "selfloop-abc",
            "uid": "old",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [reference],
        },
        "spec": {"trainer": {}},
    }
    for kind in conditions:
        trainer.finish("selfloop-abc", kind)


@pytest.mark.parametrize("phase", ["Failed", "gone"])
def test_what_a_pod_that_ended_left_is_replaced(
    runs: Callable[..., list[str]], trainer: TrainerApi, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if phase != "gone":
        trainer.add_pod("old-pod", phase)
    left(trainer, "old-pod")
    assert runs(ran) == ["node 0\n"]
    assert "TrainJob selfloop-abc was left by a pod that ended, and is replaced." in capsys.readouterr().out
    assert len(trainer.created) == 1
    assert trainer.jobs == {}


def test_pods_of_an_earlier_trainjob_of_the_name_are_not_its_own(
    runs: Callable[..., list[str]], trainer: TrainerApi
) -> None:
    def after_another(api: TrainerApi, name: str) -> None:
        old = api.add_node(name, 0, ended(137, "OOMKilled"), phase="Failed")
        old.say("old\n")
        old.pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        ran(api, name)

    assert runs(after_another) == ["node 0\n"]


def test_what_was_left_complete_counts(runs: Callable[..., list[str]], trainer: TrainerApi) -> None:
    left(trainer, "old-pod", "Complete")
    trainer.add_node("selfloop-abc", 0, ended(0, "Completed"), phase="Succeeded").say("made\n")
    assert runs(ran) == ["made\n"]
    assert trainer.created == []
    assert trainer.jobs == {}


def test_what_another_pod_is_at_is_left_alone(runs: Callable[..., list[str]], trainer: TrainerApi) -> None:
    trainer.add_pod("old-pod")
    left(trainer, "old-pod")
    with pytest.raises(UserError, match="does this very work for pod old-pod, which still runs: wait for its result"):
        runs(ran)
    assert list(trainer.jobs) == ["selfloop-abc"]


def test_a_trainjob_that_somebody_deletes_is_missed(
    runs: Callable[..., list[str]], trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainjob, "nap", lambda _: trainer.jobs.clear())
    with pytest.raises(UserError, match="TrainJob selfloop-abc was deleted by somebody before it was done"):
        runs(lambda api, name: None)


def test_a_trainjob_that_cannot_be_deleted_spoils_nothing(
    runs: Callable[..., list[str]], trainer: TrainerApi, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.denied = {("delete", "trainjobs")}
    assert runs(ran) == ["node 0\n"]
    assert "TrainJob selfloop-abc goes with this pod." in capsys.readouterr().out


def test_times_of_a_log_sort_as_they_are() -> None:
    stamps = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.12Z", "2026-01-01T00:00:01+00:00"]
    assert sorted(map(trainjob.moment, reversed(stamps))) == [trainjob.moment(stamp) for stamp in stamps]
