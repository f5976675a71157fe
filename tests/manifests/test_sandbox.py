"""The seccomp profile lets generated code be kept apart, and no call of it can be left out; how stages come by it."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pydantic
import pytest
import selfloop

from .building import MANIFESTS, built, of_kind, pod_templates
from .test_admission import CODE, admitted, main, pod

PROFILE = MANIFESTS / "base/sandbox/seccomp.json"
NAMESPACES = ["clone", "mount", "pivot_root", "sethostname", "setns", "umount2", "unshare"]
NO_NAMESPACE = {"index": 0, "value": 0x7E020000, "op": "SCMP_CMP_MASKED_EQ", "valueTwo": 0}
"""The condition under which container runtimes let ``clone`` be called: it makes no namespace."""
PROGRAM = """
from selfloop.sandbox import Program, run_programs
sources = "print(6 * 7)", "import os; print(os.listdir('/proc'), os.getuid())", "import socket; socket.socket()"
print([(outcome.status, outcome.stdout.strip()) for outcome in run_programs(map(Program, sources))])
"""


PACKAGES = [Path(module.__file__).parents[1] for module in (selfloop, pydantic) if module.__file__]


def is_open(place: Path) -> bool:
    """Whether a root that becomes nobody still comes to a place."""
    return os.geteuid() != 0 or all(each.stat().st_mode & 1 for each in (place, *place.parents))


def python() -> str:
    """An interpreter that nobody, too, can run, of this one's version."""
    choices = [Path(os.path.realpath(sys.executable)), Path(f"/usr/bin/python3.{sys.version_info.minor}")]
    open_ones = [str(each) for each in choices if each.exists() and is_open(each)]
    if not open_ones or not all(map(is_open, PACKAGES)):
        pytest.skip("needs Python and packages where every user may read them")
    return open_ones[0]


def confined(profile: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Programs run in the sandbox, by nobody, without capabilities, under a profile."""
    interpreter, confining = python(), Path(__file__).with_name("confined.py").read_text()
    return subprocess.run(
        [interpreter, "-B", "-c", confining, interpreter, "-B", "-c", PROGRAM],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, PACKAGES))},
        input=json.dumps(profile),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def profile() -> dict[str, Any]:
    return dict(json.loads(PROFILE.read_text()))


@pytest.mark.debian("bubblewrap")
def test_under_the_profile_programs_are_kept_apart(profile: dict[str, Any]) -> None:
    done = confined(profile)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([("ok", "42"), ("ok", "[] 65534"), ("error", "")])


@pytest.mark.debian("bubblewrap")
@pytest.mark.parametrize("name", NAMESPACES)
def test_no_call_that_makes_a_sandbox_can_be_left_out(name: str, profile: dict[str, Any]) -> None:
    less = deepcopy(profile)
    (rule,) = (each for each in less["syscalls"] if each["names"] == NAMESPACES)
    rule["names"].remove(name)
    if name == "clone":  # without it there would be no process at all
        less["syscalls"].append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [NO_NAMESPACE]})
    done = confined(less)
    assert "Generated code is not run unprotected, and bubblewrap does not work here" in done.stderr


def test_beyond_what_makes_a_sandbox_nothing_is_allowed_that_containers_may_not(profile: dict[str, Any]) -> None:
    """Calls that the runtimes' own profiles keep from a container without capabilities."""
    allowed = {name for each in profile["syscalls"] if each["action"] == "SCMP_ACT_ALLOW" for name in each["names"]}
    assert set(NAMESPACES) <= allowed
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    kept = (
        "acct add_key bpf chroot clock_settime create_module delete_module fanotify_init finit_module fsconfig fsmount"
    )
    kept += " fsopen fspick init_module ioperm iopl io_uring_setup kcmp kexec_load keyctl lookup_dcookie mount_setattr"
    kept += " move_mount move_pages nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd ptrace quotactl"
    kept += " reboot request_key setdomainname settimeofday swapoff swapon syslog umount userfaultfd uselib vhangup"
    assert not allowed & set(kept.split())
    families = [rule["args"] for rule in profile["syscalls"] if "socket" in rule["names"]]
    assert [[(each["op"], each["value"]) for each in given] for given in families] == [
        [("SCMP_CMP_LT", 38)],
        [("SCMP_CMP_EQ", 39)],
        [("SCMP_CMP_GT", 40)],
    ]  # neither AF_ALG nor AF_VSOCK


def test_the_profile_is_in_the_form_of_all_runtimes(profile: dict[str, Any]) -> None:
    """The OCI's own: containerd knows no conditions on capabilities, and would ignore them."""
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert all(set(rule) <= {"names", "action", "args", "errnoRet"} for rule in profile["syscalls"])


@pytest.mark.debian("kustomize")
def test_nodes_get_this_file_where_stages_look_for_it() -> None:
    objects = built("base/sandbox")
    (installing,) = of_kind(objects, "DaemonSet")
    (config,) = of_kind(objects, "ConfigMap")
    spec = pod_templates(installing)[0]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert config["data"] == {"sandbox.json": PROFILE.read_text()}
    assert volumes["profile"]["configMap"]["name"] == config["metadata"]["name"]
    (copying,) = spec["initContainers"]
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in copying["volumeMounts"]}
    source, target = map(Path, copying["command"][-2:])
    assert mounts[str(source.parent)] == volumes["profile"]
    folder = Path(mounts[str(target.parent)]["hostPath"]["path"])
    wanted = main(admitted(pod("selfloop/sandbox:0.1.0", CODE)))["securityContext"]["seccompProfile"]
    assert folder / target.name == Path("/var/lib/kubelet/seccomp") / wanted["localhostProfile"]
