"""Stages in their containers: what a pod of Kubernetes allows under PodSecurity ``restricted``, by podman."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from unittest import mock

from kfp.local import status, subprocess_task_handler

ROOT = Path(__file__).parent.parent
SECCOMP = ROOT / "manifests/base/sandbox/seccomp.json"
LOCKED = ["--rm", "--cap-drop=all", "--security-opt=no-new-privileges", "--read-only"]
LOCKED += ["--read-only-tmpfs=false", "--tmpfs=/tmp:mode=1777,size=1g"]


@cache
def build_script() -> ModuleType:
    """What ``make images`` runs."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "images/build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def containers_conf() -> str:
    """The settings that images are built with, whether or not any was built from here."""
    return str(build_script().containers_conf())


def podman(*words: str) -> subprocess.CompletedProcess[str]:
    """Run podman with the settings that the images are built with."""
    settings = {"CONTAINERS_CONF": containers_conf()}
    return subprocess.run(["podman", *words], check=False, capture_output=True, text=True, env=os.environ | settings)


def any_user() -> str:
    """A user and a group that no image knows."""
    return f"{random.randint(100_000, 900_000)}:{random.randint(100_000, 900_000)}"


def in_container(
    image: str,
    command: Sequence[str],
    *options: str,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    network: str = "none",
) -> subprocess.CompletedProcess[str]:
    """Run a command in an image with everything taken away that a stage does not need."""
    words = [*LOCKED, f"--network={network}", f"--user={user or any_user()}", *options]
    words += [f"--env={name}={value}" for name, value in (environment or {}).items()]
    return podman("run", *words, f"--entrypoint={command[0]}", image, *command[1:])


@contextmanager
def tasks_in_containers(root: Path, reached: Mapping[str, str] | None = None) -> Iterator[list[str]]:
    """Let ``kfp.local`` run each task's command in the task's image, with ``root`` alone mounted and no network; or
    with this machine's, and in its environment what is ``reached`` by it.

    Yields the images that were used, one a task.
    """
    used: list[str] = []
    user = any_user()
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o777)

    def run(task: subprocess_task_handler.SubprocessTaskHandler) -> status.Status:
        used.append(task.image)
        options = [f"--volume={root}:{root}", f"--security-opt=seccomp={SECCOMP}"]
        environment = {**task.env_vars, **(reached or {})}
        network = "host" if reached else "none"
        done = in_container(
            task.image, task.full_command, *options, user=user, environment=environment, network=network
        )
        sys.stdout.write(done.stdout + done.stderr)
        return status.Status.FAILURE if done.returncode else status.Status.SUCCESS

    with mock.patch.object(subprocess_task_handler.SubprocessTaskHandler, "run", run):
        yield used
