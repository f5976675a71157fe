"""Two views of a task: environments that have them, curricula that draw both, and the reward that compares them."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.finetune import ReinforceParams
from selfloop.finetune.online.rewards import Attempts, RewardContext
from selfloop.finetune.online.rewards.cross_view import CrossView
from selfloop.finetune.online.rewards.vote import Vote
from selfloop.propose.curricula import TaskPool
from selfloop.propose.curricula.in_turn import InTurn
from selfloop.records import Rollout, Task
from selfloop.split import draw_training, part_of

CONTEXT = RewardContext("views:addition", ReinforceParams(), 1, 8)
SAID = st.lists(st.sampled_from(["50", "60", "70", ""]), min_size=4, max_size=4)


def rollouts(task: Task, said: list[str]) -> list[Rollout]:
    return [Rollout(task.id, 1, number, task.prompt, text, True, 2) for number, text in enumerate(said)]


def first_most_common(said: list[str]) -> str | None:
    counted = Counter(filter(None, said))
    return max(counted, key=counted.__getitem__) if counted else None


@given(SAID, SAID, st.booleans())
@settings(max_examples=60)
def test_each_view_is_held_against_the_vote_of_the_other(one: list[str], other: list[str], turned: bool) -> None:
    first, second = find_environment("views:addition").tasks(1, 2, 3)
    tasks = [second, first] if turned else [first, second]
    said = {first.id: one, second.id: other}
    attempts = Attempts(0, tasks, [each for task in tasks for each in rollouts(task, said[task.id])], CONTEXT)
    labels = {first.id: first_most_common(other), second.id: first_most_common(one)}
    expected = [float(bool(text) and text == labels[task.id]) for task in tasks for text in said[task.id]]
    assert CrossView()(attempts) == expected
    if one == other:
        assert CrossView()(attempts) == Vote()(attempts)


def test_a_view_that_stands_alone_is_refused() -> None:
    [task] = find_environment("views:addition").tasks(1, 1, 3)
    with pytest.raises(UserError, match=r"wants both views of a task in one draw, and 'addition-1-3-0' stands alone"):
        CrossView()(Attempts(0, [task], rollouts(task, ["5"]), CONTEXT))


@given(st.sampled_from(["views:addition", "views:facts"]), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_views_are_one_problem_with_one_answer(name: str, level: int, seed: int) -> None:
    both, below = find_environment(name), find_environment(name.partition(":")[2])
    drawn = both.tasks(level, 8, seed)
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert below.view(below.view(one)) == one
        assert below.view(one).prompt == other.prompt
        assert one.answer == other.answer
        assert both.check(other, both.demonstration(one)).ok
        assert json.loads(one.metadata)["view"] == json.loads(other.metadata)["view"] == one.id != other.id
        assert part_of(both, one) == part_of(both, other) == part_of(both, one._replace(id="x", cluster=""))
        assert one.cluster == other.cluster == both.content(one)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_both_views_of_a_task_are_drawn_at_once_and_each_as_often(pairs: int, at_once: int, seed: int) -> None:
    tasks = draw_training(find_environment("views:addition"), 3, 2 * pairs + 1, seed)
    pool = TaskPool(tasks[:1] + tasks[2:], [3], lambda purpose: 7)  # the first has lost its other view
    whole = [task for task in pool.tasks if sum(each.cluster == task.cluster for each in pool.tasks) == 2]
    if not whole:
        return
    seen = Counter[str]()
    for draw in range(len(whole) // 2):
        drawn, _ = InTurn(together="view").choose(None, pool, draw, 2 * at_once, lambda tasks: [])
        assert len(drawn) == 2 * at_once
        assert all(one.cluster == other.cluster for one, other in zip(drawn[::2], drawn[1::2], strict=True))
        seen.update(task.id for task in drawn)
    assert set(seen.values()) == {at_once}
    assert set(seen) == {task.id for task in whole}


def test_lots_that_do_not_fill_a_draw_and_environments_without_views_are_refused() -> None:
    tasks = find_environment("views:addition").tasks(2, 4, 0)
    plain = find_environment("addition").tasks(2, 4, 0)
    for some, groups in ((tasks, 3), (plain, 2)):
        with pytest.raises(UserError, match=r"'in-turn,together=view' finds no lots of tasks that fill a draw"):
            InTurn(together="view").choose(None, TaskPool(some, [2], lambda purpose: 0), 0, groups, lambda tasks: [])
    with pytest.raises(UserError, match="Environment 'chain' has no other view of a task"):
        find_environment("views:chain")
    with pytest.raises(UserError, match="'views' is no environment by itself"):
        find_environment("views")
