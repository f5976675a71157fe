"""A real S3 server for the tests: Ceph from Debian with one monitor, one store of objects in memory and one gateway.

It needs the Debian packages ``ceph-mon``, ``ceph-osd``, ``radosgw`` and ``ceph-common``, about 1 GB of memory, and no
rights: everything lies in a temporary folder, on free ports of the loopback interface.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .servers import free_port

CLASSES = Path("/usr/lib/x86_64-linux-gnu/rados-classes")
STARTS_WITHIN_S = 90
CONFIGURATION = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = {root}
admin socket = {root}/$name.sock
pid file = {root}/$name.pid
log file = {root}/$name.log
crash dir = {root}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {capacity_bytes}
osd class dir = {classes}
osd class load list = *
osd class default list = *
mon data = {root}/mon
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 0
mon data avail warn = 0
osd data = {root}/osd
osd heartbeat grace = 120
osd op thread timeout = 120
rgw data = {root}/rgw
rgw multipart min part size = 65536
rgw thread pool size = 32
rgw bucket quota ttl = 0
rgw user quota bucket sync interval = 1
rgw enable usage log = false
rgw enable gc threads = true
rgw gc obj min wait = 1
rgw gc processor period = 5
rgw gc processor max time = 5
rgw lc debug interval = -1
"""


@dataclass(frozen=True)
class User:
    """Somebody whom the server knows."""

    name: str
    access_key: str
    secret_key: str

    def environment(self, endpoint: str) -> dict[str, str]:
        """What makes a store talk to a server as this user."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True)
class Server:
    """A running server. ``root`` holds its configuration and its logs."""

    root: Path
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def admin(self, *words: str) -> Any:
        """What ``radosgw-admin`` answers, parsed where it is JSON."""
        said = self._run("radosgw-admin", *words)
        try:
            return json.loads(said)
        except json.JSONDecodeError:
            return said

    def user(self, name: str) -> User:
        """A new user."""
        key = self.admin("user", "create", "--uid", name, "--display-name", name)["keys"][0]
        return User(name, key["access_key"], key["secret_key"])

    def client(self, user: User) -> Any:
        """A boto3 client of a user, straight to the server."""
        return importlib.import_module("boto3").client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            region_name="us-east-1",
        )

    def _run(self, program: str, *words: str) -> str:
        command = [program, "-c", str(self.root / "ceph.conf"), *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
        return done.stdout


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for a module's tests, which take it as ``server = s3.server``."""
    with serving(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def owner(server: Server) -> User:
    """Somebody who owns buckets there."""
    return server.user("owner")


@contextmanager
def serving(root: Path, capacity_bytes: int = 1536 * 1024**2) -> Iterator[Server]:
    """Run a server in an empty folder for the length of a block; nothing of it is left running afterwards."""
    server, mon_port = Server(root, free_port()), free_port()
    for name in ("mon", "osd", "rgw"):
        (root / name).mkdir()
    text = CONFIGURATION.format(
        fsid=uuid.uuid4(), root=root, mon_port=mon_port, capacity_bytes=capacity_bytes, classes=CLASSES
    )
    (root / "ceph.conf").write_text(text)
    running: list[subprocess.Popen[bytes]] = []
    try:
        _start(server, mon_port, running)
        yield server
    finally:
        for process in reversed(running):
            _end(process)


def _start(server: Server, mon_port: int, running: list[subprocess.Popen[bytes]]) -> None:
    root, osd = server.root, str(uuid.uuid4())
    fsid = (root / "ceph.conf").read_text().split("fsid = ")[1].split()[0]
    monitors = str(root / "monmap")
    address = f"[v2:127.0.0.1:{mon_port}]"
    subprocess.run(
        ["monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monitors], check=True, capture_output=True
    )
    server._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors)
    running.append(_daemon(server, "ceph-mon", "-i", "a"))
    server._run("ceph", "--connect-timeout", "60", "osd", "new", osd)
    server._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    running.append(_daemon(server, "ceph-osd", "-i", "0"))
    frontend = f"beast endpoint=127.0.0.1:{server.port}"
    running.append(_daemon(server, "radosgw", "-n", "client.rgw", f"--rgw-frontends={frontend}"))
    _until(lambda: _answers(server.endpoint), running, root)


def _daemon(server: Server, program: str, *words: str) -> subprocess.Popen[bytes]:
    with (server.root / f"{program}.out").open("wb") as out:
        command = [program, "-f", "-c", str(server.root / "ceph.conf"), *words]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=_die_with_the_tests,
        )


def _die_with_the_tests() -> None:
    """Nothing is left behind even where the tests themselves are killed."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _until(ready: Callable[[], bool], running: list[subprocess.Popen[bytes]], root: Path) -> None:
    last = time.monotonic() + STARTS_WITHIN_S
    while not ready():
        ended = [process.args for process in running if process.poll() is not None]
        if ended or time.monotonic() > last:
            said = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(root.glob("*.out")))
            raise RuntimeError(f"The S3 server did not start (ended: {ended}):\n{said}")
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
