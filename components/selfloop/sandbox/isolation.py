"""Whether programs can be kept apart on this machine, and the command that does it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from selfloop.errors import UserError
from selfloop.sandbox import seccomp
from selfloop.sandbox.zygote import NOBODY, PRIVATE

UNSAFE = "SELFLOOP_UNSAFE_NO_SANDBOX"
"""The environment variable that lets generated code run unprotected; ``--unsafe-no-sandbox`` sets it."""
START_SECONDS = 20.0
END_SECONDS = 5.0
"""How long what was started may take to end by itself."""


def is_unsafe() -> bool:
    """Whether a person chose to run generated code without the sandbox."""
    return os.environ.get(UNSAFE) == "1"


class Way(NamedTuple):
    """How the waiting interpreter is started: its command, and the user it is started as."""

    command: list[str]
    user: int | None = None

    @property
    def is_isolated(self) -> bool:
        """Whether programs are kept apart from this machine and each other."""
        return self.command[-1] == "isolated"

    def start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """The process, and the socket on which it takes programs when it is up, which ``await_ready`` waits for."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                self.command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=dict[str, str](),
                cwd="/",
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        return process, ours

    def await_ready(self, process: subprocess.Popen[bytes], control: socket.socket) -> list[int]:
        """Wait until a process takes programs. Returns the processes that it has started.

        Raises ``OSError`` with what it said last where it does not come up.
        """
        control.settimeout(START_SECONDS)
        try:
            control.send(b"=" + (seccomp.filter() if self.is_isolated else b""))
            if control.recv(16) == b"ready":
                control.settimeout(None)
                return children(process.pid)
        except (TimeoutError, ConnectionError):
            pass
        control.close()
        said = end(process, children(process.pid)).decode(errors="replace").strip().splitlines()
        raise OSError(said[-1] if said else "it does not answer")


