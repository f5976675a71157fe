"""What the terminal says of a round."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console
from selfloop.display import COLOURS, round_line, rounds_table


def a_suite(gain: float, bar: float = 0.0, passed: bool = True) -> dict[str, Any]:
    return {"gain": gain, "lower": gain - 0.021, "upper": gain + 0.021, "bar": bar, "passed": passed}


def a_round(
    verdict: str = "promoted", guards: Mapping[str, str] = MappingProxyType({}), **suites: dict[str, Any]
) -> dict[str, Any]:
    return {
        "round": 3,
        "rollouts": 4000,
        "kept": {"3": 1000, "4": 234},
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


@pytest.mark.parametrize(
    ("told", "says"),
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
def test_a_round_is_one_line_with_its_gain_in_front(told: dict[str, Any], says: str) -> None:
    line = round_line(told)
    assert line.plain == f"round  3 {says} 1,234 of 4,000 rollouts"
    verdict = told["decision"]["verdict"]
    assert COLOURS[verdict] in [str(span.style) for span in line.spans]


def test_the_table_of_rounds_has_the_gate_s_verdicts() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(rounds_table({"rounds": [a_round(), a_round("halted") | {"round": 4}]}, 80))
    assert [line.split() for line in captured.get().splitlines()[-3:]] == [
        ["base", ".50"], ["3", "1", "promoted"], ["4", ".50", "halted"]
    ]  # fmt: skip
