"""Servers that tests start and stop: PostgreSQL from Debian, and MLflow's own on top of it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server with an empty database; its URI as MLflow takes it."""
    programs, port = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1], free_port()
    with tempfile.TemporaryDirectory() as place:
        data, as_user = Path(place) / "data", list[str]()
        if os.getuid() == 0:  # the server refuses to run as root
            shutil.chown(place, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]

        def run(program: str, *words: str) -> None:
            subprocess.run(
                [*as_user, str(programs / program), "-D", str(data), *words],
                check=True,
                cwd=place,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        run("initdb", "-U", "postgres", "-A", "trust")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "-w", "-l", f"{place}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@contextmanager
def mlflow_server(backend: str, artifacts: str, log: Path) -> Iterator[str]:
    """MLflow's server; its URI."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend]
    command += ["--default-artifact-root", artifacts, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    without = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with log.open("w") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, env=without | quiet, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not _healthy(uri):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
