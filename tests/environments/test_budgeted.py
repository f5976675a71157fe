"""Answers under a mark of how hard the policy takes a task to be, and the reward that knows its pass rate."""

from math import cos, pi

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.budgeted import Budgeted as Marked
from selfloop.errors import UserError
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.rewards import Attempts, Reward, RewardContext
from selfloop.finetune.online.rewards.budgeted import Budgeted, Try
from selfloop.records import Rollout
from selfloop.split import part_of

OWN, CHAIN = find_environment("budgeted:chain"), find_environment("chain")
TRIES = st.lists(
    st.builds(Try, st.sampled_from([0.0, 1.0]), st.sampled_from(["<easy>", "<hard>", ""]), st.integers(1, 9)),
    min_size=1,
    max_size=8,
)


@given(st.integers(1, 8), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_right_is_the_same_answer_in_the_head_and_step_by_step(level: int, seed: int) -> None:
    easy, hard = (Marked(f"{mark}:chain") for mark in ("easy", "hard"))
    for task, below in zip(OWN.tasks(level, 4, seed), CHAIN.tasks(level, 4, seed), strict=True):
        whole = CHAIN.demonstration(below)
        assert OWN.demonstration(task) in (f"<easy>{below.answer}", f"<hard>{whole}")
        for said in (f"<easy>{below.answer}", f"<hard>{whole}"):
            assert OWN.check(task, said).ok
            assert OWN.extract_answer(said) == below.answer
        assert OWN.check(task, f"<easy>{whole}").ok == (level == 1)
        assert OWN.check(task, whole).reason == "no mark"
        for asking, text in ((easy, below.answer), (hard, whole)):
            asked = asking.dressed(below, seed)
            assert asking.demonstration(asked) == text
            assert asking.check(asked, text).ok
            assert asking.content(asked) == OWN.content(task) == CHAIN.content(below)
            assert part_of(asking, asked) == part_of(CHAIN, below)
    assert OWN.traits("<easy>90") == {"easy": 1, "written": 2}


@given(TRIES, st.booleans())
def test_a_reward_is_the_papers_sum_of_three(group: list[Try], longer: bool) -> None:
    rate, longest = sum(each.score for each in group) / len(group), max(each.tokens for each in group)
    right = "<easy>" if rate > 0.625 else "<hard>"
    made = Budgeted(longer=longer).of_group(group)
    for each, worth in zip(group, made, strict=True):
        turn = cos(pi * each.tokens / longest)
        length = {"<easy>": (1 + turn) / 2, "<hard>": longer * (1 - turn) / 2}[right] if each.mark == right else 0
        word = {right: 1, "": -1}.get(each.mark, 0)
        assert worth == pytest.approx((1 if each.score else -1) + word / 2 + length / 2)
    by_score = {score: [w for each, w in zip(group, made, strict=True) if each.score == score] for score in (0, 1)}
    assert all(good > bad for good in by_score[1] for bad in by_score[0]), "no mark and no length makes up for an error"


def test_a_draw_is_rewarded_group_by_group_and_attempts_without_marks_are_refused() -> None:
    tasks = OWN.tasks(2, 2, 0)
    said = [text for task in tasks for text in (f"<easy>{task.answer}", OWN.demonstration(task), "<hard>00")]
    rollouts = [
        Rollout(tasks[place // 3].id, 2, place % 3, tasks[place // 3].prompt, text, True, len(text))
        for place, text in enumerate(said)
    ]
    reward = Reward.parse("budgeted,above=0.5")

    def context(name: str) -> RewardContext:
        return RewardContext(name, ReinforceParams(), 1, 8)

    made = list(reward(Attempts(0, tasks, rollouts, context("budgeted:chain"))))
    apart = [
        reward(Attempts(0, [task], rollouts[at : at + 3], context("budgeted:chain")))
        for task, at in zip(tasks, (0, 3), strict=True)
    ]
    assert made == [worth for group in apart for worth in group]
    with pytest.raises(UserError, match="do not have: choose the environment 'budgeted:chain'"):
        reward(Attempts(0, tasks, rollouts, context("chain")))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("budgeted", "write one behind it, as in budgeted:chain"),
        ("budgeted:easy", "write one behind it, as in budgeted:chain"),
        ("budgeted:countdown", "An answer of 'countdown' has no steps to leave out: choose another"),
    ],
)
def test_what_cannot_be_budgeted_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_environment(name)
