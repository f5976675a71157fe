"""Whether code may run at all: the probe, the choice to do without, and what is left then."""

import ctypes
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.sandbox import UNSAFE, Limits, Program, isolation, probe, run_programs, running, seccomp
from selfloop.sandbox.grading import Attempt, Example, Examples, Suite, graded, taken_apart

pytestmark = pytest.mark.slow

Selfloop = Callable[..., subprocess.CompletedProcess[str]]
HELLO = Program("print('hello')")


@pytest.fixture
def unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNSAFE, "1")
    isolation.unprotected.cache_clear()


@pytest.fixture
def unprobed() -> None:
    probe.cache_clear()


@pytest.mark.debian("bubblewrap")
def test_programs_can_be_kept_apart_here() -> None:
    assert probe().is_isolated
    assert [outcome.stdout for outcome in run_programs([HELLO])] == ["hello\n"]


@pytest.mark.debian("bubblewrap")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize("proc", ["fresh", "of the container"])
def test_a_user_without_rights_can_keep_programs_apart_too(monkeypatch: pytest.MonkeyPatch, proc: str) -> None:
    executable, stdlib = "/usr/bin/python3", f"/usr/lib/python3.{sys.version_info.minor}"
    if not Path(stdlib, "os.py").exists():
        pytest.skip("needs the same Python where every user may read it")
    monkeypatch.setattr(isolation, "_executable", lambda: os.path.realpath(executable))
    folders = {"stdlib": stdlib, "platstdlib": stdlib, "libraries": "/none", "purelib": "/none", "platlib": "/none"}
    monkeypatch.setattr(isolation, "_paths", lambda: folders)
    _, *by_proc = isolation._ways()
    plain = by_proc[["fresh", "of the container"].index(proc)]
    assert plain.user == 65534
    monkeypatch.setattr(running, "probe", lambda: plain)
    sources = (
        "import os\nos.kill(-1, 9)",
        "import os\nos.fork()",
        "import os\nprint(os.getuid(), os.listdir('/proc'))",
    )
    killed, forked, told = run_programs(map(Program, sources))
    assert killed.status == "error"
    assert "BlockingIOError" in forked.stderr
    assert told.stdout == "65534 []\n"


