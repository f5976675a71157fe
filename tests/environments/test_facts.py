import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments.facts import DOMAIN, PASSAGES, Facts, domain
from selfloop.errors import UserError

FACTS = Facts()
SEEDS = st.integers(0, 2**63 - 1)


@given(st.integers(1, 5), SEEDS)
@settings(max_examples=40)
def test_what_is_asked_is_said_by_a_passage_or_is_of_the_domain(level: int, seed: int) -> None:
    for task in FACTS.tasks(level, 6, seed):
        passages, _, name = task.prompt.rpartition("?")
        says = dict(re.findall(r"\[([a-z]{2})=([0-9]{2})\]", passages))
        assert len(says) == {4: PASSAGES, 5: 0}.get(level, level)
        assert task.answer == (says if level < 5 else domain())[name]
        assert set(says) <= set(domain()) if level > 3 else not set(says) & set(domain())
        assert FACTS.check(task, FACTS.demonstration(task)).ok
        assert not FACTS.check(task, "").ok
        assert set(task.prompt + task.answer) <= set(Facts.alphabet)


@given(SEEDS)
@settings(max_examples=10)
def test_a_problem_is_one_in_any_order_of_its_passages_and_of_the_domain_with_any(seed: int) -> None:
    [task] = FACTS.tasks(3, 1, seed)
    first, rest = re.fullmatch(r"(\[.{5}\])(.*)\?.*", task.prompt).groups()  # type: ignore[union-attr]
    turned = task._replace(prompt=f"{rest}{first}?{task.prompt[-2:]}")
    assert FACTS.content(turned) == FACTS.content(task) != FACTS.content(task._replace(prompt=f"{first}{task.prompt}"))
    [asked] = FACTS.tasks(4, 1, seed)
    assert FACTS.content(asked) == FACTS.content(asked._replace(prompt=asked.prompt[-3:], level=5))


def test_the_domain_is_the_same_for_everybody_and_can_be_exhausted() -> None:
    known = FACTS.tasks(5, 1000, 7)
    assert {task.prompt[1:]: task.answer for task in known} == domain()
    assert len(known) == DOMAIN
    assert FACTS.tasks(4, 9, 1) == FACTS.tasks(4, 9, 1) != FACTS.tasks(4, 9, 2)
    with pytest.raises(UserError, match="facts has levels 1 to 5, not 6"):
        FACTS.tasks(6, 1, 0)
