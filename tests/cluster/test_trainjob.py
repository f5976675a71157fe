"""A training across nodes: a TrainJob at a server that takes it only as it should be, and really runs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kubernetes.config import incluster_config
from selfloop import progress
from selfloop.artifacts import manifest_of, sidecar_of
from selfloop.cluster import access, trainjob
from selfloop.policy import load
from selfloop.store import open_store

from ..finetune.conftest import Finetuned, finetuned, plain, tried
from .trainer_api import IMAGE, TrainerApi, serving

__all__ = ["finetuned", "plain"]

ACROSS = {"nodes": 2, "nodes_from_bytes": 0}
ONE = {"nodes": 1, "nodes_from_bytes": 0}


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
        store = tmp_path / "store"
        monkeypatch.setenv("SELFLOOP_STORE", str(store))
        monkeypatch.setenv("SELFLOOP_IMAGE", IMAGE)
        api.config_maps["selfloop-config"] = {"SELFLOOP_STORE": str(store)}
        api.secrets["selfloop-s3"] = {"AWS_SECRET_ACCESS_KEY": "not-to-be-seen"}
        api.add_pod()["spec"]["containers"][0] |= {
            "env": [
                {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {
                    "name": "SELFLOOP_STORE",
                    "valueFrom": {"configMapKeyRef": {"name": "selfloop-config", "key": "SELFLOOP_STORE"}},
                },
                {
                    "name": "AWS_SECRET_ACCESS_KEY",
                    "valueFrom": {"secretKeyRef": {"name": "selfloop-s3", "key": "AWS_SECRET_ACCESS_KEY"}},
                },
                {"name": "AWS_REGION", "value": "eu-1"},
                {"name": "PASSWORD_OF_SOMETHING", "value": "by-value"},
            ],
            "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        }
        yield api


def test_one_node_makes_what_the_pod_would_have_made(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = finetuned(plain, "alone", tried(), steps=4)
    monkeypatch.setattr("selfloop.finetune.launch.leaves", lambda *_: True)
    seen: list[tuple[int, int]] = []
    with progress.watched_by(lambda done, total, unit: seen.append((done, total))):
        made = finetuned(plain, "made", tried(), steps=4)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert made.metadata == alone.metadata
    assert manifest_of(made.path).digest == manifest_of(alone.path).digest
    assert sidecar_of(made.path)["tokens_per_second"] > 0
    assert trainer.jobs == {}
    with open_store(str(tmp_path / "store")) as store:
        assert sorted(store.keys()) == sorted([manifest_of(plain).digest, manifest_of(made.path).digest])


def test_two_nodes_train_as_one_does(
    plain: Path, finetuned: Finetuned, trainer: TrainerApi, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = finetuned(plain, "alone", tried(), steps=4)
    seen: list[tuple[int, int]] = []
    with progress.watched_by(lambda done, total, unit: seen.append((done, total))):
        both = finetuned(plain, "both", tried(), steps=4, **ACROSS)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name, weights in load(alone.path).model.state_dict().items():
        assert torch.allclose(weights, load(both.path).model.state_dict()[name], atol=1e-5)
    assert both.metadata["steps"] == 4
    assert both.metadata["loss"] == pytest.approx(alone.metadata["loss"], rel=0.2)
    (sent,) = trainer.created
    assert sent["spec"]["trainer"]["numNodes"] == 2
    assert trainer.jobs == {}
    assert "selfloop step" not in capfd.readouterr().out
