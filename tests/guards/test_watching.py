import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.guards import Alarm, Guard, Reading, armed, find_guard, guards, watch

from .conftest import Round

OWN = """
from selfloop.guards import Guard, Reading

guard = Guard("politeness", "whether it says please", lambda evidence: Reading(evidence.audited / 100, "said"),
              warn=0.5, halt=0.2, bad="low", look="the samples")
other = Guard("distinct", "another of this name", lambda evidence: Reading(0.0, "said"), 0.5, 0.2, "low", "the samples")
broken = Guard("broken", "nothing", lambda evidence: Reading(float("nan"), "said"), 0.5, 0.2, "low", "the samples")
silent = Guard("silent", "nothing", lambda evidence: Reading(None, "there was nothing"), 0.5, 0.2, "low", "the samples")
"""

NAMES = {"contamination", "coverage", "distinct", "divergence", "entropy", "forgetting", "gap", "length", "precision"}


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_guards.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("our_guards", None)


def test_the_guards_are_found_by_their_names() -> None:
    assert guards().keys() == NAMES
    for name, guard in guards().items():
        assert find_guard(name) is guard
        assert (guard.name, bool(guard.watches), bool(guard.look)) == (name, True, True)


def test_finding_guards_imports_nothing_heavy() -> None:
    heavy = {"numpy", "pyarrow", "torch"}
    code = f"import sys; from selfloop.guards import guards; guards(); print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("entropi", "There is no guard 'entropi': did you mean 'entropy'?"),
        ("our_guards:nothing", "No guard at 'our_guards:nothing'"),
        ("our_guards:Guard", "'our_guards:Guard' is not a guard: make it a selfloop.guards.Guard."),
    ],
)
def test_what_is_not_a_guard_is_refused(name: str, says: str, evidence: Round) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        watch(evidence(), [name])


def test_a_guard_of_ones_own_is_watched_under_its_own_name(evidence: Round) -> None:
    alarms = watch(evidence(audited=40), ["our_guards:guard"])
    assert alarms == {"politeness": Alarm(0.4, "yellow", "said", 0.5, 0.2, "the samples", None)}


@pytest.mark.parametrize("names", [["distinct", "distinct"], ["distinct", "our_guards:other"]])
def test_two_guards_of_one_name_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match="Two guards are named 'distinct': name each once"):
        armed(names)


def test_lines_can_be_set_by_a_guards_name(evidence: Round) -> None:
    round = evidence(audited=40)
    own = ["our_guards:guard"]
    levels = [
        watch(round, own, warn, halt)["politeness"].level
        for warn, halt in (({}, {}), ({"politeness": 0.3}, {}), ({}, {"politeness": 0.4}), ({"politeness": 1}, {}))
    ]
    assert levels == ["yellow", "green", "red", "yellow"]


@pytest.mark.parametrize(
    ("warn", "halt", "says"),
    [
        (
            {"entropy": 0.0},
            {},
            "'entropy' would halt at 0.2 before it warns at 0: lower its halt line, or move its warn",
        ),
        (
            {},
            {"length": 0.5},
            "'length' would halt at 0.5 before it warns at 0.58: raise its halt line, or move its warn",
        ),
        ({"lenght": 1}, {}, "There is no guard 'lenght': did you mean 'length'?"),
        ({"length": float("nan")}, {}, "A line of guard 'length' cannot be nan: give a number"),
    ],
)
def test_lines_that_make_no_sense_are_refused(warn: dict[str, float], halt: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        armed(["entropy", "length"], warn, halt)


def test_what_is_not_a_number_is_refused_and_what_was_not_measured_is_green(evidence: Round) -> None:
    with pytest.raises(UserError, match="Guard 'broken' measured nan: let it give a number, or None and say why"):
        watch(evidence(), ["our_guards:broken"])
    silent = watch(evidence(), ["our_guards:silent"])["silent"]
    assert (silent.value, silent.level, silent.says) == (None, "green", "there was nothing")


numbers = st.floats(-10, 10)


@given(numbers, numbers, numbers, st.sampled_from(["high", "low"]))
def test_a_worse_value_never_has_a_better_level(a: float, b: float, value: float, bad: Literal["high", "low"]) -> None:
    warn, halt = sorted((a, b), reverse=bad == "low")
    guard = Guard("some", "some", lambda evidence: Reading(value, "said"), warn, halt, bad, "there")
    order = ["green", "yellow", "red"]
    assert guard.level(warn) != "green"
    assert guard.level(halt) == "red"
    assert guard.level(None) == "green"
    worse = value + 1 if bad == "high" else value - 1
    assert order.index(guard.level(value)) <= order.index(guard.level(worse))


def test_a_round_without_anything_is_green(evidence: Round) -> None:
    alarms = watch(evidence(), sorted(NAMES))
    assert {(alarm.value, alarm.level) for alarm in alarms.values()} == {(None, "green")}
    assert all(alarm.says for alarm in alarms.values())
