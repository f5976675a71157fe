"""What runs inside bubblewrap: an interpreter that is ready, and forks a child into fresh namespaces for every program.

It is handed to ``python -S -c`` as text and imports only the standard library. The programs never pass through its
memory: a child reads its own from a descriptor that the parent made, and answers on others, so that what a child
inherits holds nothing of the programs before it. A message on the control socket is a JSON line with the limits and the
descriptors of a program; any other message while one runs kills it. The answer says how it ended.
"""

import array
import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import types
from typing import Any

# what most programs import: a fork has it for nothing
for _name in ("bisect", "collections", "copy", "dataclasses", "functools", "heapq", "itertools", "operator", "random"):
    __import__(_name)
for _name in ("cmath", "datetime", "decimal", "enum", "fractions", "hashlib", "re", "statistics", "string", "typing"):
    __import__(_name)

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXECUTION = 1, 2, 4, 8
SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVILEGES, FILTER = 4, 22, 38, 2
CAPABILITIES_VERSION = 0x20080522
NOBODY = 65534
PRIVATE = "/tmp"  # noqa: S108 (each program has its own)
OUT_OF_MEMORY, NOT_PYTHON = 77, 78
"""The exit status of a program that ended with a ``MemoryError``, and of one that cannot be compiled."""

libc = ctypes.CDLL(None, use_errno=True)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _unshare(flags: int) -> None:
    _check(libc.unshare(flags))


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _check(
        libc.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), options.encode())
    )


def enter_namespaces() -> None:
    """Become nobody, with capabilities over new namespaces only; a process stays behind to wait for this one."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _check(libc.prctl(SET_DUMPABLE, 1, 0, 0, 0))
    _unshare(NEWUSER | NEWNS | NEWPID)
    for name, text in (("setgroups", "deny"), ("gid_map", f"{NOBODY} {NOBODY} 1"), ("uid_map", f"{NOBODY} {NOBODY} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    _mount("tmpfs", "/proc", "tmpfs", READ_ONLY | NO_SUID | NO_DEVICES | NO_EXECUTION, "size=4096")  # to hide it
    child = os.fork()
    if child:
        os.close(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)


def rehearse(filter: bytes) -> None:
    """Do once, before any program comes, what will be done for each; where it fails, end with the reason."""
    _unshare(NEWPID)
    child = os.fork()
    if not child:
        try:
            _enter_own({"disk_bytes": 4096, "files": 8}, bool(filter))
            _renounce(filter)
            os._exit(0)
        except OSError:
            traceback.print_exc()
        os._exit(1)
    if os.waitpid(child, 0)[1]:
        os._exit(1)
    _check(libc.setns(os.pidfd_open(os.getpid()), NEWPID))


def serve(control: socket.socket, isolated: bool, filter: bytes) -> None:
    """Run programs one after the other, until the parent closes the socket."""
    own = os.pidfd_open(os.getpid())
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 8)
        if not message:
            return
        if not fds:
            continue  # it was to kill a program that had ended meanwhile
        limits = json.loads(message)
        folder = PRIVATE if isolated else tempfile.mkdtemp()
        if isolated:
            _check(libc.setns(own, NEWPID))
            _unshare(NEWPID)
        began = time.monotonic()
        child = os.fork()
        if not child:
            control.close()
            os.close(own)
            _become(limits, fds, folder, isolated, filter)
        for fd in fds:
            os.close(fd)
        ending = _wait(child, control, began + limits["wall_s"], isolated)
        if not isolated:
            shutil.rmtree(folder, ignore_errors=True)
        control.send(json.dumps({**ending, "seconds": time.monotonic() - began}).encode())


def _wait(child: int, control: socket.socket, deadline: float, isolated: bool) -> dict[str, Any]:
    watched = select.poll()
    ended = os.pidfd_open(child)
    watched.register(ended, select.POLLIN)
    watched.register(control, select.POLLIN)
    found = watched.poll(max(0, deadline - time.monotonic()) * 1000)
    if not isolated:
        _kill_group(child)  # what it has left behind, too
    os.kill(child, signal.SIGKILL)
    os.close(ended)
    _, status, used = os.wait4(child, 0)  # the last of the namespace is gone when its first process is
    return {"code": os.waitstatus_to_exitcode(status), "late": not found, "cpu_s": used.ru_utime + used.ru_stime}


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _become(limits: dict[str, Any], fds: list[int], folder: str, isolated: bool, filter: bytes) -> None:
    """Turn this fork into the program's process, and run it; never returns."""
    code = 1
    try:
        os.setsid()
        for target, fd in enumerate(fds):
            os.dup2(fd, target + 100)
        for target in range(len(fds)):
            os.dup2(target + 100, target)
        os.closerange(len(fds), 200)
        if isolated:
            _enter_own(limits, bool(filter))
        os.chdir(folder)
        _limit(limits, isolated)
        if isolated:
            _renounce(filter)
        code = run(json.loads(_contents(3)))
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _enter_own(limits: dict[str, Any], is_filtered: bool) -> None:
    """Namespaces of its own for this process, with a private ``/tmp``.

    Where system calls are filtered, nothing can be made in the namespaces of the network and of shared memory.
    """
    _unshare(NEWNS if is_filtered else NEWNS | NEWIPC | NEWNET)
    files = f"size={limits['disk_bytes']},nr_inodes={limits['files']},mode=0700"
    _mount("tmpfs", PRIVATE, "tmpfs", NO_SUID | NO_DEVICES | NO_EXECUTION, files)