@pytest.mark.usefixtures("unprobed")
def test_without_bubblewrap_nothing_runs_and_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = tmp_path / "ran"
    with pytest.raises(UserError, match=r"bubblewrap is not installed: install it .*--unsafe-no-sandbox"):
        list(run_programs([Program(f"open({str(ran)!r}, 'w')")]))
    with pytest.raises(UserError, match="not run unprotected"):
        list(graded([Attempt("def f(): return 1", taken_apart(("assert f() == 1",)))]))
    assert not ran.exists()


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize(
    "says", ["echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "exec sleep 60", "exit 0"]
)
def test_where_bubblewrap_does_not_work_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text(f"#!/bin/sh\n{says}\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR | stat.S_IXOTH | stat.S_IXGRP)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(isolation, "START_SECONDS", 0.5)
    why = "No permissions to create new namespace" if "echo" in says else "it does not answer"
    with pytest.raises(UserError, match=rf"does not work here \(.*{why}.*\): allow user namespaces"):
        list(run_programs([HELLO]))


@pytest.mark.debian("bubblewrap")
@pytest.mark.usefixtures("unprobed")
def test_without_libseccomp_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    seccomp.filter.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(UserError, match=r"libseccomp\.so\.2.*: install libseccomp .*--unsafe-no-sandbox"):
        list(run_programs([Program(f"open({str(ran)!r}, 'w')")]))
    assert not ran.exists()


@pytest.mark.debian("bubblewrap")
def test_calls_that_a_libseccomp_does_not_know_are_refused_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    names = " ".join(seccomp.REFUSED.values()).split()
    assert set(seccomp.NEWER) <= set(names)
    assert max(seccomp.NEWER.values()) < seccomp.LAST
    sources = [
        f"import ctypes\nprint(ctypes.CDLL(None, use_errno=True).syscall({number}, 0, 0, 0, 0, 0, 0), "
        f"ctypes.get_errno())"
        for number in (*seccomp.NEWER.values(), seccomp.LAST, 2000, 0x40000000 + 39)
    ]
    said = [outcome.stdout.strip() for outcome in run_programs(map(Program, sources))]
    assert said == ["-1 1"] * len(seccomp.NEWER) + ["-1 38"] * 3


UNDER_ONE = """
import os, signal, sys, time
from pathlib import Path
from selfloop.sandbox import Limits, Program, Sandbox
from selfloop.sandbox.isolation import children

def states():
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        state, parent = place.read_text().rpartition(")")[2].split()[:2]
        found[int(place.parent.name)] = (state, int(parent))
    return found

assert os.getpid() == 1
for workers in (1, 2):
    with Sandbox(Limits(wall_s=0.5), workers=workers) as sandbox:
        programs = [Program(source) for source in ("print(1)", "while True: pass", "import os; os._exit(3)") * 2]
        print([outcome.status for outcome in sandbox.run(programs)])
        for inner in (False, True):  # what the kernel ends where memory is short
            outer = children(1)[0]
            os.kill(children(outer)[0] if inner else outer, signal.SIGKILL)
            print([outcome.stdout for outcome in sandbox.run([Program("print(2)")] * 3)])
    print({pid: about for pid, about in states().items() if pid != 1})
"""


@pytest.mark.debian("bubblewrap")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be the first process of a namespace")
def test_no_zombie_is_left_where_this_is_the_first_process_of_a_container() -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", UNDER_ONE]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    ended = ["['ok', 'timeout', 'error', 'ok', 'timeout', 'error']", *["['2\\n', '2\\n', '2\\n']"] * 2, "{}"]
    assert (done.stdout.splitlines(), done.stderr) == (ended * 2, "")


@pytest.mark.parametrize("value", ["", "0", "true", "yes"])
def test_only_the_exact_word_takes_the_risk(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(UNSAFE, value)
    assert not isolation.is_unsafe()


@pytest.mark.usefixtures("unsafe")
def test_without_a_sandbox_it_shouts_once(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for _ in range(2):
        assert [outcome.stdout for outcome in run_programs([HELLO] * 3)] == ["hello\n"] * 3
    assert re.findall("WITHOUT A SANDBOX", capfd.readouterr().err) == ["WITHOUT A SANDBOX"]


@pytest.mark.usefixtures("unsafe")
def test_without_a_sandbox_programs_still_have_limits_and_a_folder_that_is_removed() -> None:
    programs = [
        "while True: pass",
        "x = bytearray(10**10)",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        "import os\nopen('left', 'w')\nprint(os.getcwd())",
        "import os\nif os.fork() == 0:\n    while True: pass\n",
        "print('good')",
    ]
    outcomes = list(run_programs(map(Program, programs), Limits(wall_s=1), workers=1))
    assert [outcome.status for outcome in outcomes] == ["timeout", "memory", "output", "ok", "ok", "ok"]
    assert not Path(outcomes[3].stdout.strip()).exists()
    assert outcomes[5].stdout == "good\n"


@pytest.mark.usefixtures("unsafe")
def test_without_a_sandbox_verdicts_are_judged_outside_all_the_same() -> None:
    suites: tuple[Suite, ...] = (
        taken_apart(("assert f(1) == 2",)),
        Examples([Example("1\n", ["2"]), Example("2\n", ["3"])]),
    )
    for source, suite in zip(("def f(x): return x + 1", "print(int(input()) + 1)"), suites, strict=True):
        attempts = [Attempt(text, suite) for text in (source, "import os\nos._exit(0)")]
        assert [grade.reason for grade in graded(attempts)] == ["correct", "ended before test 1"]


def test_doing_without_is_recorded_in_the_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sandbox" not in record.software()
    monkeypatch.setenv(UNSAFE, "1")
    assert record.moment()["software"]["sandbox"] == "none"


@pytest.mark.usefixtures("unsafe")
def test_every_version_that_such_a_run_makes_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: dict[str, Any]
) -> None:
    from selfloop import lineage
    from selfloop.lineage.registry import Registry
    from selfloop.modes.inprocess import run
    from selfloop.recipe import find_recipe

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe = find_recipe("length-generalization")
    settings = recipe.resolve(small, {"rounds": 1})
    with lineage.tracked_run("unsafe", settings.overrides(), tmp_path / "note.txt", tmp_path / "mlflow"):
        run(recipe, settings, tmp_path / "run")
    versions = Registry(settings.loop).versions().values()
    assert [version.tag("sandbox") for version in versions] == ["none", "none"]


def test_the_option_of_run_makes_the_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from selfloop.cli import app
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv(UNSAFE, "")
    command = ["run", "length-generalization", "--dry-run"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not isolation.is_unsafe()
    assert CliRunner().invoke(app, [*command, "--unsafe-no-sandbox"]).exit_code == 0
    assert isolation.is_unsafe()


def test_the_interpreter_that_waits_imports_nothing_but_the_standard_library() -> None:
    source = Path(isolation.__file__).with_name("zygote.py").read_text()
    assert set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)) <= sys.stdlib_module_names
