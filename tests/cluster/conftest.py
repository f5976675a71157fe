"""A Kubernetes API server for each test, and a person's access to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selfloop.cluster.access import Access, of_person

from .kubernetes_api import KubernetesApi, serving


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesApi]:
    place = tmp_path / "kubernetes"
    place.mkdir()
    with serving(place) as api:
        yield api


@pytest.fixture
def access(kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig()))
    return of_person()
