import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.split import part_of

FEASIBLE, CHAIN = find_environment("feasible:4:chain"), find_environment("chain")


@given(st.integers(1, 12), st.integers(0, 2**63 - 1))
@settings(max_examples=30)
def test_what_is_asked_is_whether_a_task_can_be_done_and_not_to_do_it(level: int, seed: int) -> None:
    for asked, task in zip(FEASIBLE.tasks(level, 4, seed), CHAIN.tasks(level, 4, seed), strict=True):
        assert asked.prompt == f"{task.prompt}<can>"
        assert asked.answer == FEASIBLE.demonstration(asked) == ("1" if level <= 4 else "0")
        assert FEASIBLE.check(asked, asked.answer).ok
        assert not FEASIBLE.check(asked, task.answer).ok
        assert part_of(FEASIBLE, asked) == part_of(CHAIN, task)
        assert FEASIBLE.content(asked) == CHAIN.content(task)


def test_a_mixture_holds_what_is_asked_and_what_is_done() -> None:
    both = find_environment("mixture:chain@1-6+feasible:2:chain@1-6")
    [done], [asked] = both.tasks(3, 1, 0), both.tasks(9, 1, 0)
    assert (asked.prompt, asked.answer) == (f"{done.prompt}<can>", "0")
    assert both.check(done, both.demonstration(done)).ok
    assert both.check(asked, both.extract_answer("0")).ok
    assert "<can>" in both.special_tokens


def test_a_boundary_that_parts_nothing_is_refused() -> None:
    for name in ("feasible", "feasible:chain", "feasible:x:chain"):
        with pytest.raises(UserError, match="write the hardest level that is feasible"):
            find_environment(name)
    for name in ("feasible:0:chain", "feasible:40:chain"):
        with pytest.raises(UserError, match="parts no levels of 'chain': name one that it has"):
            find_environment(name)
