"""Programs that would hurt the machine or look at what is not theirs, run for real; a good one runs after each."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import create_server
from textwrap import dedent, indent

import pytest
from selfloop.sandbox import Limits, Outcome, Program, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.debian("bubblewrap")]


def descendants() -> set[int]:
    """The processes that this one has started, and those that these have."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
    found, new = set[int](), {os.getpid()}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def memory() -> int:
    """The bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


Run = Callable[..., Outcome]
GOOD = Program("print(sum(map(int, input().split())))", "1 2 3")


@pytest.fixture
def run(sandbox: Sandbox) -> Iterator[Run]:
    """Run a program; when the test is over, a good program must still run there, and nothing else does."""

    def one(source: str, stdin: str = "") -> Outcome:
        [outcome] = sandbox.run([Program(dedent(source), stdin)])
        return outcome

    before = descendants()
    yield one
    [after] = sandbox.run([GOOD])
    assert (after.status, after.stdout, after.stderr) == ("ok", "6\n", "")
    assert descendants() == before


def told(outcome: Outcome) -> object:
    """What a program printed as JSON."""
    assert outcome.status == "ok", outcome
    return json.loads(outcome.stdout)


def test_a_good_program_prints_and_reads(run: Run) -> None:
    outcome = run("import sys\nprint(input()[::-1])\nprint('beside', file=sys.stderr)", "abc")
    assert outcome[:3] == ("ok", "cba\n", "beside\n")


def test_a_program_that_raises_ends_with_its_own_traceback(run: Run) -> None:
    outcome = run("def f():\n    raise KeyError('gone')\nf()")
    assert outcome.status == "error"
    assert outcome.stderr.startswith('Traceback (most recent call last):\n  File "program.py", line 3')
    assert outcome.stderr.endswith("KeyError: 'gone'\n")


@pytest.mark.parametrize("source", ["def f(:", "x = '\0'", "(" * 5000, "-" * 100_000 + "1"])
def test_what_is_no_python_is_said_to_be_none(run: Run, source: str) -> None:
    assert run(source).status in ("syntax", "memory")


def test_a_fork_bomb_is_refused_its_first_fork(run: Run) -> None:
    outcome = run("import os\nwhile True:\n    os.fork()")
    assert outcome.status == "error"
    assert "BlockingIOError" in outcome.stderr


def test_a_fork_bomb_that_keeps_trying_is_killed_with_all_its_processes() -> None:
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    with Sandbox(Limits(wall_s=1, cpu_s=1, processes=8), workers=1) as sandbox:
        list(sandbox.run([GOOD]))
        waiting = descendants()
        bombed, after = sandbox.run([Program(bomb), GOOD])
        assert bombed.status == "timeout"
        assert after.stdout == "6\n"
        assert descendants() == waiting


def test_threads_count_as_processes(run: Run) -> None:
    outcome = run("import threading\nthreading.Thread(target=print).start()")
    assert "can't start new thread" in outcome.stderr


def test_more_processes_may_be_allowed() -> None:
    source = "import os, sys\npid = os.fork()\nprint('one', flush=True)\nif pid: os.waitpid(pid, 0)"
    with Sandbox(Limits(processes=2), workers=1) as sandbox:
        [outcome] = sandbox.run([Program(source)])
    assert outcome[:2] == ("ok", "one\none\n")


@pytest.mark.parametrize(
    "source",
    [
        "x = bytearray(10**10)",
        "x = []\nwhile True: x.append(bytes(10**6))",
        "x = 'a'\nwhile True: x += x",
        "import mmap\nx = [mmap.mmap(-1, 2**28) for _ in range(9)]",
    ],
)
def test_a_memory_bomb_ends_as_such(run: Run, source: str) -> None:
    outcome = run(source)
    assert outcome.status == "memory" or "Cannot allocate memory" in outcome.stderr


@pytest.mark.parametrize("call", ["os.memfd_create('x')", "ctypes.CDLL(None).shmget(0, 2**20, 0o1600)"])
def test_memory_outside_the_process_is_not_to_be_had(run: Run, call: str) -> None:
    outcome = run(f"import ctypes, os\ntry:\n    print({call})\nexcept PermissionError:\n    print(-1)")
    assert outcome.stdout == "-1\n"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_a_disk_filler_fills_its_own_small_folder_only(run: Run, folder: str) -> None:
    outcome = run(
        f"""
        import errno, itertools, os
        written = 0
        try:
            for number in itertools.count():
                with open(f"{folder}/{{number}}", "wb", buffering=0) as file:
                    written += file.write(bytes(10**6))
        except OSError as error:
            print(errno.errorcode[error.errno], written)
        """
    )
    kind, written = outcome.stdout.split()
    assert kind == "ENOSPC"
    assert int(written) <= 16 * 2**20


def test_a_filler_with_empty_files_ends_too(run: Run) -> None:
    outcome = run("import itertools\nfor n in itertools.count(): open(f'/tmp/{n}', 'w').close()")
    assert "No space left on device" in outcome.stderr


def test_one_file_cannot_be_larger_than_the_folder(run: Run) -> None:
    outcome = run("import os\nfd = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nos.ftruncate(fd, 2**40)")
    assert outcome.status == "error"


def test_nowhere_else_can_be_written(run: Run) -> None:
    found = told(
        run(
            """
            import json, os
            writable = []
            for place, folders, files in os.walk("/"):
                if place.startswith(("/tmp", "/dev/shm")):
                    continue
                try:
                    open(os.path.join(place, "made"), "w").close()
                    writable.append(place)
                except OSError:
                    pass
                for name in files:
                    path = os.path.join(place, name)
                    try:
                        if not os.path.realpath(path).startswith("/dev/"):
                            os.close(os.open(path, os.O_WRONLY))
                            writable.append(path)
                    except OSError:
                        pass
            print(json.dumps(writable))
            """
        )
    )
    assert found == []


@pytest.mark.parametrize(
    "source", ["while True: pass", "import time\ntime.sleep(60)", "input()\n" * 2 + "while 1: pass"]
)
def test_an_endless_program_is_ended(source: str) -> None:
    with Sandbox(Limits(wall_s=0.5), workers=1) as sandbox:
        endless, after = sandbox.run([Program(source, "1\n2\n"), GOOD])
    assert endless.status == "timeout"
    assert after.stdout == "6\n"


def test_processor_time_is_limited_too() -> None:
    with Sandbox(Limits(wall_s=30, cpu_s=1), workers=1) as sandbox:
        [outcome] = sandbox.run([Program("import signal\nsignal.signal(signal.SIGXCPU, print)\nwhile True: pass")])
    assert outcome.status == "timeout"
    assert outcome.seconds < 20


@pytest.mark.parametrize("stream", [1, 2])
def test_a_flood_of_output_is_cut_off(run: Run, stream: int) -> None:
    before = memory()
    outcome = run(f"import os\nwhile True: os.write({stream}, b'x' * 65536)")
    assert outcome.status == "output"
    assert len(outcome.stdout + outcome.stderr) == 2**20
    assert memory() - before < 2**25


def test_a_flood_of_answers_is_cut_off(run: Run) -> None:
    assert run("import os\nwhile True: os.write(4, b'x' * 65536)").status == "output"


def test_a_symbolic_link_leads_nowhere_else(run: Run, tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("secret")
    outcome = run(
        f"""
        import os
        for target in ({str(secret)!r}, {os.getcwd()!r}, "/home", "/etc/passwd", "/proc/1/root", "/var", "/sys"):
            os.symlink(target, "/tmp/link")
            print(os.path.exists("/tmp/link"))
            os.unlink("/tmp/link")
        try:
            os.link("/usr/lib/os-release", "/tmp/hard")
        except OSError:
            print("refused")
        """
    )
    assert outcome.stdout.split() == ["False"] * 7 + ["refused"]


def test_a_link_that_one_program_leaves_does_not_trap_the_next(run: Run) -> None:
    run("import os\nos.symlink('/usr/lib', '/tmp/a')\nopen('/tmp/b', 'w').write('left')\nopen('/dev/shm/c', 'w')")
    assert told(run("import json, os\nprint(json.dumps(os.listdir('/tmp') + os.listdir('/dev/shm')))")) == []


def test_proc_shows_nothing_of_this_process_nor_of_any(run: Run) -> None:
    assert told(run("import json, os\nprint(json.dumps(os.listdir('/proc')))")) == []
    outcome = run(
        """
        for pid in ("self", "1", "2", "thread-self", str(__import__("os").getppid())):
            for name in ("environ", "mem", "cmdline", "root/etc/shadow", "cwd", "fd", "ns"):
                try:
                    print(open(f"/proc/{pid}/{name}").read())
                except FileNotFoundError:
                    pass
        """
    )
    assert outcome[:3] == ("ok", "", "")


def test_its_environment_and_arguments_say_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "secret")
    found = told(run("import json, os, sys\nprint(json.dumps([dict(os.environ), sys.argv, os.uname().nodename]))"))
    assert isinstance(found, list)
    assert found[0].keys() <= {"HOME", "LC_ALL", "PYTHONHASHSEED", "PWD", "LC_CTYPE"}
    assert found[1:] == [["program.py"], "sandbox"]


def test_installed_packages_among_them_selfloop_are_not_to_be_seen(run: Run) -> None:
    found = told(
        run(
            """
            import json, os
            print(json.dumps([
                os.path.join(place, name) for place, folders, files in os.walk("/") for name in folders + files
                if name in ("selfloop", "pip", "grading.py", "zygote.py")
            ]))
            """
        )
    )
    assert found == []


def test_there_is_no_network_neither_outside_nor_on_this_machine(run: Run) -> None:
    with create_server(("127.0.0.1", 0)) as server:
        outcome = run(
            f"""
            import socket
            for family, address in (
                (socket.AF_INET, ("127.0.0.1", {server.getsockname()[1]})),
                (socket.AF_INET, ("1.1.1.1", 80)), (socket.AF_INET6, ("::1", 80)), (socket.AF_UNIX, "\\0abstract"),
            ):
                try:
                    socket.socket(family).connect(address)
                    print("connected")
                except OSError as error:
                    print(type(error).__name__)
            """
        )
    assert outcome.stdout.split() == ["PermissionError"] * 4


def test_a_resolver_finds_nothing(run: Run) -> None:
    assert run("import urllib.request\nurllib.request.urlopen('http://example.org')").status == "error"


@pytest.mark.parametrize("target", ["-1", "0", "os.getppid()", "1", "2"])
def test_signals_reach_nobody_else(run: Run, target: str) -> None:
    outcome = run(
        f"import os, signal\ntry:\n    os.kill({target}, signal.SIGKILL)\nexcept OSError: pass\nprint('done')"
    )
    assert outcome.status in ("ok", "error")


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["this", "parent"])
def test_the_numbers_of_processes_outside_name_nothing_inside(run: Run, pid: int) -> None:
    assert "ProcessLookupError" in run(f"import os\nos.kill({pid}, 0)").stderr


def test_a_daemon_does_not_outlive_its_program() -> None:
    daemon = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True:
                    open("/tmp/alive", "w").close()
                    time.sleep(0.01)
            os._exit(0)
        os.wait()
        print("left")
    """
    with Sandbox(Limits(processes=8), workers=1) as sandbox:
        list(sandbox.run([GOOD]))
        waiting = descendants()
        left, after = sandbox.run([Program(dedent(daemon)), GOOD])
        assert left[:2] == ("ok", "left\n")
        assert after.stdout == "6\n"
        assert descendants() == waiting


