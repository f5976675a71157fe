"""Programs that are started anew for each text on standard input, good ones and those that cheat or hurt."""

from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.sandbox import Answer, Limits, Program, Sandbox, run_programs
from selfloop.sandbox.grading import Attempt, Example, Examples, Graded, graded, taken_apart
from selfloop.sandbox.judging import compare, returns, writes

from .test_grading import PLAIN
from .test_judging import REASONS

pytestmark = pytest.mark.slow

TEXTS = {"1\n": "2", "20\n": "21", "3": "4"}
SUITE = Examples([Example(text, [written]) for text, written in TEXTS.items()])
RIGHT = Graded(True, 1.0, "correct")

GOOD = {
    "input": "print(int(input()) + 1)",
    "a line": "import sys\nsys.stdout.write(str(int(sys.stdin.readline()) + 1))",
    "all lines": "import sys\nfor line in sys.stdin: print(int(line) + 1)",
    "bytes": "import sys\nsys.stdout.buffer.write(b'%d' % (int(sys.stdin.buffer.read()) + 1))",
    "descriptor 0 opened": "print(int(open(0).read()) + 1)",
    "descriptors": "import os\nos.write(1, str(int(os.read(0, 99)) + 1).encode())",
    "its size": "import os\nprint(int(os.read(0, os.fstat(0).st_size)) + 1)",
    "fileinput": "import fileinput\nfor line in fileinput.input():\n    print(int(line) + 1)\n    break",
    "a guard": "def main(): print(int(input()) + 1)\nif __name__ == '__main__': main()",
    "exit": "print(int(input()) + 1)\nexit(0)",
    "sys.exit": "import sys\nprint(int(input()) + 1, end='')\nsys.exit()",
    "names of its own": "assert 'seen' not in globals()\nseen = True\nprint(int(input()) + 1)",
    "a module that looks for itself": "import __main__\nx = int(input())\nprint(__main__.x + 1)",
    "a faster input": "import builtins, sys\nbuiltins.input = sys.stdin.readline\nprint(int(builtins.input()) + 1)",
    "closes its streams": "import os\nprint(int(input()) + 1, flush=True)\nos.close(0)\nos.close(1)",
    "closes its own": "import sys\nprint(int(input()) + 1)\nsys.stdout.close()\nsys.stdin.close()",
    "another folder": "import os\nprint(int(input()) + 1)\nos.makedirs('x', exist_ok=True)\nos.chdir('x')",
    "a child that ends": "import os\nif os.fork() == 0: os._exit(0)\nos.wait()\nprint(int(input()) + 1)",
    "deep recursion in a thread": """
        import sys, threading
        sys.setrecursionlimit(10**6)
        threading.stack_size(2**27)
        def depth(n): return n and 1 + depth(n - 1)
        def main(): print(int(input()) + 1 + depth(50_000) - 50_000)
        threading.Thread(target=main).start()
        """,
    "a thread behind the other": """
        import threading
        for _ in range(20):
            thread = threading.Thread(target=str)
            thread.start()
            thread.join()
        print(int(input()) + 1)
        """,
    "output kept for the end": """
        import atexit, io, os, sys
        sys.stdin, sys.stdout = io.BytesIO(os.read(0, os.fstat(0).st_size)), io.StringIO()
        atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))
        print(int(sys.stdin.readline()) + 1)
        """,
    "much memory each time": "x = [bytes(2**28), lambda: x]\nprint(int(input()) + 1)",
    "much on the error stream": "import sys\nprint('x' * 10**5, file=sys.stderr)\nprint(int(input()) + 1)",
}
PRINT = "print(int(input()) + 1, flush=True)"
BAD = {
    "wrong at last": ("n = int(input())\nprint(n + (n != 3))", 2 / 3, "wrong answer on test 3"),
    "nothing": ("", 0, "wrong answer on test 1"),
    "no Python": ("print(", 0, "syntax error"),
    "beyond the end": ("input()\ninput()", 0, "EOFError on test 1"),
    "an error of its own": ("class Passed(ValueError): pass\nprint(2)\nraise Passed", 0, "ValueError on test 1"),
    "a status": (f"{PRINT}\nexit(3)", 0, "SystemExit on test 1"),
    "a status in words": (f"{PRINT}\nexit('done')", 0, "SystemExit on test 1"),
    "an interrupt": (f"{PRINT}\nraise KeyboardInterrupt", 0, "KeyboardInterrupt on test 1"),
    "its end in the middle": (
        "import os\nn = int(input())\nprint(n + 1, flush=True)\nn == 20 and os._exit(0)", 1 / 3, "ended before test 2"
    ),
    "a crash in the middle": (
        "import os\nn = int(input())\nprint(n + 1)\nn == 3 and os.abort()", 2 / 3, "died before test 3"
    ),
    "no end in the middle": ("n = int(input())\nprint(n + 1)\nwhile n == 20: pass", 1 / 3, "timeout"),
    "a thread without end": (
        f"import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()\n{PRINT}", 0, "timeout"
    ),
    "too much memory": ("x = bytearray(10**10)", 0, "memory"),
    "much output": ("print('x' * 10**8)", 0, "too much output"),
    "much output by and by": ("import os\nwhile True: os.write(1, b'x' * 65536)", 0, "too much output"),
    "much output in all": ("print(int(input()) + 1, ' ' * 3 * 10**6)", 2 / 3, "too much output"),
    "output beside": (f"import sys, io\nsys.stdout = io.StringIO()\n{PRINT}", 0, "wrong answer on test 1"),
    "bad bytes": ("import os\nos.write(1, b'\\xff\\xfe')", 0, "wrong answer on test 1"),
    "replies in its output": (
        "for n in range(3): print('{\"call\": %d, \"value\": \"2\"}' % n)", 0, "wrong answer on test 1"
    ),
    "replies of its own": (
        "import os\nfor n in range(3): os.write(4, b'{\"call\": %d, \"value\": \"7\"}\\n' % n)\nos._exit(0)",
        0, "wrong answer on test 1",
    ),
    "a reply too many": (
        f"import os\n{PRINT}\nos.write(4, b'{{\"call\": 0, \"value\": \"2\"}}\\n')", 0, "ended before test 1"
    ),
    "a reply that is no text": (
        "import os\nos.write(4, b'{\"call\": 0, \"value\": [\"2\"]}\\n')\nos._exit(0)", 0, "wrong answer on test 1"
    ),
    "verdicts on all descriptors": (
        """
        import os
        for fd in range(1, 64):
            for text in (b'{"code": 0, "late": false, "cpu_s": 0, "seconds": 0}', b'{"ok": true}\\n', b"correct"):
                try:
                    os.write(fd, text)
                except OSError:
                    pass
        """, 0, "ended before test 1",
    ),
    "no channel": (f"import os\n{PRINT}\nos.close(4)", 0, "died before test 1"),
    "no descriptors": (f"import os\n{PRINT}\nos.closerange(0, 64)", 0, "died before test 1"),
    "signals to others": (
        "import os\nprint(2)\nos.kill(os.getppid(), 9)\nos.kill(0, 9)", 1 / 3, "wrong answer on test 2"
    ),
    "two children": (
        f"import os, time\nif os.fork() == 0: time.sleep(60)\nos.fork()\n{PRINT}", 0, "BlockingIOError on test 1"
    ),
    "two threads": (
        "import threading, time\nfor _ in range(2): threading.Thread(target=time.sleep, args=[9], daemon=True).start()",
        0, "RuntimeError on test 1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def grades() -> dict[str, Graded]:
    """Of every program above, right ones and wrong ones in one batch, and a function among them."""
    sources = GOOD | {name: source for name, (source, *_) in BAD.items()}
    attempts = [Attempt(dedent(source), SUITE) for source in sources.values()]
    attempts.insert(1, Attempt("def f(x): return x + 1", taken_apart(("assert f(1) == 2",))))
    found = list(graded(attempts, Limits(wall_s=3, cpu_s=3)))
    assert found.pop(1) == RIGHT
    return dict(zip(sources, found, strict=True))


@pytest.mark.debian("bubblewrap")
@pytest.mark.parametrize("name", GOOD)
def test_a_program_reads_and_writes_as_it_likes(grades: dict[str, Graded], name: str) -> None:
    assert grades[name] == RIGHT


@pytest.mark.debian("bubblewrap")
@pytest.mark.parametrize("name", BAD)
def test_a_program_that_is_not_right_is_told_why(grades: dict[str, Graded], name: str) -> None:
    _, score, reason = BAD[name]
    assert (grades[name].ok, grades[name].reason) == (False, reason)
    assert grades[name].score == pytest.approx(score)
    assert REASONS.fullmatch(reason)


@pytest.mark.debian("bubblewrap")
def test_a_text_is_answered_by_what_was_written_for_it(sandbox: Sandbox) -> None:
    source = "import os, sys\ntext = sys.stdin.read()\nprint(len(text), text)\nos.write(1, b'\\xff')"
    [outcome] = sandbox.run([Program(source, texts=["", "é\n\0", "x" * 1000])])
    assert (outcome.status, outcome.stdout) == ("ok", "")
    assert outcome.answers == (
        Answer("\ufffd0 \n"),
        Answer("\ufffd3 é\n\0\n"),
        Answer(f"\ufffd1000 {'x' * 1000}\n"),
    )


@pytest.mark.debian("bubblewrap")
def test_the_error_of_a_text_is_printed_with_the_lines_of_the_program(sandbox: Sandbox) -> None:
    [outcome] = sandbox.run([Program("int(input())", texts=["1", "x"])])
    assert outcome.answers[1].error.startswith("ValueError: ")
    assert outcome.stderr.startswith('Traceback (most recent call last):\n  File "program.py", line 1')


@pytest.mark.debian("bubblewrap")
def test_a_program_sees_what_it_is_given_and_nothing_of_what_is_right() -> None:
    search = """
        import gc, sys
        def seen():
            word, frame = "surlaw"[::-1], sys._getframe()
            while frame:
                yield from (value for value in frame.f_locals.values() if value != word and word in repr(value))
                frame = frame.f_back
            yield from (each for each in gc.get_objects() if isinstance(each, (list, tuple)) and word in repr(each))
        print(len(list(seen())))
        """
    suite = Examples([Example("question", ["walrus"])])
    [outcome] = run_programs([suite.program(dedent(search), suite.sure)])
    assert outcome.answers == (Answer("0\n"),)


@pytest.mark.debian("bubblewrap")
def test_examples_of_a_function_are_calls_of_it_or_of_a_method() -> None:
    suite = Examples([Example([[1, 2], 3], [6]), Example([[], 0.1], [0.1]), Example([[5], 0], [[5], 5])], "total")
    function = "def total(xs, y): return sum(xs) + y"
    method = "class Solution:\n    def total(self, xs, y):\n        self.xs = xs\n        return sum(self.xs) + y"
    wrong = [function.replace("y", "0", 2), "class Solution: pass", "Solution = 3", "def total(xs): return sum(xs)"]
    found = list(graded(Attempt(source, suite) for source in (function, method, *wrong)))
    assert found[:2] == [RIGHT, RIGHT]
    assert [grade.ok for grade in found[2:]] == [False] * 4
    assert [grade.reason for grade in found[3:]] == ["no such function", "no such function", "TypeError on test 1"]


texts = st.text(st.sampled_from("0123456789.-+e \n\tx\r\f\u00a0é"), max_size=30)
numbers = st.floats(-1e12, 1e12)


@given(texts | st.text(), texts | st.text())
def test_a_text_is_what_it_is_and_no_text_raises(wanted: str, written: str) -> None:
    assert writes(wanted, wanted)
    assert isinstance(writes(wanted, written), bool)


@given(st.lists(st.lists(st.sampled_from(["1", "-2", "yes", "0.5", "é"]), min_size=1), min_size=1), st.data())
def test_spaces_between_words_and_empty_lines_at_the_end_do_not_matter(lines: list[list[str]], data: Any) -> None:
    gaps = st.sampled_from([" ", "  ", "\t", " \r"])
    spaced = [data.draw(gaps).join(["", *line, ""]) for line in lines]
    wanted = "\n".join(map(" ".join, lines))
    assert writes(wanted, "\n".join(spaced) + data.draw(st.sampled_from(["", "\n", "\n \n\n"])))
    assert not writes(wanted, "\n\n".join([*spaced, "end"]))
    assert not writes(wanted, " ".join(sum(lines, ["1"])))


@given(numbers, st.floats(-0.9, 0.9), st.sampled_from([-1, 1]))
def test_a_number_is_as_near_to_a_decimal_fraction_as_a_contest_allows(number: float, part: float, sign: int) -> None:
    allowed = 1e-6 * max(1.0, abs(number))
    near, far = number + part * allowed, number + sign * 1.1 * allowed
    assert writes(f"{number:.12f}", repr(near))
    assert writes(f"{number:.12e}", f"{near:.12f}")
    assert not writes(f"{number:.12f}", f"{far:.12f}")
    assert returns([{"x": number}], ({"x": near},))
    assert not returns([{"x": number}], [{"x": far}])


@pytest.mark.parametrize(
    ("wanted", "written", "is_right"),
    [
        ("2", "2.0", False),
        ("2.0", "2", True),
        ("1000000", "1000001", False),
        ("1000000.0", "1000001", True),
        ("0.1", "nan", False),
        ("0.1", "1e400", False),
        ("1e400", "1e400", True),
        ("1e400", "2e400", False),
        ("nan", "nan", True),
        ("1.5x", "1.5", False),
        ("1.2.3", "1.2.30", False),
        (".5", "0.5000001", True),
        ("1.", "1", True),
        ("1e-3", "0.001", True),
        ("0.5", "1/2", False),
        ("0.5", "0.5" + "0" * 10**5, True),
        ("0.5", "9" * 10**5, False),
        ("yes", "YES", False),
        ("a b", "a\nb", False),
        ("", " \n\n", True),
        ("", "0", False),
        ("a\n\nb", "a\nb", False),
    ],
)
def test_what_is_the_same_in_a_text(wanted: str, written: str, is_right: bool) -> None:
    assert writes(wanted, written) is is_right


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def as_python(value: Any) -> Any:
    """A value as a program may have it: tuples for lists, numbers for keys."""
    if isinstance(value, list):
        return tuple(map(as_python, value))
    if isinstance(value, dict):
        return {int(key) if key == "7" else key: as_python(each) for key, each in value.items()}
    return value


@given(JSON, PLAIN)
def test_a_value_of_json_is_what_a_function_returns_for_it(wanted: Any, other: Any) -> None:
    assert returns(wanted, wanted)
    assert returns({"7": wanted}, {7: as_python(wanted)})
    assert not returns([wanted], [wanted, wanted])
    assert isinstance(returns(wanted, other), bool)


@given(
    st.sampled_from(["ok", "error", "timeout", "memory", "output", "syntax"]), st.binary(max_size=200), st.booleans()
)
def test_whatever_is_replied_the_reason_is_one_of_a_closed_set(status: str, replies: bytes, is_text: bool) -> None:
    found = compare([["7301"], ["7301"]], is_text, status, replies.decode("utf-8", "replace"))
    assert not found[0]
    assert REASONS.fullmatch(found[2])


def test_more_replies_than_texts_and_deep_ones_are_not_right() -> None:
    deep = '{"call": 0, "value": ' + "[" * 50_000 + "]" * 50_000 + "}\n"
    assert compare([["x"]], True, "ok", deep) == (False, 0.0, "ended before test 1")
    assert not returns(["x"], [["x"]])
