from difflib import SequenceMatcher
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.clicks import Action, Clicks, parsed, rouge, worth
from selfloop.errors import UserError

CLICKS = Clicks()
SEEDS = st.integers(0, 2**63 - 1)
WORDS = st.text("abcd", max_size=6)


def longest_common(one: str, other: str) -> int:
    """By trying every subsequence."""
    return max(
        size
        for size in range(len(one) + 1)
        for chosen in combinations(one, size)
        if all(letter in rest for rest in [iter(other)] for letter in chosen)
    )


@given(WORDS, WORDS)
@settings(max_examples=60)
def test_likeness_is_that_of_the_longest_common_subsequence(one: str, other: str) -> None:
    expected = 2 * longest_common(one, other) / (len(one) + len(other)) if one or other else 0.0
    assert rouge(one, other) == rouge(other, one) == pytest.approx(expected)
    assert rouge(one, other) >= SequenceMatcher(None, one, other).find_longest_match().size * 2 / max(
        len(one) + len(other), 1
    )


@given(st.integers(1, 3), SEEDS)
@settings(max_examples=30)
def test_the_shopper_follows_his_rule(level: int, seed: int) -> None:
    for task in CLICKS.tasks(level, 6, seed):
        page, _, field = task.prompt.removesuffix("=").partition("+")
        wanted, *buttons = page.split("|")
        expected = f"c{wanted}" if wanted in buttons else f"t{field}:{wanted}" if field else "x"
        assert task.answer == expected == {1: "x", 2: "c", 3: "t"}[level] + task.answer[1:]
        assert CLICKS.check(task, task.answer).ok
        assert len(task.answer) < task.max_tokens
        assert set(task.prompt + task.answer) <= set(Clicks.alphabet)


def test_the_reward_is_the_table_of_the_paper() -> None:
    click, typed = Action("c", "", "abcde"), Action("t", "query", "abcde")
    for scale in (1.0, 1000.0):
        assert worth(Action("x"), Action("x"), scale) == pytest.approx(0.8)
        assert worth(click, click, scale) == pytest.approx(1.0 + scale)
        assert worth(typed, typed, scale) == pytest.approx(1.1 + scale)
        assert worth(click._replace(text="abcdx"), click, scale) == pytest.approx(1.0 + 0.8 * scale)
        assert worth(click._replace(text="abcxx"), click, scale) == pytest.approx(1.0), "not alike enough"
        assert worth(typed._replace(field="other"), typed, scale) == pytest.approx(1.0 + scale)
        assert worth(Action("x"), click, scale) == worth(typed, Action("x"), scale) == 0.5
        assert worth(None, click, scale) == 0


@given(st.integers(2, 3), SEEDS, st.integers(0, 4))
@settings(max_examples=30)
def test_leaving_is_never_worth_more_than_a_text_that_is_nearly_right(level: int, seed: int, place: int) -> None:
    [leaves], [asked] = CLICKS.tasks(1, 1, seed), CLICKS.tasks(level, 1, seed)
    place -= 5
    nearly = asked.answer[:place] + "a" + (asked.answer[place + 1 :] if place < -1 else "")
    best = CLICKS.check(asked, asked.answer).score
    assert CLICKS.check(leaves, "x").score < 0.001 < 0.7 < CLICKS.check(asked, nearly).score <= best <= 1
    flat, binary = find_environment("clicks:1"), find_environment("clicks:binary")
    assert flat.check(leaves, "x").score > 0.3
    assert [binary.check(asked, text).score for text in (asked.answer, f"{asked.answer}a", "x")] == [1, 0, 0]


def test_what_is_no_action_and_what_is_no_scale() -> None:
    assert [parsed(text) for text in ("", "xx", "c", "tabc", "ta:", "q")] == [None] * 6
    with pytest.raises(UserError, match="'clicks:often' is no scale: write clicks, clicks:binary, or a number"):
        find_environment("clicks:often")
    with pytest.raises(UserError, match="clicks has levels 1 to 3, not 4"):
        CLICKS.tasks(4, 1, 0)