@pytest.mark.parametrize(
    "call",
    [
        "unshare(0x10000000)",
        "mount(b'tmpfs', b'/tmp', b'tmpfs', 0, 0)",
        "umount2(b'/proc', 2)",
        "chroot(b'/tmp')",
        "ptrace(16, 1, 0, 0)",
        "keyctl(0, -3, 0)",
        "setuid(0)",
        "sethostname(b'x', 1)",
        "syscall(56, 0x10000011, 0, 0, 0, 0)",
    ],
)
def test_what_only_root_or_an_intruder_needs_is_refused(run: Run, call: str) -> None:
    outcome = run(
        f"import ctypes\nlibc = ctypes.CDLL(None)\nprint(getattr(libc, {call.split('(')[0]!r}, int)and libc.{call})"
    )
    assert outcome.stdout == "-1\n" or "undefined symbol" in outcome.stderr


CHANNELS = {
    "a lock of a file": "import fcntl\nfcntl.flock(shared, fcntl.LOCK_SH | fcntl.LOCK_NB)",
    "a lock of a record": "import fcntl\nfcntl.lockf(shared, fcntl.LOCK_SH | fcntl.LOCK_NB)",
    "a lock with other bits": "call(72, shared.fileno(), 6 | 1 << 40, ctypes.byref(ctypes.create_string_buffer(64)))",
    "a look at locks": "import fcntl, struct\nfcntl.fcntl(shared, fcntl.F_GETLK, struct.pack('hhqqi', 1, 0, 0, 0, 0))",
    "a lock of a description": "import fcntl, struct\nfcntl.fcntl(shared, 37, struct.pack('hhqqi', 0, 0, 0, 0, 0))",
    "a lease": "import fcntl\nfcntl.fcntl(shared, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "notices of a folder": "import fcntl\nfcntl.fcntl(os.open('/usr/lib', 0), fcntl.F_NOTIFY, fcntl.DN_ACCESS)",
    "a watcher": "call(294, 0)",
    "a watcher without flags": "call(253)",
    "a watcher of the machine": "call(300, 0, 0)",
    "pages in memory": "os.preadv(shared.fileno(), [bytearray(9)], 0, os.RWF_NOWAIT)",
    "pages thrown out": "os.posix_fadvise(shared.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)",
    "pages read ahead": "call(187, shared.fileno(), ctypes.c_long(0), ctypes.c_long(4096))",
    "pages that are mapped": "call(27, at, ctypes.c_long(4096), ctypes.create_string_buffer(9))",
    "pages counted": "call(451, shared.fileno(), ctypes.create_string_buffer(16), ctypes.create_string_buffer(64), 0)",
    "a place to wait at": "call(202, at, 1, 9, 0, 0, 0)",
    "a place to wait at, with other bits": "call(202, at, 1 | 256 | 1 << 40, 9, 0, 0, 0)",
    "a place to wait at, by masks": "call(202, at, 10, 9, 0, 0, -1)",
    "a place to move to": "call(202, at, 3, 0, 9, at, 0)",
    "a place to wait at, anew": "call(454, at, ctypes.c_long(-1), 9, 2)",
    "the size of pipes of its user": "import fcntl\nfcntl.fcntl(os.pipe()[0], 1031, 2**20)",
    "a key": "call(248, b'user', b'name', b'payload', 7, ctypes.c_long(-4))",
}
SHARED = """
import ctypes, errno, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
def call(number, *words):
    long = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    if libc.syscall(ctypes.c_long(number), *long) < 0:
        raise OSError(ctypes.get_errno(), "refused")
shared = open(os.__file__, "rb")
at = ctypes.c_void_p(libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, shared.fileno(), 0))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls are named by their numbers")
@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)
def test_files_that_all_programs_see_carry_no_word_from_one_to_another(run: Run, channel: str) -> None:
    tried = indent(channel, "    ")
    outcome = run(f"{SHARED}try:\n{tried}\n    print('open')\nexcept OSError as error:\n    print(error.errno)")
    assert outcome.stdout == "1\n", outcome


def test_threads_and_timers_of_its_own_work_all_the_same() -> None:
    source = """
        import queue, threading
        told, barrier = queue.Queue(), threading.Barrier(3)
        def one(number):
            barrier.wait()
            told.put(number)
        threads = [threading.Thread(target=one, args=[number]) for number in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sorted(told.get() for _ in threads))
    """
    with Sandbox(Limits(processes=8), workers=1) as sandbox:
        [outcome] = sandbox.run([Program(dedent(source))])
    assert outcome[:2] == ("ok", "[0, 1, 2]\n")


def test_its_user_has_no_rights(run: Run) -> None:
    found = told(run("import json, os\nprint(json.dumps([os.getuid(), os.getgid(), os.getgroups()]))"))
    assert found in ([65534, 65534, []], [65534, 65534, [65534]])


def test_it_holds_no_descriptors_but_its_own(run: Run) -> None:
    found = told(
        run(
            """
            import json, os
            def is_open(fd):
                try:
                    os.fstat(fd)
                    return True
                except OSError:
                    return False
            print(json.dumps([fd for fd in range(256) if is_open(fd)]))
            """
        )
    )
    assert found == [0, 1, 2, 4]


def test_what_it_inherits_holds_nothing_of_the_program_before_it(run: Run) -> None:
    run("secret = 'walrus'\nprint(secret)", stdin="walrus")
    outcome = run(
        """
        import gc, sys
        def seen():
            word, frame = "surlaw"[::-1], sys._getframe()
            while frame:
                yield from (value for value in frame.f_locals.values() if value != word and word in repr(value))
                frame = frame.f_back
            yield from (each for each in gc.get_objects() if isinstance(each, (list, tuple)) and word in repr(each))
            yield from (module for module in sys.modules.values() if word in repr(vars(module)))
        print(len(list(seen())))
        """
    )
    assert outcome.stdout == "0\n"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"print('\0a\0')", "\0a\0\n"),
        (r"print('\N{SNOWMAN}𝕏')", "☃𝕏\n"),
        (r"import os; os.write(1, b'\xff\xfe')", "��"),
        (r"import sys; sys.stdout.buffer.write('\ud800'.encode('utf-8', 'surrogatepass'))", "���"),
    ],
)
def test_odd_output_comes_back_as_text(run: Run, written: str, read: str) -> None:
    outcome = run(written)
    assert outcome[:2] == ("ok", read)
    outcome.stdout.encode()


def test_surrogates_in_a_program_and_its_input_do_no_harm(run: Run) -> None:
    assert run("print('\ud800')").status in ("syntax", "error")
    assert run("print(ascii(input()))", "\ud800").status in ("ok", "error")


def test_a_program_that_closes_everything_is_only_silent(run: Run) -> None:
    outcome = run("import os\nos.closerange(0, 100)\nprint('?')")
    assert outcome.stdout == ""


def test_deep_recursion_is_an_error_of_the_program(run: Run) -> None:
    assert "RecursionError" in run("def f(): f()\nf()").stderr
    deeper = "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f](x) if 0 else f(x)\nf(1)"
    assert run(deeper).status in ("error", "memory", "timeout")


def test_a_crash_of_the_interpreter_is_an_error_of_the_program(run: Run) -> None:
    assert run("import ctypes\nctypes.string_at(0)").status == "error"


def test_programs_side_by_side_end_in_order() -> None:
    programs = [Program(f"import time\ntime.sleep({0.05 * (n % 3)})\nprint({n})") for n in range(12)]
    with Sandbox(workers=3) as sandbox:
        assert [int(outcome.stdout) for outcome in sandbox.run(programs)] == list(range(12))


def test_a_program_is_not_timed_while_nobody_takes_its_outcome() -> None:
    programs = [Program("print('x' * 100_000)")] * 3
    with Sandbox(Limits(wall_s=2), workers=1) as sandbox:
        outcomes = sandbox.run(programs)
        first = next(outcomes)
        time.sleep(2.5)
        assert [outcome.status for outcome in (first, *outcomes)] == ["ok"] * 3


def test_where_an_interpreter_dies_its_program_runs_again_in_another() -> None:
    before = descendants()
    with Sandbox(workers=1) as sandbox:
        list(sandbox.run([GOOD]))
        os.kill(min(descendants() - before), signal.SIGKILL)
        outcomes = list(sandbox.run([GOOD, GOOD]))
    assert [outcome.stdout for outcome in outcomes] == ["6\n", "6\n"]
    assert descendants() == before
