"""Generated code in a container as a pod has it: kept apart under the seccomp profile, refused without it."""

import json
from pathlib import Path

import pytest
from selfloop.environments import find_environment
from selfloop.records import Rollout, Task, Verdict, rows

from ..conftest import sealed_table
from ..containers import SECCOMP, in_container
from .conftest import reference

pytestmark = [pytest.mark.slow, pytest.mark.debian("buildah"), pytest.mark.debian("podman")]
PROGRAM = """
import json, os
from selfloop.sandbox import Limits, Program, run_programs
programs = [
    "import os; os.kill(os.getppid(), 9); os.kill(-1, 9)",
    "print(input()[::-1])",
    "import os; print(os.listdir('/proc'), os.environ.get('SECRET'), os.getuid())",
    "import socket; socket.socket()",
    "open('/tmp/left', 'w').write('x'); print('wrote')",
    "import os; print(os.path.exists('/tmp/left'), os.path.exists('/opt'), os.path.exists('/out'))",
    "import ctypes; c = ctypes.CDLL(None); print(c.unshare(0x10000000), c.mount(b'a', b'/', b'tmpfs', 0, None))",
]
limits = Limits(wall_s=10, memory_bytes=2**28)
print(json.dumps([[o.status, o.stdout] for o in run_programs([Program(p, stdin="abc") for p in programs], limits)]))
"""
NAMESPACES = ("clone", "mount", "pivot_root", "sethostname", "setns", "umount2", "unshare")


def without(*names: str) -> dict[str, object]:
    """The profile where these system calls are not allowed; ``clone`` then makes threads and processes only."""
    profile = dict(json.loads(SECCOMP.read_text()))
    for rule in profile["syscalls"]:
        if set(rule["names"]) == set(NAMESPACES):
            rule["names"] = [name for name in rule["names"] if name not in names]
    if "clone" in names:
        no_namespace = {"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}
        profile["syscalls"].append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespace]})
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    return profile


@pytest.mark.parametrize("image", ["sandbox", "finetune", "generate", "rl"])
def test_programs_are_kept_apart_in_a_pod_s_container(image: str) -> None:
    done = in_container(
        reference(image),
        ["python3", "-c", PROGRAM],
        f"--security-opt=seccomp={SECCOMP}",
        environment={"SECRET": "hush"},
    )
    assert done.returncode == 0, done.stderr
    _, reversed_, looked, connected, wrote, left, escaped = json.loads(done.stdout)
    assert reversed_ == ["ok", "cba\n"]
    assert looked == ["ok", "[] None 65534\n"]
    assert connected[0] != "ok"
    assert wrote == ["ok", "wrote\n"]
    assert left == ["ok", "False False False\n"]
    assert escaped == ["ok", "-1 -1\n"]


@pytest.mark.parametrize("name", [*NAMESPACES, "all of them"])
def test_without_what_the_profile_allows_code_is_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps(without(*(NAMESPACES if name == "all of them" else (name,)))))
    done = in_container(reference("sandbox"), ["python3", "-c", PROGRAM], f"--security-opt=seccomp={profile}")
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert "Generated code is not run unprotected, and bubblewrap does not work here" in said
    assert "the pod's seccomp profile" in said


def test_the_stage_judges_code_in_its_image_and_refuses_it_with_one_sentence_elsewhere(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    [task] = find_environment("code").tasks(1, 1, 5)
    right = Rollout(task.id, 1, 0, task.prompt, task.answer, True, 9)
    sealed_table(tmp_path / "tasks", Task, [task])
    sealed_table(tmp_path / "rollouts", Rollout, [right, right._replace(attempt=1, completion="def no(): pass")])
    words = "--tasks /in/tasks --rollouts /in/rollouts --verdicts /out/verdicts --audit /out/audit --environment code"
    command = ["python3", "-m", "selfloop", "verify_rollouts", *words.split()]
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    options = [f"--volume={tmp_path}:/in:ro", f"--volume={out}:/out"]
    closed = tmp_path / "closed.json"
    closed.write_text(json.dumps(without(*NAMESPACES)))
    refused = in_container(reference("sandbox"), command, *options, f"--security-opt=seccomp={closed}")
    assert refused.returncode == 1
    assert refused.stderr.startswith("selfloop: Generated code is not run unprotected")
    assert refused.stderr.count("\n") == 1
    refused = in_container(reference("base"), command, *options, f"--security-opt=seccomp={SECCOMP}")
    assert refused.stderr.startswith("selfloop: Generated code is not run unprotected, and bubblewrap is not installed")
    done = in_container(reference("sandbox"), command, *options, f"--security-opt=seccomp={SECCOMP}")
    assert done.returncode == 0, done.stderr
    assert [verdict.ok for verdict in rows(out / "verdicts", Verdict)] == [True, False]
