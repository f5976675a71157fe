"""Images go to a registry by buildah, under the names that pipelines have for them."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ..containers import containers_conf, podman
from ..servers import free_port

pytestmark = [pytest.mark.debian("buildah"), pytest.mark.debian("podman"), pytest.mark.debian("docker-registry")]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on this machine, as HOST:PORT."""
    host = f"127.0.0.1:{free_port()}"
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nhttp: {{addr: '{host}'}}\nstorage: {{filesystem: {{rootdirectory: '{tmp_path}/storage'}}}}\n"
    )
    command = [str(shutil.which("docker-registry")), "serve", str(tmp_path / "registry.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(f"http://{host}/v2/")
            yield host
        finally:
            process.terminate()


def _await(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.1)  # until it listens
        else:
            return
    raise RuntimeError(f"{url} does not answer.")


def test_an_image_is_pushed_under_its_prefix_and_version(
    build: ModuleType, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registries.conf").write_text(f"[[registry]]\nlocation = '{registry}'\ninsecure = true\n")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("CONTAINERS_CONF", containers_conf())
    (tmp_path / "small").mkdir()
    (tmp_path / "small/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    names = build.Names(f"{registry}/team", "1.2.3")
    assert podman("build", f"--tag={names.of('base')}", str(tmp_path / "small")).returncode == 0
    try:
        build.send(["base"], names)
    finally:
        podman("image", "rm", names.of("base"))
    with urllib.request.urlopen(f"http://{registry}/v2/team/base/tags/list") as answer:
        assert json.load(answer) == {"name": "team/base", "tags": ["1.2.3"]}
