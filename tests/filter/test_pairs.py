import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfloop.filter.selectors.pairs import closest, shared
from selfloop.records import TOOL, segments_of

from .conftest import Keep, group, judged


def test_best_and_worst_by_score_make_one_example_a_task(keep: Keep) -> None:
    rows = [
        *group("a", ("x", True, 0.4), ("y", True, 0.9), ("z", False, 0.1), ("w", False, 0.2)),
        *group("b", ("x", True, 1.0), ("y", True, 1.0)),
        *group("c", ("only", True)),
    ]
    made = keep(rows, "best-worst")
    assert [(e.task, e.completion, e.rejected, e.rate) for e in made.examples] == [("a", "y", "z", 0.5)]
    assert made.rejected == {"all scores are level": 3, "neither best nor worst": 2, "the worse of its pair": 1}


def test_scores_that_are_nearer_than_the_least_gap_make_no_pair(keep: Keep) -> None:
    rows = [*group("a", ("x", True, 0.7), ("y", False, 0.4)), *group("b", ("x", True, 0.6), ("y", False, 0.4))]
    made = keep(rows, "best-worst,min_gap=0.3")
    assert [e.task for e in made.examples] == ["a"]
    assert made.rejected == {"scores too near": 2, "the worse of its pair": 1}


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 9)), min_size=1, max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hard_negatives_are_what_the_scores_are_most_wrong_about(
    keep: Keep, rollouts: list[tuple[bool | None, int]]
) -> None:
    rows = [judged("a", 1, n, f"text {n}", ok, score=score / 9) for n, (ok, score) in enumerate(rollouts)]
    made = keep(rows, "hard-negatives")
    right, wrong = ({n: score for n, (ok, score) in enumerate(rollouts) if ok is kind} for kind in (True, False))
    if not right or not wrong:
        assert made.examples == []
        return
    [pair] = made.examples
    lowest, highest = (int(text.removeprefix("text ")) for text in (pair.completion, pair.rejected))
    assert (right[lowest], wrong[highest]) == (min(right.values()), max(wrong.values()))
    assert sum(made.rejected.values()) == len(rollouts) - 1


def test_of_rollouts_that_are_level_the_first_is_paired(keep: Keep) -> None:
    made = keep(group("a", ("p", False), ("q", True), ("r", True), ("s", False)), "best-worst")
    assert [(e.completion, e.rejected) for e in made.examples] == [("q", "p")]


def test_the_same_text_on_both_sides_is_no_pair(keep: Keep) -> None:
    made = keep(group("a", ("same", True, 0.9), ("same", False, 0.1), ("other", False, 0.5)), "best-worst")
    assert (made.examples, made.rejected) == ([], {"best and worst say the same": 3})


def test_the_better_side_of_a_pair_is_one_to_train_towards(keep: Keep) -> None:
    (example,) = keep(group("a", ("near", False, 0.4), ("far", False, 0.1)), "best-worst").examples
    assert (example.completion, example.good, example.rate) == ("near", True, 0.0)


@pytest.mark.parametrize("selector", ["best-worst", "first-error"])
def test_both_sides_of_a_pair_say_who_wrote_what(selector: str, keep: Keep) -> None:
    right, wrong = (segments_of(text, [(1, 2)], TOOL) for text in ("abc", "abd"))
    rows = [
        judged("a", 1, 0, "abc", True, segments=right),
        judged("a", 1, 1, "abd", False, segments=wrong),
    ]
    (example,) = keep(rows, selector).examples
    assert (example.segments, example.rejected, example.rejected_segments) == (right, "abd", wrong)


def test_examples_say_whether_their_attempts_had_ended(keep: Keep) -> None:
    rows = [judged("a", 1, 0, "abc", True, finished=True), judged("a", 1, 1, "abd", False, finished=False)]
    assert [(e.completion, e.finished) for e in keep(rows, "all").examples] == [("abc", True), ("abd", False)]
    (pair,) = keep(rows, "best-worst").examples
    assert (pair.finished, pair.rejected_finished) == (True, False)


@pytest.mark.parametrize("selector", ["best-worst", "first-error"])
def test_an_empty_completion_is_no_worse_side_of_a_pair(selector: str, keep: Keep) -> None:
    assert keep(group("a", ("right", True), ("", False)), selector).examples == []


def test_the_first_error_pair_is_the_one_that_agrees_for_longest(keep: Keep) -> None:
    right = ["2+3=5\n5*4=20", "3*4=12\n12+8=20"]
    wrong = ["2+3=6\n6*4=24", "2+3=5\n5*4=25", "no idea"]
    rows = [
        *group("a", *((text, True) for text in right), *((text, False) for text in wrong)),
        *group("b", ("x", True), ("y", True)),
        *group("c", ("x", False)),
    ]
    made = keep(rows, "first-error")
    assert [(e.completion, e.rejected) for e in made.examples] == [(right[0], wrong[1])]
    assert made.rejected == {
        "another pair agrees for longer": 3,
        "no correct one to pair with": 1,
        "no wrong one to pair with": 2,
        "the worse of its pair": 1,
    }


def test_a_completion_without_an_end_is_never_the_wrong_side(keep: Keep) -> None:
    """It may have been right so far."""
    rows = [
        judged("a", 1, 0, "1, 2, 3", True),
        judged("a", 1, 1, "1, 2, ", False, "no end token", finished=False),
        judged("a", 1, 2, "1, 3", False),
    ]
    assert [e.rejected for e in keep(rows, "first-error").examples] == ["1, 3"]


def test_a_text_that_is_also_held_correct_is_never_the_wrong_side(keep: Keep) -> None:
    rows = group("a", ("maybe", True), ("maybe", False), ("may not", False))
    assert [(e.completion, e.rejected) for e in keep(rows, "first-error").examples] == [("maybe", "may not")]


@pytest.mark.parametrize(("a", "b", "size"), [("", "x", 0), ("ab", "abc", 2), ("aé", "aè", 2), ("abc", "xbc", 0)])
def test_shared_bytes_are_counted_up_to_the_first_that_differs(a: str, b: str, size: int) -> None:
    assert shared(a.encode(), b.encode()) == shared(b.encode(), a.encode()) == size


@given(st.lists(st.tuples(st.text("ab", max_size=6), st.booleans()), max_size=8))
@settings(max_examples=300, deadline=None)
def test_no_other_pair_of_a_right_and_a_wrong_text_agrees_for_longer(said: list[tuple[str, bool]]) -> None:
    import numpy as np

    texts = [text for text, _ in said]
    right = np.array([ok for _, ok in said], bool)
    wrong = ~right
    held_right = {text for text, ok in said if ok}
    lengths = [
        shared(a.encode(), b.encode())
        for a in held_right
        for b, ok in said
        if not ok and b not in held_right
    ]  # fmt: skip
    found = closest(texts, right, wrong)
    assert (found is not None) == bool(lengths)
    if found is not None:
        better, worse = found
        assert right[better]
        assert wrong[worse]
        assert texts[worse] not in held_right
        assert shared(texts[better].encode(), texts[worse].encode()) == max(lengths)