def end(process: subprocess.Popen[bytes], inner: Iterable[int], patience_s: float = 0.0) -> bytes:
    """End a process whose socket is closed, which it may do by itself, and those that it has started. Returns what it
    complained of.

    Bubblewrap waits for none of its own, which are left to the first process of a container: where that is this one,
    it waits for them here.
    """
    try:
        said = process.communicate(timeout=patience_s)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
    for pid in inner:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return said


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that nobody has waited for."""
    found = list[int]()
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, place.read_text().split())
    return found


@cache
def probe() -> Way:
    """The way in which programs can be kept apart here, tried for real.

    Raises ``UserError`` where there is none.
    """
    if shutil.which("bwrap") is None:
        raise _refusal("bubblewrap is not installed", "install it (apt-get install bubblewrap)")
    try:
        seccomp.filter()
    except OSError as error:
        raise _refusal(
            f"system calls cannot be filtered ({error})", "install libseccomp (apt-get install libseccomp2)"
        ) from None
    reasons = []
    for way in _ways():
        try:
            process, control = way.start()
            with control:
                inner = way.await_ready(process, control)
        except OSError as error:
            reasons.append(str(error))
            continue
        end(process, inner, END_SECONDS)
        return way
    remedy = (
        "allow user namespaces (kernel.unprivileged_userns_clone=1, the pod's seccomp profile), run as a plain user"
    )
    raise _refusal(f"bubblewrap does not work here ({'; '.join(reasons)})", remedy)


def _refusal(what: str, remedy: str) -> UserError:
    return UserError(
        f"Generated code is not run unprotected, and {what}: {remedy}, or take the risk with --unsafe-no-sandbox."
    )


def _ways() -> list[Way]:
    """Root mounts as root and becomes nobody inside; anybody else, and a root without the right to, has a user
    namespace for it.

    A container hides parts of its ``/proc``, and then the kernel lets nobody mount a fresh one: the container's own
    does as well, since all that is asked of it is written before it is hidden, which is before any program comes.
    """
    bwrap, inside = str(shutil.which("bwrap")), [*_interpreter(), "isolated"]
    plain = ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    user = None if os.geteuid() else NOBODY
    procs = ("--proc /proc", "--bind /proc /proc")
    as_user = [Way([bwrap, *plain, *_bubblewrap(proc), *inside], user) for proc in procs]
    as_root = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return as_user if user is None else [Way([bwrap, *as_root, *_bubblewrap("--proc /proc"), *inside]), *as_user]


@cache
def unprotected() -> Way:
    """The way without a sandbox: limits, a time limit and a folder of its own, and nothing else; it shouts, once."""
    sys.stderr.write(
        "selfloop: WARNING: generated code runs WITHOUT A SANDBOX, with all that this user may do on this machine.\n"
    )
    return Way([*_interpreter(), "unprotected"])


def _interpreter() -> list[str]:
    source = Path(__file__).with_name("zygote.py").read_text(encoding="utf-8")
    return [_executable(), "-P", "-s", "-S", "-B", "-X", "utf8", "-c", source]


def _executable() -> str:
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def _bubblewrap(proc: str) -> list[str]:
    """What the waiting interpreter sees: itself, the standard library and the system's, and nothing that is installed
    beside them; none of it can be written.
    """
    words = "--unshare-pid --unshare-ipc --unshare-net --unshare-uts --unshare-cgroup-try --die-with-parent"
    command = f"{words} --new-session --clearenv --hostname sandbox {proc}".split()
    for variable, value in (("LC_ALL", "C.UTF-8"), ("HOME", PRIVATE), ("PYTHONHASHSEED", "0")):
        command += ["--setenv", variable, value]
    places = _readable()
    for folder in sorted({str(above) for place in places for above in list(Path(place).parents)[:-1]}):
        command += ["--perms", "0755", "--dir", folder]
    for place in places:
        command += ["--ro-bind", place, place]
    for folder in filter(os.path.islink, ("/lib", "/lib64")):
        command += ["--symlink", os.readlink(folder), folder]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--dir", PRIVATE, "--tmpfs", "/dev"]
    for device in ("null", "zero", "full", "random", "urandom"):
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--symlink", PRIVATE, "/dev/shm"]  # noqa: S108
    for folder in _installed():
        command += ["--tmpfs", folder, "--remount-ro", folder]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--"]


def _readable() -> list[str]:
    """The interpreter, its standard library, and the libraries that these are linked with."""
    paths = _paths()
    multiarch = str(sysconfig.get_config_var("MULTIARCH"))
    folders = [f"/usr/lib/{multiarch}", f"/lib/{multiarch}", "/usr/lib64", "/lib64"]
    libraries = [place for place in folders if os.path.isdir(place)] or ["/usr/lib", "/lib"]
    own = Path(paths["libraries"]).glob("libpython*.so*")
    places = {_executable(), paths["stdlib"], paths["platstdlib"], *libraries, *map(str, own)}
    is_link = {folder: os.path.islink(folder) for folder in ("/lib", "/lib64")}
    merged = tuple(f"{folder}/" for folder, linked in is_link.items() if linked)
    return sorted(p for p in places if os.path.exists(p) and not is_link.get(p) and not p.startswith(merged))


def _paths() -> dict[str, str]:
    """The folders of the interpreter that a virtual environment stands on."""
    paths = sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_exec_prefix})
    return {**paths, "libraries": str(sysconfig.get_config_var("LIBDIR"))}


def _installed() -> list[str]:
    """The folders of installed packages below what is readable, which programs see empty."""
    paths = _paths()
    below = [Path(place) for place in _readable() if os.path.isdir(place)]
    folders = {Path(paths["stdlib"], "site-packages"), *Path("/usr/lib").glob("python3*/dist-packages")}
    folders |= {Path(folder) for folder in (paths["purelib"], paths["platlib"])}
    return sorted(str(f) for f in folders if f.is_dir() and any(f.is_relative_to(place) for place in below))
