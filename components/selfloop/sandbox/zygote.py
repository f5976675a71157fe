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
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

# what most programs import: a fork has it for nothing
for _name in ("bisect", "collections", "copy", "dataclasses", "functools", "heapq", "itertools", "operator", "random"):
    __import__(_name)
for _name in ("cmath", "datetime", "decimal", "enum", "fractions", "hashlib", "re", "statistics", "string", "typing"):
    __import__(_name)

NEWNS, NEWUSER, NEWPID = 0x20000, 0x10000000, 0x20000000
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
            _enter_own({"disk_bytes": 4096, "files": 8})
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
            _enter_own(limits)
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


def _enter_own(limits: dict[str, Any]) -> None:
    """A mount namespace of its own for this process, with a private ``/tmp``.

    The namespaces of the network and of shared memory need not be its own: the filter lets it make nothing there.
    """
    _unshare(NEWNS)
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
            known = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
            answer = {"call": number, "error": f"{known.__name__}: {error}"[:500]}
    line = json.dumps(answer)
    left = line.encode() + b"\n"
    while left:
        left = left[os.write(4, left) :]


def pack(value: Any) -> Any:
    """A value as JSON: lists, strings, numbers under 2**53, truth values and None as they are, the rest with a tag."""
    if value is None or isinstance(value, bool):
        return value
    match value:
        case int() if abs(value) < 2**53:
            return int(value)
        case float():
            return float(value)
        case str():
            return str.__str__(value)
        case list():
            return [pack(item) for item in value]
    for kind in KINDS:
        if isinstance(value, kind.type):
            return {kind.tag: kind.written(value)}
    raise TypeError(f"a {type(value).__name__} is no plain value")


def unpack(value: Any) -> Any:
    """The value that was packed. Raises an ordinary error for what ``pack`` never makes."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(tag, content)] = value.items()
    return READ[tag](content)


class Kind(NamedTuple):
    """A kind of value: its tag, how its content is written as JSON, and how it is made of that."""

    tag: str
    type: type
    written: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _all(values: Iterable[Any]) -> list[Any]:
    return [pack(value) for value in values]


def _each(content: Any) -> Iterator[Any]:
    return map(unpack, content)


KINDS = (
    Kind("int", int, hex, lambda content: int(content, 16)),
    Kind("dict", dict, lambda value: [_all(pair) for pair in value.items()], lambda content: dict(_each(content))),
    Kind("tuple", tuple, _all, lambda content: tuple(_each(content))),
    Kind("set", set, _all, lambda content: set(_each(content))),
    Kind("frozenset", frozenset, _all, lambda content: frozenset(_each(content))),
    Kind("bytes", bytes, bytes.hex, bytes.fromhex),
    Kind("bytearray", bytearray, bytearray.hex, bytearray.fromhex),
    Kind("complex", complex, lambda value: [value.real, value.imag], lambda content: complex(*content)),
    Kind("range", range, lambda r: _all((r.start, r.stop, r.step)), lambda content: range(*_each(content))),
    Kind("fraction", Fraction, lambda f: _all((f.numerator, f.denominator)), lambda content: Fraction(*_each(content))),
    Kind("decimal", Decimal, str, Decimal),
    Kind("deque", deque, _all, lambda content: deque(_each(content))),
    Kind("keys", KeysView, _all, lambda content: dict.fromkeys(_each(content)).keys()),
    Kind("items", ItemsView, _all, lambda content: dict(_each(content)).items()),
    Kind("values", ValuesView, _all, lambda content: dict(enumerate(_each(content))).values()),
    Kind("iterator", Iterator, _all, lambda content: iter(list(_each(content)))),
)
"""The kinds of values that JSON does not have."""
READ = {kind.tag: kind.read for kind in KINDS}


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be anything by now
            stream.flush()


def main() -> None:
    """Serve the parent on descriptor 0; the first message is the seccomp filter, empty where there is no sandbox."""
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
    os._exit(0)  # at once: nothing here is worth tidying up


if __name__ == "__main__":
    main()
