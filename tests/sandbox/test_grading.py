"""What unit tests say of good programs, of wrong ones, and of those that cheat."""

import json
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.sandbox import Answer, Limits, Outcome, Program, Sandbox
from selfloop.sandbox.grading import Attempt, Graded, graded, taken_apart
from selfloop.sandbox.zygote import pack, unpack

pytestmark = pytest.mark.slow

TESTS = ("assert double(2) == 4", "assert double(-5) == -10", "assert double('ab') == 'abab'")
GOOD = "def double(x):\n    return x + x"
CORRECT = Graded(True, 1.0, "correct")

debian = pytest.mark.debian("bubblewrap")
Judge = Callable[[str], Graded]


@pytest.fixture
def judged(sandbox: Sandbox) -> Judge:
    """The grade of a program on ``TESTS``; a good program is right after it."""

    def one(source: str) -> Graded:
        suite = taken_apart(TESTS, "double")
        outcomes = sandbox.run([Program(dedent(s), calls=suite.calls) for s in (source, GOOD)])
        grade, after = (suite.grade(outcome, suite.sure) for outcome in outcomes)
        assert after == CORRECT
        assert isinstance(grade, Graded)
        return grade

    return one


def judge(tests: list[str], function: str, *values: Any) -> Graded:
    """The grade of a program that returns these values."""
    suite = taken_apart(tuple(tests), function)
    grade = suite.grade(said(*values), range(len(values)))
    assert isinstance(grade, Graded)
    return grade


def said(*values: Any) -> Outcome:
    """How a program ends that returns these values."""
    lines = (json.dumps({"call": number, "value": pack(value)}) for number, value in enumerate(values))
    return Outcome("ok", "", "", 0.0, "".join(f"{line}\n" for line in lines).encode())


@debian
def test_a_right_program_is_correct(judged: Judge) -> None:
    assert judged(GOOD) == CORRECT
    assert judged("double = lambda x: 2 * x") == CORRECT
    assert judged("class Twice:\n    def __call__(self, x): return x * 2\ndouble = Twice()") == CORRECT
    assert judged("print('noise')\ndef double(x):\n    print(x)\n    return x + x") == CORRECT


@debian
@pytest.mark.parametrize(
    ("source", "score", "reason"),
    [
        ("def double(x): return 4", 1 / 3, "wrong answer on test 2"),
        ("def double(x): return x ** 2", 1 / 3, "wrong answer on test 2"),
        ("def double(x): return x / 1 * 2", 2 / 3, "TypeError on test 3"),
        ("def double(x): pass", 0, "wrong answer on test 1"),
        ("def triple(x): return x", 0, "no such function"),
        ("double = 4", 0, "no such function"),
        ("def double(x) return x", 0, "syntax error"),
        ("", 0, "no such function"),
        ("import no_such_module", 0, "died before test 1"),
        ("def double(): return 4", 0, "TypeError on test 1"),
        ("def double(x): return object()", 0, "TypeError on test 1"),
        ("def double(x): return (y for y in [x])", 0, "wrong answer on test 1"),
        ("def double(x):\n    if x == 2: return 4\n    while True: pass", 1 / 3, "timeout"),
        ("def double(x): return [0] * 10**12", 0, "memory"),
        ("def double(x):\n    if x == 2: return 4\n    print('x' * 10**7)", 1 / 3, "too much output"),
        ("def double(x): return 'x' * 10**6", 0, "too much output"),
        ("def double(x): return 10**100000", 0, "wrong answer on test 1"),
        ("def double(x): return 10**10**6", 0, "too much output"),
    ],
)
def test_a_wrong_program_is_told_why(source: str, score: float, reason: str) -> None:
    [grade] = graded([Attempt(source, taken_apart(TESTS, "double"))], Limits(wall_s=2, cpu_s=2))
    assert (grade.ok, grade.reason) == (False, reason)
    assert grade.score == pytest.approx(score)


