from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.chain import LEVELS, MODULUS, Chain, values
from selfloop.errors import UserError
from selfloop.policy import restart_ids, restarted, scratch_tokenizer

CHAIN = Chain()
SEEDS = st.integers(0, 2**63 - 1)
SOME = st.sampled_from(LEVELS)


@given(SOME, SEEDS)
@settings(max_examples=30)
def test_python_agrees_with_every_step_and_the_text_fits(level: int, seed: int) -> None:
    for task in CHAIN.tasks(level, 3, seed):
        text, written = task.prompt.removesuffix("="), CHAIN.demonstration(task)
        value = int(text[:2])
        for step in range(level):
            value = eval(f"{value}{text[2 + 2 * step :][:2]}") % MODULUS
            assert int(written[2 * step :][:2]) == value == values(text)[step]
        assert written[-2:] == task.answer == CHAIN.extract_answer(written)
        assert CHAIN.check(task, written) == (True, 1.0, "correct")
        assert (task.level, len(written) + 1) == (level, task.max_tokens)
        assert set(task.prompt + written) <= set(Chain.alphabet)


@given(st.integers(2, 20), SEEDS, st.data())
@settings(max_examples=30)
def test_the_first_wrong_step_is_named(level: int, seed: int, data: st.DataObject) -> None:
    [task] = CHAIN.tasks(level, 1, seed)
    right = CHAIN.demonstration(task)
    step = data.draw(st.integers(1, level))
    wrong = f"{right[: 2 * step - 2]}{(int(right[2 * step - 2 : 2 * step]) + 1) % MODULUS:02}"
    begun = f"{wrong[-2:]}{task.prompt[2 + 2 * step : -1]}"  # what is carried on
    ended = wrong + "".join(f"{value:02}" for value in values(begun))
    assert CHAIN.check(task, ended) == (False, 0.0, f"wrong from step {step} on"), (
        "97 is prime: values never meet again"
    )
    assert CHAIN.check(task, right[:-2]).reason == CHAIN.check(task, "").reason == "not a value for each step"


@given(SOME, SEEDS)
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_tasks_and_no_prompt_comes_twice(level: int, seed: int) -> None:
    drawn = CHAIN.tasks(level, 20, seed)
    assert drawn == CHAIN.tasks(level, 20, seed)
    assert len({task.prompt for task in drawn}) == len(drawn) == 20


@given(SOME, SEEDS)
@settings(max_examples=20)
def test_a_proposal_is_read_as_the_task_that_it_is(level: int, seed: int) -> None:
    [text] = CHAIN.proposals(level, 1, seed)
    task = CHAIN.parse_proposal(text, "x")
    assert (task.id, task.level, task.prompt) == ("x", level, f"{text}=")
    assert CHAIN.check(task, CHAIN.demonstration(task)).ok


@pytest.mark.parametrize("text", ["", "57", "5+3", "97+1", "57+0", "57+3=", "57/3", "57+3*", "-7+3"])
def test_what_is_no_chain_is_no_proposal(text: str) -> None:
    with pytest.raises(ValueError, match="not a chain"):
        CHAIN.parse_proposal(text, "x")


def test_a_chain_of_too_many_steps_and_a_level_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="too many steps"):
        CHAIN.parse_proposal("57" + "+1" * 41, "x")
    with pytest.raises(UserError, match="chain has levels 1 to 40, not 41"):
        CHAIN.tasks(41, 1, 0)


def test_each_value_stands_one_place_before_its_operation() -> None:
    import torch

    [task] = CHAIN.tasks(9, 1, 0)
    tokenizer = scratch_tokenizer(Chain.alphabet, Chain.special_tokens)
    tokens = torch.tensor([tokenizer(task.prompt + CHAIN.demonstration(task))["input_ids"]])
    ids = restart_ids(Chain.restarts, tokenizer)
    places = restarted(tokens, torch.ones_like(tokens), ids["at"], ids["after"])[0].tolist()
    operations, written = places[2:20], places[21:]
    assert [operation - value for operation, value in zip(operations, written, strict=True)] == [1] * 18
    assert all(later - earlier == 1 for earlier, later in pairwise(operations))


def test_a_level_has_no_more_problems_than_there_are() -> None:
    there = MODULUS * 3 * 9
    assert 0.99 * there < len(CHAIN.tasks(1, 10_000, 0)) <= there
    assert find_environment("chain").offers == {"levels", "alphabet", "proposals", *Chain.roles}
