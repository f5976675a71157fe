import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact
from selfloop.cli import describe
from selfloop.errors import UserError
from selfloop.guards import Alarm, Evidence, Guard, Reading, watch
from selfloop.guards.divergence import Divergence
from selfloop.guards.length import Length
from selfloop.guards.precision import Precision
from selfloop.promote.gate import GUARDS, GateParams, judge

from .conftest import Round

OWN = """
from selfloop.guards import Guard, Reading


def politeness(evidence, *, warn: float = 0.2, halt: float = 0.5):
    \"\"\"Whether it says please.\"\"\"
    return Reading(evidence.audited / 100, "said")


class Other(Guard, warn=0.5, halt=0.2):
    name = "distinct"
    bad = "low"

    def __call__(self, evidence):
        return Reading(0.0, "said")


class Broken(Other):
    name = "broken"

    def __call__(self, evidence):
        return Reading(float("nan"), "said")


class Silent(Other):
    name = "silent"

    def __call__(self, evidence):
        return Reading(None, "there was nothing")
"""

NAMES = {
    "contamination",
    "coverage",
    "distinct",
    "divergence",
    "entropy",
    "forgetting",
    "gap",
    "length",
    "owns",
    "precision",
    "self-preference",
}


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our_guards.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("our_guards", None)


