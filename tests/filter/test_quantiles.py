"""Attempts behind the mark that fits them, and the environments whose tasks have one."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.marked import MARKS
from selfloop.errors import UserError
from selfloop.filter.selectors.quantiles import places
from selfloop.split import draw_items, draw_training, part_of

from .conftest import Keep, group


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_a_mark_is_the_fifth_that_a_score_lies_in_and_equal_scores_have_one(given_scores: Sequence[int]) -> None:
    found = places(np.sort(given_scores), np.array(given_scores))
    for score, place in zip(given_scores, found.tolist(), strict=True):
        no_better = sum(other <= score for other in given_scores) / len(given_scores)
        assert place / 5 < no_better <= (place + 1) / 5 + 1e-12
    assert max(found) == 4


@given(st.integers(1, 12), st.randoms())
def test_of_different_scores_each_fifth_has_as_many(fifth: int, random: Random) -> None:
    scores = random.sample(range(1000), 5 * fifth)
    assert np.bincount(places(np.sort(scores), np.array(scores))).tolist() == [fifth] * 5


def test_everything_is_kept_to_learn_from_behind_its_mark(keep: Keep) -> None:
    first = group("a", ("x", False, 0.0), ("y", False, 0.0), ("z", True, 1.0), prompt="<q5>a?")
    second = group("b", ("x", False, 0.5), ("y", False, 0.0), prompt="<q1>b?")
    made = keep([*first, *second], "quantiles")
    marks = [example.prompt for example in made.examples]
    assert marks == ["<q3>a?", "<q3>a?", "<q5>a?", "<q4>b?", "<q3>b?"]
    assert all(example.good for example in made.examples)
    assert made.rejected == {}


def test_prompts_without_a_mark_are_refused(keep: Keep) -> None:
    with pytest.raises(UserError, match=r"changes marks.*has none: choose an environment such as marked:lookup"):
        keep(group("a", ("x", True)), "quantiles")


@given(st.sampled_from(["marked:lookup", "marked:1:lookup", "marked:3:chain"]), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_mark_changes_what_is_asked_and_nothing_of_the_problem(name: str, level: int, seed: int) -> None:
    marked, below = find_environment(name), find_environment(name.rpartition(":")[2])
    for task, plain in zip(marked.tasks(level, 5, seed), below.tasks(level, 5, seed), strict=True):
        mark = task.prompt[: -len(plain.prompt)]
        assert mark == MARKS[int(name[7]) - 1 if name[7].isdigit() else 4]
        assert task._replace(prompt=plain.prompt) == plain
        right = marked.demonstration(task)
        assert right == below.demonstration(plain)
        assert marked.check(task, right).ok
        assert marked.check(task, f"{right}9") == below.check(plain, f"{right}9")
        other = task._replace(prompt=MARKS[0] + plain.prompt)
        assert part_of(marked, other) == part_of(marked, task) == part_of(below, plain)
    held_out = {item.prompt for item in draw_items(marked, "gate", level, 5, seed)}
    assert not held_out & {task.prompt for task in draw_training(marked, level, 20, seed)}


def test_a_mark_before_nothing_is_refused() -> None:
    for name in ("marked", "marked:1:"):
        with pytest.raises(UserError, match="write one behind it, as in marked:lookup"):
            find_environment(name)
