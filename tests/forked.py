"""Python in processes of their own that start at once: forks of one that has done nothing but import what is heavy.

``run`` and ``Forked`` take what an interpreter takes: ``"-c", PROGRAM``, ``"-m", MODULE`` or ``FILE``, and words.
The process has its own ``__main__``, folder, environment, output and end, as one that ``subprocess`` starts has. What
imports complain of, each process says first. Its end leaves out what an interpreter does last, taking apart all that
was imported: that is most of what a short process would cost.
"""

import atexit
import gc
import importlib
import json
import multiprocessing.process
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

HEAVY = (
    "kfp.compiler",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.parquet",
    "scipy.stats",
    "selfloop.cli",
    "selfloop.finetune.running.training",
    "selfloop.modes.inprocess",
    "transformers.models.llama.modeling_llama",
)
SURROUNDINGS = dict(os.environ) | {"MLFLOW_DISABLE_TELEMETRY": "true"}
"""What imports read of the environment. Where they are to read something else, a fork will not do."""
LONGEST = 2**17
CLI = ("-c", "from selfloop.cli import main; main()")


class Forked:
    """A running process."""

    def __init__(self, *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.args = words
        self.returncode: int | None = None
        self._said = [os.memfd_create(name) for name in ("out", "err")]
        told, tell = os.pipe()
        self._told = os.fdopen(told)
        asked = {"words": words, "cwd": str(cwd or Path.cwd()), "env": dict(os.environ if env is None else env)}
        socket.send_fds(_starter(), [json.dumps(asked).encode()], [*self._said, tell])
        os.close(tell)
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.returncode = int(self._told.readline())
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; what it said."""
        if self.returncode is None and not select.select([self._told], [], [], timeout)[0]:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.poll()
        self._told.close()
        return _read(self._said[0]), _read(self._said[1])

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _read(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file) as said:
        return said.read()


def run(*words: str, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Such a process, which has ended."""
    process = Forked(*words, **options)
    out, err = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@cache
def _starter() -> socket.socket:
    """The process that forks, one for all of a session's tests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=SURROUNDINGS,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def serve(asked: socket.socket) -> None:
    """Fork for each process that is asked for, and tell how it ended."""
    complaints, running = imported(), dict[int, tuple[int, int]]()
    while True:
        for ready in select.select([asked.fileno(), *running], [], [])[0]:
            if ready in running:
                ended(ready, *running.pop(ready))
                continue
            message, files, _, _ = socket.recv_fds(asked, LONGEST, 3)
            if not message:
                return
            out, err, tell = files
            child = os.fork()
            if child == 0:
                for file in (asked.detach(), tell, *running, *(tell for _, tell in running.values())):
                    os.close(file)
                end(status_of(partial(become, json.loads(message), out, err, complaints)))
            for file in (out, err):
                os.close(file)
            os.write(tell, f"{child}\n".encode())
            running[os.pidfd_open(child)] = child, tell


def status_of(work: Callable[[], None]) -> int:
    """Do some work as an interpreter does its program: what it says of an error, and the status it ends with."""
    try:
        work()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except Exception:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(status: int) -> None:
    """End this process once its threads have ended, what it registered for its end is done, and all that it said is
    written.
    """
    vars(threading)["_shutdown"]()
    vars(atexit)["_run_exitfuncs"]()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ended(watched: int, child: int, tell: int) -> None:
    """Tell how a child ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError), os.fdopen(tell, "w") as told:  # whoever asked may be gone
        told.write(f"{status}\n")
    os.close(watched)


def imported() -> str:
    """Import what is heavy; what was said of it."""
    with tempfile.TemporaryFile("w+") as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        for name in HEAVY:
            importlib.import_module(name)
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        gc.freeze()
        said.seek(0)
        return said.read()


def become(asked: Mapping[str, Any], out: int, err: int, complaints: str) -> None:
    """Be the process that is asked for."""
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    vars(multiprocessing.process)["ORIGINAL_DIR"] = asked["cwd"]  # where its own processes look for modules
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.stderr.write(complaints)
    given = asked["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [place for place in given if place and place not in sys.path]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    name, *sys.argv = asked["words"]
    if name == "-m":
        sys.path[0] = asked["cwd"]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    if name == "-c":
        program, sys.path[0], sys.argv[0] = sys.argv[0], "", name
    else:
        program, sys.path[0] = Path(name).read_text(), str(Path(name).parent)
        main.__file__, sys.argv = name, [name, *sys.argv]
    exec(compile(program, name, "exec"), vars(main))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _asked:
        serve(_asked)