CHEATS = {
    "exits at once": "import sys\nsys.exit(0)",
    "exits in the function": "import sys\ndef double(x): sys.exit(0)",
    "exits the hard way": "import os\ndef double(x): os._exit(0)",
    "exits when it is read": "import os\nos._exit(0)",
    "raises SystemExit as a number": "def double(x): raise SystemExit(0)",
    "is equal to everything": """
        class All:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        def double(x): return All()
        """,
    "is equal to everything and an integer": """
        class All(int):
            def __eq__(self, other): return True
            def __index__(self): return 5
            __int__ = __hash__ = __index__
        def double(x): return All(1)
        """,
    "is equal to everything and a text": """
        class All(str):
            def __eq__(self, other): return True
            def __str__(self): return "4"
            __hash__ = None
        def double(x): return All("x")
        """,
    "claims the class of another": """
        class All:
            __class__ = property(lambda self: int)
            def __eq__(self, other): return True
        def double(x): return All()
        """,
    "is a list equal to everything": """
        class All(list):
            def __eq__(self, other): return True
        def double(x): return All([1])
        """,
    "patches the builtins": """
        import builtins
        builtins.isinstance = lambda *_: True
        builtins.all = builtins.any = builtins.bool = lambda *_: True
        builtins.AssertionError = Warning
        def double(x): return 0
        """,
    "patches json": """
        import json
        json.dumps = lambda value: '{"call": 0, "value": true, "ok": true}'
        def double(x): return 0
        """,
    "patches the writing": """
        import os
        real = os.write
        os.write = lambda fd, data: real(fd, data.replace(b"0", b"4"))
        def double(x): return 0
        """,
    "patches the one who calls it": """
        import sys
        main = sys.modules["__main__"]
        main._answer = lambda *_: None
        main.pack = lambda value: True
        def double(x): return 0
        """,
    "patches the operators": """
        import ast, operator, unittest
        operator.eq = lambda a, b: True
        ast.literal_eval = lambda text: 4
        def double(x): return 0
        """,
    "prints verdicts": """
        import os, sys
        for text in ("ok", "passed", "correct", '{"ok": true}', '{"status": "ok", "passed": 3}', "1.0", "True"):
            print(text)
            print(text, file=sys.stderr)
        def double(x): return 0
        """,
    "writes verdicts on all descriptors": """
        import os
        for fd in range(1, 64):
            for text in (b'{"code": 0, "late": false, "cpu_s": 0, "seconds": 0}', b'{"ok": true}\\n', b"correct"):
                try:
                    os.write(fd, text)
                except OSError:
                    pass
        def double(x): return 0
        """,
    "answers twice": """
        import json, os
        for number, value in enumerate([4, -10, 0]):
            os.write(4, json.dumps({"call": number, "value": value}).encode() + b"\\n")
        def double(x): return 0
        """,
    "answers out of order": """
        import os
        os.write(4, b'{"call": 2, "value": "abab"}\\n{"call": 0, "value": 4}\\n{"call": 1, "value": -10}\\n')
        os._exit(0)
        """,
    "answers what is no plain value": """
        import os
        os.write(4, b'{"call": 0, "value": {"eval": "4"}}\\n' * 3)
        os._exit(0)
        """,
    "answers what cannot be written": """
        import os
        os.write(4, b'{"call": 0, "error": "\\\\ud800"}\\n{"call": 1, "missing": "\\\\ud800"}\\n')
        os._exit(0)
        """,
    "answers with deep brackets": """
        import os
        os.write(4, b'{"call": 0, "value": ' + b"[" * 50000 + b"]" * 50000 + b"}\\n")
        os._exit(0)
        """,
    "answers not a number": "def double(x): return float('nan')",
    "answers with a truth value": "def double(x): return True",
    "looks into the frames": """
        import gc, sys
        def double(x):
            frame = sys._getframe()
            while frame:
                for values in (frame.f_locals, frame.f_globals):
                    for name in ("expected", "answer", "answers", "tests", "reference", "condition"):
                        if name in values: return values[name]
                frame = frame.f_back
            for thing in gc.get_objects():
                if isinstance(thing, (list, tuple, dict)) and "aba" + "b" in map(repr, thing): return thing
        """,
    "traces whatever runs": """
        import sys
        sys.settrace(lambda *_: None)
        sys.setprofile(lambda *_: None)
        sys.addaudithook(lambda *_: None)
        def double(x): return 0
        """,
    "hides in an exception": """
        class Passed(BaseException): pass
        def double(x): raise Passed
        """,
    "changes what it is called with": """
        def double(x, seen=[]):
            seen.append(x)
            return seen
        """,
    "leaves a child to answer": """
        import os
        try:
            os.fork()
        except OSError:
            pass
        def double(x): return 0
        """,
}