def test_the_guards_are_found_by_their_names() -> None:
    assert Guard.members().keys() == NAMES
    for name, kind in Guard.members().items():
        assert str(Guard.parse(name)) == name
        assert all(kind.__dict__.get(trait) for trait in ("__doc__", "bad", "look", "statistic"))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_guard_shows_its_statistic_its_bound_and_its_memory(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    describe.strategy(Guard, name)
    shown = " ".join(capsys.readouterr().out.split())
    for told in ("statistic: the ", "limit: ", "remembers: ", "bound: one-sided, clustered by task; "):
        assert told in shown


def test_finding_guards_imports_nothing_heavy() -> None:
    heavy = {"numpy", "pyarrow", "torch"}
    code = f"import sys; from selfloop.guards import Guard; Guard.members(); print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("entropi", "There is no guard 'entropi': did you mean 'entropy'?"),
        ("our_guards:nothing", "No guard at 'our_guards:nothing'"),
        ("our_guards:Guard", "The guard 'our_guards:Guard' does nothing: define __call__."),
        (
            "our_guards:Reading",
            "'our_guards:Reading' is no guard: make it a subclass of selfloop.guards.Guard",
        ),
    ],
)
def test_what_is_not_a_guard_is_refused(name: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        GateParams(guards=[name])


def test_a_guard_of_ones_own_is_watched_under_its_own_name(evidence: Round) -> None:
    alarms = watch(evidence(audited=40), [Guard.parse("our_guards:politeness")])
    look = "the samples of this round"
    assert alarms == {"politeness": Alarm(0.4, "yellow", "said", 0.2, 0.5, look, None, {})}


@pytest.mark.parametrize("names", ["distinct+distinct", "distinct+our_guards:Other"])
def test_two_guards_of_one_name_are_refused(names: str) -> None:
    with pytest.raises(UserError, match="Two guards are named 'distinct': name each once"):
        GateParams(guards=names)


@pytest.mark.parametrize(
    ("lines", "level"), [("", "yellow"), (",warn=0.45", "green"), (",halt=0.4", "red"), (",warn=0,halt=1", "yellow")]
)
def test_a_guard_has_its_lines_as_parameters(lines: str, level: str, evidence: Round) -> None:
    assert watch(evidence(audited=40), [Guard.parse(f"our_guards:politeness{lines}")])["politeness"].level == level


def test_the_lines_of_some_guards_are_changed_and_others_stay() -> None:
    changed = GateParams(guards="+length,halt=3+our_guards:politeness").guards
    assert [each.label() for each in changed] == [*GUARDS, "politeness"]
    assert {each.label(): each for each in changed}["length"] == Length(warn=0.58, halt=3)


@pytest.mark.parametrize(
    ("spelt", "says"),
    [
        ("entropy,warn=0", "'entropy' would halt at 0.3 before it warns at 0: lower its halt line, or move its warn"),
        ("length,halt=.5", "'length' would halt at 0.5 before it warns at 0.58: raise its halt line, or move its warn"),
        ("length,wran=1", "There is no parameter of the guard 'length' 'wran': did you mean 'warn'?"),
        ("length,warn=nan", "'warn' of the guard 'length' cannot be 'nan': Input should be a finite number"),
    ],
)
def test_lines_that_make_no_sense_are_refused(spelt: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        GateParams(guards=f"+{spelt}")


def test_what_is_not_a_number_is_refused_and_what_was_not_measured_is_green(evidence: Round) -> None:
    with pytest.raises(UserError, match="Guard 'broken' measured nan: let it give a number, or None and say why"):
        watch(evidence(), [Guard.parse("our_guards:Broken")])
    silent = watch(evidence(), [Guard.parse("our_guards:Silent")])["silent"]
    assert (silent.value, silent.level, silent.says) == (None, "green", "there was nothing")


numbers = st.floats(-10, 10)


@given(numbers, numbers, numbers, st.sampled_from(["high", "low"]))
def test_a_worse_value_never_has_a_better_level(a: float, b: float, value: float, bad: Literal["high", "low"]) -> None:
    warn, halt = sorted((a, b), reverse=bad == "low")
    guard = {"high": Divergence, "low": Precision}[bad](warn=warn, halt=halt)
    order, shown = ["green", "yellow", "red"], {"warn": True, "halt": True}

    def level(value: float | None, shown: Mapping[str, bool] = shown) -> str:
        return guard.level(Reading(value, ""), shown)

    assert level(warn) != "green"
    assert level(halt) == "red"
    assert level(halt, {"warn": True, "halt": False}) == "yellow"
    assert level(None) == level(halt, {"warn": False, "halt": False}) == "green"
    worse = value + 1 if bad == "high" else value - 1
    assert order.index(level(value)) <= order.index(level(worse))


ABSENT = {
    "distinct": "rollouts",
    "entropy": "rollouts",
    "coverage": "results",
    "precision": "audit",
    "gap": "audit",
    "length": "results",
    "forgetting": "results",
    "divergence": "audit",
}
"""What each guard looks at first; contamination looks at what training removed."""


def _without(*tables: str, place: Path) -> Evidence:
    there = {name: str(place / name) for name in ("rollouts", "verdicts", "audit", "examples", "results")}
    kept = {name: path for name, path in there.items() if name not in tables}
    return Evidence(kept, candidate={}, past=[], audited=10, seed=0)


@pytest.mark.parametrize(("name", "table"), ABSENT.items())
def test_a_guard_whose_table_a_loop_has_not_says_so_and_is_green(name: str, table: str, tmp_path: Path) -> None:
    alarm = watch(_without(table, place=tmp_path), [Guard.parse(name)])[name]
    assert (alarm.value, alarm.level, alarm.says) == (None, "green", f"this loop has no {table}")


def test_a_guard_of_ones_own_may_ask_for_a_table_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "curious_guards.py").write_text(
        "from selfloop.guards import Reading\n\n\ndef curious(evidence, *, warn: float = 1, halt: float = 2):\n"
        "    evidence.table('games')\n    return Reading(3.0, 'played')\n"
    )
    curious = Guard.parse("curious_guards:curious")
    alarm = watch(Evidence({}, candidate={}, past=[], audited=10, seed=0), [curious])["curious"]
    assert (alarm.value, alarm.level, alarm.says) == (None, "green", "this loop has no games")
    there = Evidence({"games": str(tmp_path)}, candidate={}, past=[], audited=10, seed=0)
    assert there.table("games") == str(tmp_path)
    assert watch(there, [curious])["curious"].level == "red"


def test_a_loop_without_evidence_promotes_untested_and_every_guard_says_what_it_lacks(tmp_path: Path) -> None:
    candidate = Artifact(uri=str(tmp_path))
    told = judge(GateParams(), {}, candidate, [])
    assert (told["verdict"], told["promoted"]) == ("promoted", True)
    assert told["reason"] == "promoted without a test: this loop has no suite to judge its role by"
    assert (told["suites"], told["audit"], told["accuracy"]) == ({}, {}, {"champion": {}, "candidate": {}})
    lacking = {name: alarm["says"] for name, alarm in told["guards"].items() if name in ABSENT}
    assert lacking == {name: f"this loop has no {table}" for name, table in ABSENT.items()}
    halting = judge(GateParams(guards="our_guards:Other"), {}, candidate, [])
    assert (halting["verdict"], halting["promoted"]) == ("halted", False), "a guard that needs no table is heard"


def test_a_round_without_anything_is_green(evidence: Round) -> None:
    alarms = watch(evidence(), GateParams().guards)
    assert {(alarm.value, alarm.level) for alarm in alarms.values()} == {(None, "green")}
    assert all(alarm.says for alarm in alarms.values())
