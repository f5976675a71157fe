"""The split: every problem is in one part, whoever draws it, when, and under which seed."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import Environment, find_environment
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.evaluate import MeasureParams, check_vault
from selfloop.records import Task
from selfloop.split import CONFIRM, GATE, HELD_OUT, PROBLEMS, TRAIN, VAULT, draw_items, draw_suite, draw_training
from selfloop.split import part_of as part

SEEDS = st.integers(0, 2**63 - 1)
PARTS = (GATE, CONFIRM, VAULT)


@pytest.mark.parametrize("name", ["addition", "arithmetic", "countdown", "reverse", "kuhn-poker", "sorting-network"])
@given(seeds=st.tuples(SEEDS, SEEDS, SEEDS, SEEDS))
@settings(max_examples=3, deadline=None)
def test_no_problem_is_in_two_parts_whatever_the_seeds(name: str, seeds: tuple[int, ...]) -> None:
    environment = find_environment(name)
    drawn: list[list[Task]] = [
        draw_items(environment, each, 3, 20, seed) for each, seed in zip(PARTS, seeds, strict=False)
    ]
    if not environment.apart:
        drawn.append(draw_training(environment, 3, 60, seeds[-1]))
    contents = [{environment.content(task) for task in tasks} for tasks in drawn]
    assert all(contents)
    assert len(set().union(*contents)) == sum(map(len, contents))


@given(SEEDS, st.integers(1, 4), st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_items_are_as_many_as_asked_for_each_once_the_same_for_the_same_seed_and_none_that_is_known(
    seed: int, level: int, count: int
) -> None:
    environment = Addition()
    items = draw_items(environment, CONFIRM, level, count, seed)
    assert items == draw_items(environment, CONFIRM, level, count, seed)
    assert len({item.id for item in items}) == len({item.prompt for item in items}) == len(items)
    assert len(items) == count
    known = {item.id for item in items}
    assert not known & {item.id for item in draw_items(environment, CONFIRM, level, count, seed, known)}


def test_an_id_says_the_part_the_level_and_the_problem() -> None:
    environment = find_environment("countdown")
    one, two = (draw_items(environment, VAULT, 1, 50, seed) for seed in (1, 2))
    assert {item.id.rpartition("-")[0] for item in one} == {"vault-1"}
    assert {item.id for item in one} == {item.id for item in two}  # all that there are
    suite = draw_suite(environment, "numbers", 2, 9, 1)  # no task is one of these
    assert {item.id.rpartition("-")[0] for item in suite} == {"numbers-2"}
    suite = draw_suite(Addition(), "carries", 2, 9, 1)  # a task may be
    assert {part(Addition(), item) for item in suite} == {GATE}


def test_what_is_learnt_by_heart_is_in_every_part() -> None:
    parts = [draw_items(Addition(), each, 1, 200, 1) for each in PARTS]
    assert [len(items) for items in parts] == [100] * 3
    assert len(draw_training(Addition(), 1, 500, 1)) == 500


def test_the_parts_have_the_shares_that_are_promised() -> None:
    environment = Addition()
    tasks = environment.tasks(6, 12_000, 1)
    shares = {each: sum(part(environment, task) == each for task in tasks) / len(tasks) for each in (TRAIN, *PARTS)}
    promised = {each: HELD_OUT.count(each) / PROBLEMS for each in PARTS}
    assert shares == pytest.approx(promised | {TRAIN: 1 - sum(promised.values())}, abs=0.015)


class Paraphrased(Addition):
    """Sums of which some say the same in other words."""

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        return [task._replace(cluster=task.answer[:2]) for task in super().tasks(level, count, seed)]


def test_all_problems_of_a_cluster_are_in_one_part() -> None:
    environment = Paraphrased()
    parts: dict[str, set[Any]] = {}
    for task in environment.tasks(3, 2000, 1):
        parts.setdefault(task.cluster, set()).add(part(environment, task))
    assert max(map(len, parts.values())) == 1
    assert len(set.union(*parts.values())) == 4


class Small(Environment):
    """A dozen problems, each in many draws."""

    name, summary = "small", "a few problems"

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        return [Task(f"{seed}-{n}", level, "", f"{level}: {n % 24}", "") for n in range(count)]

    def check(self, task: Task, completion: str) -> Any:
        raise NotImplementedError


def test_a_small_environment_gives_what_it_has_after_few_draws() -> None:
    environment = Small()
    found = {each: draw_items(environment, each, 1, 64, 1) for each in PARTS}
    held_out = [item.prompt for items in found.values() for item in items]
    assert len(set(held_out)) == len(held_out) <= 12
    assert not set(held_out) & {task.prompt for task in draw_training(environment, 1, 64, 1)}


def test_a_vault_that_is_too_small_to_measure_with_is_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(
        UserError, match=r"'countdown', one of 12 problems of all, has \d+ of the levels 1, too few"
    ) as no:
        check_vault(MeasureParams(environment="countdown", levels=[1]), [], 59)
    assert "59 would do, which some 5" in str(no.value)  # 12 for each that lacks
    check_vault(MeasureParams(environment="countdown", levels=[1], per_level=5), [], 59)
    check_vault(MeasureParams(environment="addition"), [5, 6], 59)
