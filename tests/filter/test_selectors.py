"""Selectors that go by verdict, length, room and budget, through the whole stage."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.filter import FilterParams
from selfloop.filter.filter import grouped
from selfloop.filter.selectors.balance import gains
from selfloop.records import TOOL, segments_of

from .conftest import Judged, Keep, Selected, group, joined, judged


def rated(task: str, right: int, of: int) -> list[Judged]:
    return group(task, *((f"{task}{n}", n < right) for n in range(of)))


def test_correct_counts_the_others_by_the_verifier_s_reasons(keep: Keep) -> None:
    given = [
        judged("a", 1, 0, "x", True),
        judged("a", 1, 1, "y", False, "no end token"),
        judged("a", 1, 2, "z", False, "wrong answer"),
        judged("b", 1, 0, "z", False, "wrong answer"),
    ]
    made = keep(given, "correct")
    assert made.texts == ["x"]
    assert made.funnel == [
        {
            "selector": "correct",
            "in": 4,
            "kept": 1,
            "rejected": {"no end token": 1, "wrong answer": 2},
            "says": "",
        }
    ]


def test_what_the_verifier_has_no_opinion_of_is_not_correct(tmp_path: Path) -> None:
    given = group("a", ("x", True), ("y", None), ("z", False), ("w", None))
    batch = grouped(joined(given))
    made = Selected(tmp_path, FilterParams(select=["correct"]), [batch])
    assert (made.texts, made.funnel[0]["kept"]) == (["x"], 1)
    everything = Selected(tmp_path, FilterParams(select=["all"]), [batch])
    assert [row["good"] for row in everything.rows] == [True, False, False, False]
    assert {row["rate"] for row in everything.rows} == {0.25}


def test_all_keeps_wrong_ones_and_says_which_they_are_and_how_often_their_task_is_solved(keep: Keep) -> None:
    made = keep([*group("a", ("x", True), ("y", False), ("z", False)), *group("b", ("w", True))], "all")
    assert [(e.completion, e.good, e.rate) for e in made.examples] == [
        ("x", True, 1 / 3),
        ("y", False, 1 / 3),
        ("z", False, 1 / 3),
        ("w", True, 1.0),
    ]
    assert made.rejected == {}


def test_rate_keeps_the_tasks_of_the_frontier_whole(keep: Keep) -> None:
    given = [row for right in range(6) for row in rated("abcdef"[right], right, 5)]
    made = keep(given, "rate,min_rate=0.2,max_rate=0.6")
    assert [example.task for example in made.examples] == ["b"] * 5 + ["c"] * 5 + ["d"] * 5
    assert made.rejected == {"solved too often": 10, "solved too rarely": 5}


def test_rate_is_that_of_the_whole_group_whatever_was_rejected_before(keep: Keep) -> None:
    given = [*rated("a", 1, 4), *rated("b", 4, 4), *group("c", ("same", True), ("same", True), ("no", False))]
    made = keep(given, "correct", "unique", "rate,min_rate=0.2,max_rate=0.9")
    assert [(example.task, example.rate) for example in made.examples] == [("a", 0.25), ("c", 2 / 3)]


@pytest.mark.parametrize(
    ("bounds", "kept", "rejected"),
    [
        ("between", ["xx", "xxxx"], {"too short": 1, "too long": 1}),
        ("at-least", ["xx", "xxxx", "xxxxx"], {"too short": 1}),
        ("at-most", ["x", "xx", "xxxx"], {"too long": 1}),
    ],
)
def test_length_holds_to_the_bounds_that_are_named(
    keep: Keep, bounds: str, kept: list[str], rejected: dict[str, int]
) -> None:
    given = group("a", *(("x" * n, True) for n in (1, 2, 4, 5)))
    made = keep(given, f"length,bounds={bounds},shortest=2,longest=4")
    assert (made.texts, made.rejected) == (kept, rejected)


def test_length_is_counted_in_characters_or_in_tokens(keep: Keep) -> None:
    given = [judged("a", 1, 0, "äöü", True, tokens=9), judged("a", 1, 1, "long enough", True, tokens=3)]
    assert keep(given, "length,shortest=1,longest=3").texts == ["äöü"]
    assert keep(given, "length,shortest=1,longest=3,measure=tokens").texts == ["long enough"]


def test_per_level_counts_what_earlier_rounds_kept(keep: Keep) -> None:
    kept = keep([judged("old", 1, n, f"{n}", True) for n in range(3)], "all").examples
    given = [judged("a", 1, 0, "x", True), judged("b", 1, 0, "y", True), judged("c", 2, 0, "z", True)]
    made = keep(given, "per-level,limit=4", before=kept)
    assert (made.texts, made.rejected) == (["x", "z"], {"level is full": 1})
    assert (made.kept, len(made.pool)) == ({"1": 1, "2": 1}, 5)


def spenders() -> list[Judged]:
    """Three tasks with 3, 1 and 2 rollouts of 10 tokens each, the later ones with the better scores."""
    tasks = ["a", "a", "a", "b", "c", "c"]
    return [
        judged(task, 1, number, f"{task}{number}", True, score=number / 10, tokens=10)
        for number, task in enumerate(tasks)
    ]


@pytest.mark.parametrize(
    ("selector", "tokens", "kept"),
    [
        ("budget", 49, ["a0", "a1", "a2", "b3"]),
        ("budget-by-score", 49, ["a2", "b3", "c4", "c5"]),
        ("budget-by-task", 30, ["a0", "b3", "c4"]),
        ("budget-by-task", 40, ["a0", "a1", "b3", "c4"]),
        ("budget-by-task", 50, ["a0", "a1", "b3", "c4", "c5"]),
        ("budget-by-score", 1000, ["a0", "a1", "a2", "b3", "c4", "c5"]),
    ],
)
def test_a_budget_is_spent_in_the_order_that_its_name_says(
    keep: Keep, selector: str, tokens: int, kept: list[str]
) -> None:
    made = keep(spenders(), f"{selector},tokens={tokens}")
    assert made.texts == kept
    assert made.funnel[0]["says"] == f"{len(kept) * 10} of {tokens:,} tokens"
    assert made.rejected == ({"beyond the token budget": 6 - len(kept)} if len(kept) < 6 else {})


def test_a_budget_ends_at_the_first_rollout_that_does_not_fit(keep: Keep) -> None:
    given = [judged("a", 1, n, f"{n}", True, tokens=tokens) for n, tokens in enumerate([5, 50, 1])]
    assert keep(given, "budget,tokens=20").texts == ["0"]


def test_of_a_pair_both_sides_cost_tokens(keep: Keep) -> None:
    given = [row for task in "abc" for row in group(task, ("right", True), ("wrong", False))]
    assert keep(given, "best-worst", "budget,tokens=20").texts == ["right", "right"]


def test_balance_takes_the_threshold_with_the_highest_balance_score(keep: Keep) -> None:
    """One correct of one kept: 1/2 · 1; from 0.5 on two of two: 1 · 1; from 0.1 on two of four: 1 · 1/2."""
    given = group("a", ("w", True, 0.9), ("x", True, 0.5), ("y", False, 0.1), ("z", False, 0.1))
    made = keep(given, "balance,enough=2")
    assert made.texts == ["w", "x"]
    assert made.funnel[0]["says"] == "scores from 0.5 on, balance score 1.000"
    assert made.rejected == {"score below the threshold": 2}


def test_balance_counts_a_completion_that_occurs_twice_once(keep: Keep) -> None:
    """Were the wrong one counted nine times, the lower threshold would not be worth its third correct one."""
    given = group("a", ("v", True, 0.9), ("w", True, 0.9), ("x", True, 0.5), *[("y", False, 0.5)] * 9)
    assert keep(given, "balance,enough=3").funnel[0]["says"] == "scores from 0.5 on, balance score 0.750"


def plain_balance(given: list[Judged], threshold: float, enough: int) -> float:
    """The mean over tasks, as the formula reads."""
    values = []
    for task in {row.rollout.task for row in given}:
        own = [row for row in given if row.rollout.task == task]
        said = {row.rollout.completion for row in own if row.score >= threshold}
        right = {text for text in said if any(r.ok for r in own if r.rollout.completion == text)}
        values.append(min(len(right) / enough, 1) * len(right) / len(said) if said else 0.0)
    return sum(values) / len(values)


attempts = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=8
)


@given(st.lists(attempts, min_size=1, max_size=5), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_the_balance_scores_agree_with_the_formula_read_plainly(
    tasks: list[list[tuple[str, bool, float]]], enough: int
) -> None:
    given = [row for number, task in enumerate(tasks) for row in group(f"t{number}", *task)]
    score, gain = gains(grouped(joined(given)), enough)
    for threshold in {row.score for row in given}:
        found = gain[score >= threshold].sum() / len(tasks)
        assert found == pytest.approx(plain_balance(given, threshold, enough))


def test_weights_are_the_scores_where_that_is_asked_for(keep: Keep) -> None:
    given = group("a", ("x", True, 0.75), ("y", True, 0.5))
    assert [example.weight for example in keep(given, "correct").examples] == [1.0, 1.0]
    assert [example.weight for example in keep(given, "correct", weigh="score").examples] == [0.75, 0.5]


def test_a_score_below_zero_is_no_weight(keep: Keep) -> None:
    with pytest.raises(UserError, match="task 'a' is below 0, and no weight can be: set 'weigh' to 'none'"):
        keep(group("a", ("x", True, -0.5)), "correct", weigh="score")


@pytest.mark.parametrize("selector", ["best-worst", "balance", "budget-by-score"])
def test_a_score_that_is_no_number_is_refused_where_scores_are_needed(keep: Keep, selector: str) -> None:
    given = group("a", ("x", True, float("nan")), ("y", False, 0.0))
    assert keep(given, "correct").texts == ["x"]
    with pytest.raises(UserError, match="The score of a rollout of the task 'a' is not a number"):
        keep(given, selector)


def test_examples_carry_what_the_policy_did_not_write(keep: Keep) -> None:
    segments = segments_of("1+1=2", [(2, 4)], TOOL)
    (example,) = keep([judged("a", 1, 0, "1+1=2", True, role="solver", segments=segments)], "correct", round=3).examples
    assert (example.segments, example.role, example.round, example.rejected) == (segments, "solver", 3, "")


def test_what_was_written_with_passages_in_sight_is_learnt_without_them(keep: Keep) -> None:
    opened = group("a", ("17", True), ("18", False), prompt="[ab=17][cd=18]?ab")
    closed = group("b", ("40", True), prompt="?cd")
    made = keep([*opened, *closed], "correct", "closed-book")
    assert [(example.prompt, example.completion) for example in made.examples] == [("?ab", "17")]
    assert made.rejected == {"wrong answer": 1, "no passages": 1}
    assert keep([*opened], "closed-book,question=cd").examples[0].prompt == "cd=18]?ab"