def _limit(limits: dict[str, Any], isolated: bool) -> None:
    seconds = math.ceil(limits["cpu_s"])
    bounds = {
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: limits["disk_bytes"],
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: 64,
    }
    if isolated:  # elsewhere the limit would count every process of the user; two are those that wait for this one
        bounds[resource.RLIMIT_NPROC] = 2 + limits["processes"]
    for kind, most in bounds.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most, most) if hard == resource.RLIM_INFINITY else (min(most, hard),) * 2)


def _renounce(filter: bytes) -> None:
    """Give up every capability for good, and the system calls that no program needs."""
    header, nothing = array.array("I", [CAPABILITIES_VERSION, 0]), array.array("I", [0] * 6)
    _check(libc.capset(ctypes.c_void_p(header.buffer_info()[0]), ctypes.c_void_p(nothing.buffer_info()[0])))
    _check(libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    if filter:
        program = _Filter(len(filter) // 8, filter)
        _check(libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0))


def _contents(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def run(request: dict[str, Any]) -> int:
    """Run a program as a module, and its functions on what they are called with. Returns the exit status."""
    calls = request["calls"]
    module = types.ModuleType("solution" if calls else "__main__")
    sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    try:
        code = compile(request["source"], "program.py", "exec")
    except MemoryError:
        return OUT_OF_MEMORY
    except (SyntaxError, ValueError, RecursionError) as error:
        traceback.print_exception(error, limit=0)
        return NOT_PYTHON
    try:
        exec(code, module.__dict__)
        for number, (name, args, kwargs) in enumerate(calls):
            _answer(number, module, name, args, kwargs)
        _flush()
    except SystemExit as asked:
        return asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # not the line above
        traceback.print_exception(error)
        return 1
    return 0


def _answer(number: int, module: types.ModuleType, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Call one function, and write what it returned as a line of its own."""
    if not callable(vars(module).get(name)):
        answer = {"call": number, "missing": name}
    else:
        try:
            given = {key: unpack(value) for key, value in kwargs.items()}
            answer = {"call": number, "value": pack(vars(module)[name](*map(unpack, args), **given))}
            json.dumps(answer)
        except MemoryError:
            raise
        except Exception as error:
            answer = {"call": number, "error": f"{type(error).__name__}: {error}"[:500]}
    line = json.dumps(answer)
    left = line.encode() + b"\n"
    while left:
        left = left[os.write(4, left) :]


def pack(value: Any) -> Any:
    """A value as JSON: lists, strings, numbers under 2**53, truth values and None as they are, the rest with a tag."""
    if value is None or isinstance(value, bool):
        return value
    match value:
        case int():
            return int(value) if abs(value) < 2**53 else {"int": hex(value)}
        case float():
            return float(value)
        case str():
            return str.__str__(value)
        case list():
            return [pack(item) for item in value]
        case dict():
            return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
        case bytes():
            return {"bytes": value.hex()}
        case complex():
            return {"complex": [value.real, value.imag]}
        case tuple() | set() | frozenset():
            kind = next(kind for kind in (tuple, set, frozenset) if isinstance(value, kind))
            return {kind.__name__: [pack(item) for item in value]}
    raise TypeError(f"a {type(value).__name__} is no plain value")


def unpack(value: Any) -> Any:
    """The value that was packed. Raises ``ValueError`` or ``TypeError`` for what ``pack`` never makes."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "int":
        return int(content, 16)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(*content)
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in content}
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](unpack(item) for item in content)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be anything by now
            stream.flush()


def main() -> None:
    """Serve the parent on descriptor 0; the first message is the seccomp filter, empty where there is none."""
    isolated = sys.argv[1] == "isolated"
    if isolated:
        enter_namespaces()
    control = socket.socket(fileno=os.dup(0))
    empty = os.open("/dev/null", os.O_RDWR)
    os.dup2(empty, 0)
    filter = control.recv(65_536)[1:]
    if isolated:
        rehearse(filter)
    gc.collect()
    gc.freeze()  # so that no child copies a page only to look for garbage in it
    control.send(b"ready")
    serve(control, isolated, filter)


if __name__ == "__main__":
    main()