@debian
@pytest.mark.parametrize("source", CHEATS.values(), ids=CHEATS)
def test_a_program_that_cheats_is_not_correct(judged: Judge, source: str) -> None:
    grade = judged(source)
    assert not grade.ok
    assert grade.score == 0
    grade.reason.encode()


@debian
def test_what_a_program_is_called_with_is_all_that_it_sees_of_the_tests(sandbox: Sandbox) -> None:
    suite = taken_apart(("assert f('question') == 'walrus'",), "f")
    search = """
        import gc, sys
        def f(x):
            word, found = "surlaw"[::-1], []
            frame = sys._getframe().f_back
            while frame:
                found += [value for value in frame.f_locals.values() if word in repr(value)]
                frame = frame.f_back
            found += [each for each in gc.get_objects() if isinstance(each, (list, tuple)) and word in repr(each)]
            return [len(found), sys.stdin.read(), x]
        """
    [outcome] = sandbox.run([Program(dedent(search), calls=suite.calls)])
    assert outcome.answers == (Answer([0, "", "question"]),)


@debian
def test_values_of_subclasses_come_as_the_plain_values_they_are() -> None:
    source = """
        import collections, enum
        Point = collections.namedtuple("Point", "x y")
        class Colour(str, enum.Enum): RED = "red"
        class Size(enum.IntEnum): BIG = 3
        def f(): return [collections.Counter("aab"), collections.OrderedDict(a=1), Point(1, 2), Colour.RED, Size.BIG]
        """
    tests = ["assert f() == [{'a': 2, 'b': 1}, {'a': 1}, (1, 2), 'red', 3]"]
    assert list(graded([Attempt(dedent(source), taken_apart(tuple(tests), "f"))])) == [CORRECT]


@debian
@pytest.mark.parametrize(
    ("test", "body", "right"),
    [
        ("f(1) == 1 or f(2) == 2", "if x == 2: raise SystemExit\n    return x", True),
        ("f(1) == 1 or f(2) == 2", "while x == 2: pass\n    return x", True),
        ("f(1) == 0 or f(2) == 2", "return x", True),
        ("f(1) == 0 or f(2) == 2", "if x == 2: raise SystemExit\n    return x", False),
        ("f(1) == 0 or f(2) == 0 or f(3) == 3", "return x", True),
        ("f(1) == 0 and f(2) == 2", "if x == 2: raise ValueError\n    return x", False),
        ("f(1) == 1 and f(2) == 2", "return x", True),
        ("f(1) == 1 and f(2) == 2", "if x == 2: raise ValueError\n    return x", False),
        ("not (2 < f(1) < f(2))", "if x == 2: raise ValueError\n    return x", True),
        ("(f(1) or f(2)) == (f(3) and f(4))", "return {1: 0, 9: 9}.get(x, 5)", True),
    ],
)
@debian
def test_a_call_that_python_would_not_make_is_not_made(test: str, body: str, right: bool) -> None:
    suite = taken_apart((f"assert {test}", "assert f(9) == 9 or f(5) == 5"), "f")
    attempt = Attempt(f"def f(x):\n    {body}", suite)
    [grade] = graded([attempt], Limits(wall_s=2, cpu_s=2))
    assert grade.ok is right, grade


