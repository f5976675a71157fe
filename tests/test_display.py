"""What the terminal says of a round."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console
from selfloop.display import COLOURS, Terminal, duration, ordered, pace_line, round_line, rounds_table, speed
from selfloop.progress import Pace
from selfloop.stages import find_stage


def a_suite(gain: float, bar: float = 0.0, passed: bool = True) -> dict[str, Any]:
    return {"gain": gain, "lower": gain - 0.021, "upper": gain + 0.021, "bar": bar, "passed": passed}


def a_round(
    verdict: str = "promoted", guards: Mapping[str, str] = MappingProxyType({}), **suites: dict[str, Any]
) -> dict[str, Any]:
    return {
        "round": 3,
        "rollouts": 4000,
        "kept": {"3": 1000, "4": 234},
        "funnel": [{"selector": "correct"}],
        "accuracy": {"champion": {"1": 0.5}, "candidate": {"1": 1.0}},
        "decision": {
            "verdict": verdict,
            "promoted": verdict == "promoted",
            "guards": {name: {"level": level} for name, level in guards.items()},
            "suites": {"target": a_suite(0.052), "old": a_suite(-0.004, -0.03)} | suites,
        },
    }


def test_a_round_in_which_nothing_was_kept_says_why() -> None:
    why = "Nothing kept: of 4,000 rollouts 3,990 were rejected by 'correct' (wrong answer)"
    line = round_line(a_round() | {"kept": {}, "empty": why}).plain
    assert line.endswith(
        "[+0.031, +0.073]; nothing kept: of 4,000 rollouts 3,990 were rejected by 'correct' (wrong answer)"
    )


def test_a_round_without_a_filter_says_how_many_rollouts_there_were() -> None:
    assert round_line(a_round() | {"kept": {}, "funnel": []}).plain.endswith("[+0.031, +0.073]; 4,000 rollouts")


def test_a_round_without_a_suite_says_that_nothing_was_tested() -> None:
    round = a_round() | {"rollouts": 0, "kept": {}, "funnel": []}
    round["decision"] |= {"suites": {}, "reason": "promoted without a test: this loop has no suite"}
    assert round_line(round).plain == "round  3 promoted  promoted without a test: this loop has no suite"


@pytest.mark.parametrize(
    ("round", "says"),
    [
        (a_round(), "promoted  target +0.052 [+0.031, +0.073]; kept"),
        (a_round("rejected", target=a_suite(-0.01, passed=False)),
         "rejected  target -0.010 [-0.031, +0.011]; not shown to be better; kept"),
        (a_round("rejected", old=a_suite(-0.05, -0.03, passed=False)),
         "rejected  target +0.052 [+0.031, +0.073]; old -0.050 [-0.071, -0.029], bar -0.03; kept"),
        (a_round("pending", {"gap": "green", "my [b]guard": "yellow"}),
         "pending   target +0.052 [+0.031, +0.073]; guard 'my [b]guard' warns; kept"),
        (a_round("halted", {"precision": "red", "gap": "yellow"}),
         "halted    target +0.052 [+0.031, +0.073]; guard 'precision' halts the loop; kept"),
    ],
)  # fmt: skip
def test_a_round_is_one_line_with_its_gain_in_front(round: dict[str, Any], says: str) -> None:
    line = round_line(round)
    assert line.plain == f"round  3 {says} 1,234 of 4,000 rollouts"
    verdict = round["decision"]["verdict"]
    assert COLOURS[verdict] in [str(span.style) for span in line.spans]


def test_a_pace_knows_its_rate_and_what_is_left_without_what_was_found() -> None:
    pace = Pace(100, 300, now=10.0)
    assert (pace.rate, pace.seconds_left) == (0, None)
    pace.note(150, 300, now=15.0)
    assert (pace.rate, pace.seconds_left) == (10, 15)


def test_the_line_of_a_stage_says_how_far_how_fast_and_how_long_still() -> None:
    paces = {"tokens": Pace(0, 0, 0.0), "rollouts": Pace(0, 2000, 0.0)}
    paces["tokens"].note(22_100, 0, 10.0)
    assert ordered({"tokens": paces["tokens"]}) == []
    paces["rollouts"].note(500, 2000, 10.0)
    assert pace_line(paces) == "500/2,000 rollouts  50 rollouts/s  2,210 tokens/s  30 s left"
    assert [speed(rate, "steps") for rate in (0.1534, 9.96, 12.4)] == ["0.15 steps/s", "10 steps/s", "12 steps/s"]
    assert [duration(seconds) for seconds in (7, 600, 7500)] == ["7 s", "10 min", "2 h 5 min"]


def test_a_stage_that_ended_is_a_line_with_its_rates() -> None:
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured, Terminal(console, 2) as terminal:
        stage = find_stage("generate_rollouts")
        terminal.stage_begins(1, stage)
        for done in (0, 5, 9):
            terminal.stage_moves(done * 7, 0, "tokens")
            terminal.stage_moves(done, 9, "rollouts")
        terminal.stage_ends(1, stage, None, skipped=False)
    assert re.match(r"round 1 · generate: \d+\.\d s, [\d,.]+ rollouts/s, [\d,.]+ tokens/s\n", captured.get())


def test_the_table_of_rounds_has_the_gate_s_verdicts() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(rounds_table({"rounds": [a_round(), a_round("halted") | {"round": 4}]}, 80))
    assert [line.split() for line in captured.get().splitlines()[-3:]] == [
        ["base", ".50"], ["3", "1", "promoted"], ["4", ".50", "halted"]
    ]  # fmt: skip
