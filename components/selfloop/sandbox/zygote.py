"""What runs inside bubblewrap: an interpreter that is ready, and forks a child into fresh namespaces for every program.

It is handed to ``python -S -c`` as text and imports only the standard library. The programs never pass through its
memory: a child reads its own from a descriptor that the parent made, and answers on others, so that what a child
inherits holds nothing of the programs before it. A message on the control socket is a JSON line with the limits and the
descriptors of a program; any other message while one runs kills it. The answer says how it ended.
"""

import _thread
import array
import atexit
import builtins
import contextlib
import ctypes
import gc
import json
import math
import operator
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
OUT_OF_MEMORY, NOT_PYTHON, TOO_MUCH = 77, 78, 79
"""The exit status of a program that ended with a ``MemoryError``, of one that cannot be compiled, and of one that wrote
too much for a text.
"""
PATIENCE = (0.001, 0.01, 0.1, 0.5)
"""Seconds to wait before a thread is tried again."""
REMEMBERS_INPUT = ("fileinput",)
"""Modules that keep what they have of standard input; a program that is started again has them anew."""

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
    """Run a program as a module, and its functions on what they are called with; or start it anew for each text.

    Returns the exit status.
    """
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # as ``site`` has it, which is not imported
    _thread.start_new_thread = _patient(_thread.start_new_thread)
    try:
        code = compile(request["source"], "program.py", "exec")
    except MemoryError:
        return OUT_OF_MEMORY
    except (SyntaxError, ValueError, RecursionError) as error:
        traceback.print_exception(error, limit=0)
        return NOT_PYTHON
    try:
        for number, text in enumerate(request["texts"]):
            _tell(number, _started(code, text, request["most"]))
        if not request["texts"]:
            _called(code, request["calls"])
    except SystemExit as asked:
        return _exit_status(asked)
    except MemoryError:
        return OUT_OF_MEMORY
    except _TooMuchError:
        return TOO_MUCH
    except BaseException as error:
        _complain(error)
        return 1
    return 0


def _complain(error: BaseException) -> None:
    """Print an error with the lines of the program alone."""
    while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename != "program.py":
        error.__traceback__ = error.__traceback__.tb_next
    traceback.print_exception(error)


def _patient(start: Callable[..., int]) -> Callable[..., int]:
    """Start a thread, where need be after a while: one that has ended counts until the kernel has taken it down."""

    def begin(*args: Any) -> int:
        for seconds in PATIENCE:
            try:
                return start(*args)
            except RuntimeError:
                time.sleep(seconds)
        return start(*args)

    return begin


def _module(name: str) -> dict[str, Any]:
    """The names of a new module, which is there to be imported."""
    sys.modules[name] = types.ModuleType(name)
    sys.argv = ["program.py"]
    return vars(sys.modules[name])


def _tell(number: int, answer: dict[str, Any]) -> None:
    """Write what came of a call, or a text, as a line of its own."""
    left = json.dumps({"call": number, **answer}).encode() + b"\n"
    while left:
        left = left[os.write(4, left) :]


def _said(error: BaseException) -> dict[str, Any]:
    known = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
    return {"error": f"{known.__name__}: {error}"[:500]}


def _exit_status(asked: SystemExit) -> int:
    return asked.code if isinstance(asked.code, int) else int(asked.code is not None)


def _called(code: types.CodeType, calls: list[Any]) -> None:
    """Run a program as a module, and call its functions."""
    names = _module("solution" if calls else "__main__")
    exec(code, names)
    for number, (name, args, kwargs) in enumerate(calls):
        _tell(number, _answer(_function(names, name), name, args, kwargs))
    _flush()


def _function(names: dict[str, Any], name: str) -> Any:
    """A function of the program, or the method of that name of a new ``Solution``, as LeetCode has them."""
    if name not in names and hasattr(names.get("Solution"), name):
        return lambda *args, **kwargs: getattr(names["Solution"](), name)(*args, **kwargs)
    return names.get(name)


def _answer(function: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a function returns."""
    if not callable(function):
        return {"missing": name}
    try:
        given = {key: unpack(value) for key, value in kwargs.items()}
        answer = {"value": pack(function(*map(unpack, args), **given))}
        json.dumps(answer)
    except MemoryError:
        raise
    except Exception as error:
        return _said(error)
    return answer


class _TooMuchError(Exception):
    """A program wrote more than it may."""


def _started(code: types.CodeType, text: str, most: int) -> dict[str, Any]:
    """What a program writes on standard output that is run from its start with a text on standard input.

    Both are files, of which the program has the descriptors 0 and 1. Raises ``_TooMuchError``.
    """
    with tempfile.TemporaryFile(dir=".") as given, tempfile.TemporaryFile(dir=".") as written:
        given.write(text.encode("utf-8", "surrogatepass"))
        given.seek(0)
        streams = (given.fileno(), written.fileno())
        _standard(*streams)
        error = _from_the_start(code)
        _standard(*streams)  # the program may have closed them, and the next files are to have other numbers
        written.seek(0)
        content = written.read(most + 1)
    if len(content) > most:
        raise _TooMuchError
    return error or {"value": content.decode("utf-8", "replace")}


def _standard(*streams: int) -> None:
    for target, fd in enumerate(streams):
        os.dup2(fd, target)


def _from_the_start(code: types.CodeType) -> dict[str, Any]:
    """Run a program to its end, with its threads and what it registered for its exit. Returns its error, if any.

    It finds everything as the interpreter has it, but for the modules that are imported already.
    """
    folder, depth, known, names = os.getcwd(), sys.getrecursionlimit(), dict(vars(builtins)), _module("__main__")
    given, output = _stream(0, "r"), _stream(1, "w")
    vars(sys).update(stdin=given, __stdin__=given, stdout=output, __stdout__=output)
    atexit._clear()
    try:
        error = _executed(code, names)
        _join_threads()
        atexit._run_exitfuncs()
    finally:
        _flush()
        with contextlib.suppress(Exception):
            output.flush()
    names.clear()  # what it has made is held by its functions, and they by it
    for name in vars(builtins).keys() - known:
        del vars(builtins)[name]
    vars(builtins).update(known)
    for name in REMEMBERS_INPUT:
        sys.modules.pop(name, None)
    sys.setrecursionlimit(depth)
    os.chdir(folder)
    gc.enable()
    gc.collect()
    return error


def _stream(fd: int, mode: str) -> Any:
    return open(fd, mode, encoding="utf-8", errors="surrogateescape", closefd=False)


def _executed(code: types.CodeType, names: dict[str, Any]) -> dict[str, Any]:
    """Run a program. Returns the error that it ends with, an exit status other than 0 among them."""
    try:
        exec(code, names)
    except SystemExit as asked:
        status = _exit_status(asked)
        return {"error": f"SystemExit: {status}"} if status else {}
    except MemoryError:
        raise
    except BaseException as error:
        _complain(error)
        return _said(error)
    return {}


def _join_threads() -> None:
    """Wait for the threads that keep an interpreter from ending."""
    threading = sys.modules.get("threading")
    while threading and (left := [each for each in threading.enumerate() if not _is_left(threading, each)]):
        left[0].join()


def _is_left(threading: Any, thread: Any) -> bool:
    return bool(thread.daemon or thread is threading.main_thread())


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


def _wholes(content: Any) -> Iterator[int]:
    """Whole numbers; a text such as 1e999999999, which a fraction would be made of for hours, is none."""
    return map(operator.index, _each(content))


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
    Kind(
        "fraction", Fraction, lambda f: _all((f.numerator, f.denominator)), lambda content: Fraction(*_wholes(content))
    ),
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