@debian
def test_an_argument_is_what_it_was_however_often_a_program_changes_it() -> None:
    source = """
        def f(v, w=None, seen=[]):
            seen.append(v)
            before = repr((v, w))
            for each in (v, w, *seen):
                each and (each.clear() if hasattr(each, "clear") else each)
            return before
        """
    for value in ("[3, [1], 2]", "{'a': [1]}", "{1, 2}", "[{'a': {1}}]"):
        tests = [
            f"x = {value}\nassert f(x) == f(x) == f(x, None) == str((x, None))",
            f"x = {value}\nassert f([x, x], w=x) == str(([x, x], x))\nassert x == {value}",
            f"def check(g):\n    x = {value}\n    for n in range(3):\n        assert g(x, x) == str((x, x))",
        ]
        assert list(graded([Attempt(dedent(source), taken_apart(tuple(tests), "f"))])) == [CORRECT]


@debian
def test_many_attempts_are_graded_in_order() -> None:
    suite = taken_apart(("assert f(1) == 2",), "f")
    attempts = [Attempt(f"def f(x): return x + {n % 3}", suite) for n in range(30)]
    assert [grade.ok for grade in graded(attempts)] == [n % 3 == 1 for n in range(30)]


@pytest.mark.parametrize(
    ("test", "right", "wrong"),
    [
        ("assert f(1) == 2", 2, 3),
        ("assert f(1) == 2, 'a message'", 2, 3),
        ("assert f(1) is None", None, 0),
        ("assert f(1)", 1, 0),
        ("assert not f(1)", [], [1]),
        ("assert f(1) is True", True, 1),
        ("assert f(1) == (1, 2)", (1, 2), [1, 2]),
        ("assert f(1) == {'a': {1, 2}}", {"a": {1, 2}}, {"a": {1}}),
        ("assert abs(f(1) - 0.5) < 1e-6", 0.5, 0.6),
        ("import math\nassert math.isclose(f(1), math.pi)", 3.141592653589793, 3.14),
        ("assert set(f(1)) == set([1, 2])", [2, 1, 1], [1]),
        ("assert sorted(f(1), reverse=True)[0] == 9", [1, 9], [1]),
        ("assert f(1) in (1, 2) and f(1) != 0", 1, 0),
        ("assert 0 < f(1) <= 2", 2, 0),
        ("assert (f(1) or 5) == 5", 0, 1),
        ("x = f(1)\nassert x[0] == x[-1]", "aba", "ab"),
        ("def check(candidate):\n    assert candidate(1) == 2\ncheck(f)", 2, 1),
        ("METADATA = {'author': 'x'}\ndef check(g):\n    'doc'\n    assert True\n    assert g(1) == 2", 2, 1),
        ("n = 3\nassert f(n) == [0] * n", [0, 0, 0], [0]),
        ("assert list(f(1)) == [0, 1]", iter([0, 1]), iter([0])),
        ("assert list(f(1)) == [0, 1]", range(2), range(1)),
        ("assert f(1) == [0, 1]", [0, 1], iter([0, 1])),
        ("assert sum(f(1)) == 3 and sorted(f(1)) == [1, 2]", {1: "a", 2: "b"}.keys(), {1: "a"}.keys()),
        ("assert list(f(1)) == ['a']", {1: "a"}.values(), {1: "b"}.values()),
        ("assert list(f(1)) == [(1, 'a')]", {1: "a"}.items(), {1: "b"}.items()),
        ("assert list(f(1)) == [1, 2]", deque([1, 2]), deque([2, 1])),
        ("assert f(1) == 0.5", Fraction(1, 2), Fraction(1, 3)),
        ("assert f(1) == 0.5", Decimal("0.5"), Decimal("0.6")),
        ("assert f(1) == b'ab'", bytearray(b"ab"), bytearray(b"a")),
        ("x = f(1)\nassert list(x) == [1]\nassert list(x) == []", iter([1]), [1]),
    ],
)
def test_tests_in_many_forms_are_taken_apart(test: str, right: Any, wrong: Any) -> None:
    calls = len(taken_apart((test,), "f").calls)
    assert judge([test], "f", *[right] * calls) == CORRECT
    assert judge([test], "f", *[wrong] * calls).reason.startswith("wrong answer on test ")


