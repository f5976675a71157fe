"""Expressions in the notation of a stack: what is right, and what only looks like it."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments.notation import Notation, read

NOTATION = Notation()
SEEDS = st.integers(0, 2**63 - 1)


def value(text: str, numbers: dict[int, int]) -> int:
    """What a text comes to on a stack, with other numbers in the places of its own."""
    stack, place = list[int](), 0
    for each in text:
        if each.isdigit():
            stack.append(numbers[place])
            place += 1
        else:
            right, left = stack.pop(), stack.pop()
            stack.append({"+": left + right, "-": left - right, "*": left * right}[each])
    return stack[0]


@given(st.integers(1, 6), SEEDS, st.lists(st.integers(-50, 50), min_size=7, max_size=7))
@settings(max_examples=60)
def test_a_translation_comes_to_what_the_expression_does_whatever_its_numbers(
    level: int, seed: int, others: list[int]
) -> None:
    [task] = NOTATION.tasks(level, 1, seed)
    expression, numbers = task.prompt.removesuffix("="), dict(enumerate(others))
    places = iter(range(level + 1))
    with_names = "".join(f"n[{next(places)}]" if each.isdigit() else each for each in expression)
    assert value(task.answer, numbers) == eval(with_names, {"n": numbers})
    assert NOTATION.check(task, NOTATION.demonstration(task)).ok
    wrong = NOTATION.spoilt(task, 1, seed)
    assert not NOTATION.check(task, wrong).ok
    assert len(wrong) == len(task.answer) < task.max_tokens


@given(SEEDS)
@settings(max_examples=5, deadline=None)
def test_right_is_every_text_that_is_the_same_function_of_the_numbers_and_no_other(seed: int) -> None:
    [task] = NOTATION.tasks(2, 1, seed)
    digits = [each for each in task.answer if each.isdigit()]
    worlds = [dict(enumerate(each)) for each in product((-2, 0, 1, 3), repeat=3)]
    for first, second in product("+-*", repeat=2):
        for text in (f"{{}}{{}}{first}{{}}{second}", f"{{}}{{}}{{}}{first}{second}"):
            said = text.format(*digits)
            same = all(value(said, world) == value(task.answer, world) for world in worlds)
            assert NOTATION.check(task, said).ok is same


def test_what_is_no_translation_is_wrong_and_says_why() -> None:
    task = NOTATION.tasks(2, 1, 1)[0]._replace(prompt="3+4+5=", answer="34+5+")
    reasons = {"345++": "correct", "3+4": "not for a stack", "34+5": "not one expression", "43+5+": "other numbers",
               "34*5+": "another expression", "": "not one expression"}  # fmt: skip
    assert {text: NOTATION.check(task, text).reason for text in reasons} == reasons
    assert read("345-*")[1] == {frozenset({0, 1}): 1, frozenset({0, 2}): -1}
