"""What a judge says of whatever it is told, and how long it may take."""

import json
import random
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.sandbox import Outcome, grading
from selfloop.sandbox.grading import Graded, taken_apart
from selfloop.sandbox.judging import EXCEPTIONS, grade
from selfloop.sandbox.replies import read_replies

from . import frames

pytestmark = pytest.mark.slow

POINT = r"(test \d+|the end)"
REASONS = re.compile(
    "correct|no such function|timeout|memory|too much output|syntax error|not judged"
    f"|(wrong answer|exception|{'|'.join(EXCEPTIONS)}) on test \\d+|(died|ended) before {POINT}"
)
"""All reasons that there are."""


def test_no_frame_raises_passes_or_is_quoted_in_a_reason() -> None:
    """A million are judged by hand: see ``frames``."""
    rng = random.Random(1)
    for reason in frames.reasons([frames.replies(rng) for _ in range(200)]):
        assert REASONS.fullmatch(reason.partition(":")[0])


def test_a_fraction_is_made_of_whole_numbers_alone() -> None:
    huge = json.dumps({"call": 0, "value": {"fraction": ["1e999999999"]}}).encode()
    assert read_replies(huge + b"\n") == ()
    half = json.dumps({"call": 0, "value": {"fraction": [1, {"int": "0x2"}]}}).encode()
    assert [answer.value for answer in read_replies(half + b"\n")] == [Fraction(1, 2)]


@given(st.binary(max_size=200))
def test_no_bytes_raise(written: bytes) -> None:
    assert isinstance(read_replies(written), tuple)


statuses = st.sampled_from(["ok", "error", "timeout", "memory", "output", "syntax"])
short = st.text(max_size=40)


@given(statuses, short, short)
def test_whatever_an_error_is_called_its_reason_is_one_of_a_closed_set(status: str, kind: str, name: str) -> None:
    said = [{"call": 0, "error": f"{kind}: x"}, {"call": 1, "missing": name}, {"call": 2, "error": ""}]
    for first in range(3):
        lines = [said[first] | {"call": 0}, *said[1:]]
        replies = "".join(f"{json.dumps(line)}\n" for line in lines)
        found = grade([f"assert f({n}) == 1" for n in range(3)], "f", range(3), status, replies)
        assert REASONS.fullmatch(str(found[2])), found


TREE = "for i in range(50):\n    {0} = [{0}, {0}]\n"
LOOPS = "for a in range(1000):\n    for b in range(1000):\n        for c in range(1000):\n            {}\n"
ENDLESS = {
    "squares": "x = 3\nfor i in range(40):\n    x = x * x\nassert f(x)",
    "a tree": f"x = [1]\n{TREE.format('x')}assert f(x)",
    "a tree of answers": f"x = f(1)\n{TREE.format('x')}y = f(2)\n{TREE.format('y')}assert x == y",
    "loops in loops": LOOPS.format("assert f(a)"),
    "loops without calls": f"{LOOPS.format('pass')}assert f(1)",
    "a sum of lists": "assert sum([[1]] * 10 ** 6, []) == f(1)",
    "a huge text": "x = 'a' * 10 ** 6\nfor i in range(50):\n    x = x + x\nassert f(x)",
    "brackets": "assert f(" + "[" * 10**5 + "]" * 10**5 + ")",
    "minuses": "assert f(" + "-" * 10**5 + "1)",
    "additions": "assert f(" + "1+" * 10**5 + "1)",
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that takes a second at most."""
    monkeypatch.setattr(grading, "SECONDS", 1.0)
    monkeypatch.setattr(grading, "MEBIBYTES", 512)
    taken_apart.cache_clear()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("test", ENDLESS.values(), ids=ENDLESS)
def test_tests_that_do_not_end_are_refused_or_not_judged(test: str) -> None:
    try:
        suite = taken_apart((test,), "f")
    except UserError as refused:
        said = str(refused)
    else:
        replies = b'{"call": 0, "value": 1}\n{"call": 1, "value": 1}\n'
        said = str(suite.grade(Outcome("ok", "", "", 0.0, replies), suite.sure))
    assert "cannot be judged" in said or "too long or too much memory" in said or "not judged" in said
    assert len(said) < 500


@pytest.mark.usefixtures("hasty")
def test_answers_that_take_too_long_to_compare_are_not_judged_and_the_next_are() -> None:
    suite = taken_apart(("assert sorted(f(1)) == [1]", "assert int(f(1)) == 1"), "f")
    colliding = ",".join(f'{{"int": "{(2**61 - 1) * n:#x}"}}' for n in range(60_000))
    slow = f'{{"call": 0, "value": {{"set": [{colliding}]}}}}\n{{"call": 1, "value": 1}}\n'.encode()
    assert suite.grade(Outcome("ok", "", "", 0.0, slow), suite.sure) == Graded(False, 0.0, "not judged")
    huge = b'{"call": 0, "value": 1}\n{"call": 1, "value": {"decimal": "1e99999999"}}\n'
    assert suite.grade(Outcome("ok", "", "", 0.0, huge), suite.sure) == Graded(False, 0.0, "not judged")
    good = b'{"call": 0, "value": [1]}\n{"call": 1, "value": 1}\n'
    assert suite.grade(Outcome("ok", "", "", 0.0, good), suite.sure) == Graded(True, 1.0, "correct")


@pytest.mark.parametrize("function", ["f\x1b[2J", "a b", "x" * 10 + "|", "f\n"])
def test_what_is_no_name_of_a_function_is_refused_without_harm(function: str) -> None:
    with pytest.raises(UserError, match="is no name of a function") as refused:
        taken_apart(("assert f(1)",), function)
    assert str(refused.value).isprintable()