def test_a_loop_is_a_test_for_each_turn() -> None:
    suite = taken_apart(("for n in range(3):\n    assert f(n, by=2) == n * 2",), "f")
    assert [(call.args, call.kwargs) for call in suite.calls] == [([n], {"by": 2}) for n in range(3)]
    assert suite.grade(said(0, 2, 5), suite.sure) == (False, 2 / 3, "wrong answer on test 3")


def test_the_function_under_test_is_the_one_that_is_called_first() -> None:
    assert taken_apart(("assert len([1]) and add(1, 2) == 3",)).function == "add"
    with pytest.raises(UserError, match="The tests call no function"):
        taken_apart(("assert True", "assert ("))


@pytest.mark.parametrize(
    "test",
    [
        "assert f(f(1)) == 2",
        "assert g(1) == 2",
        "assert f(lambda: 1) == 2",
        "assert [x for x in f(1)] == []",
        "assert f(1).real == 2",
        "with raises(ValueError):\n    f(1)",
        "try:\n    f(1)\nexcept ValueError:\n    pass",
        "import os",
        "assert f(9 ** 9 ** 9) == 1",
        "assert f(1) == '%d' % 3",
        "assert '%d' % f(1) == '3'",
        "assert 'of %s' % (f(1),) == 'of 3'",
        "assert f(1)(2) == 3",
        "assert f(1) == 2\nassert 1 == 2",
        "assert f(1) == 2 ** 200000",
        "for x in f(1):\n    assert f(x)",
        "assert f('a' * 10 ** 9) == 1",
        "assert __import__('os').system('true')",
        "assert f(*[1]) == 1",
        "assert f(**{}) == 1",
        "for n in range(10 ** 6):\n    assert f(n)",
        "assert f(1) ==",
        "assert (lambda: 1)() == f(1)",
        "assert f'{f(1)}' == ''",
        "assert open('/etc/passwd')",
        "assert 1 << f(1)",
        "assert True",
        "",
    ],
)
def test_a_test_that_cannot_be_taken_apart_is_refused_in_a_sentence(test: str) -> None:
    with pytest.raises(UserError, match=r"of 'f'.*(plain values|that call it)\.$"):
        taken_apart((test,), "f")


def test_hostile_values_fail_the_test_and_nothing_more() -> None:
    bombs = ["list(range(f(1)))", "'a' * f(1) == ''", "2 ** f(1) > 0", "f(1) % 3 == ''", "f(1) * [1] == []"]
    for bomb in bombs:
        for huge in (10**12, "%999999999999d", [10**12]):
            assert not judge([f"assert {bomb}"], "f", huge).ok
    for value in (2**100_000, "x" * 10**6, {1: [2]}, float("inf"), "\ud800", None):
        assert not judge(["assert int(f(1)) * 'ab' == 'abab' and sum(f(1)) > 0"], "f", value, value).ok


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.complex_numbers(allow_nan=False) | st.fractions() | st.decimals(allow_nan=False) | st.binary().map(bytearray)
    | st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.sets(st.integers() | st.text()) | st.frozensets(st.integers())
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.integers()), inner) | st.lists(inner).map(deque)
    ),
    max_leaves=10,
)  # fmt: skip


@given(PLAIN)
def test_a_plain_value_comes_back_as_it_was(value: Any) -> None:
    back = unpack(json.loads(json.dumps(pack(value))))
    assert back == value
    assert type(back) is type(value)
