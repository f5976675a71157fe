from pathlib import Path

import pytest
from kfp.dsl import Dataset
from selfloop.errors import UserError
from selfloop.propose import DrawParams, Fixed, draw_tasks
from selfloop.records import ItemResult, Task, rows
from selfloop.stages import validated


def drawn(place: Path, **params: object) -> tuple[list[Task], list[Task]]:
    tasks, items = (Dataset(uri=str(place / name)) for name in ("tasks", "eval_items"))
    draw_tasks.into(
        draw_tasks.out(tasks=tasks, eval_items=items),
        DrawParams.model_validate({"per_level": 20, "items_per_level": 9} | params),
    )
    return list(rows(tasks.path, Task)), list(rows(items.path, Task))


def test_each_level_has_its_tasks_with_all_their_attempts(tmp_path: Path) -> None:
    tasks, _ = drawn(tmp_path, levels=[2, 4], attempts=3)
    assert [task.level for task in tasks] == [2] * 20 + [4] * 20
    assert {(task.suite, task.attempts) for task in tasks} == {("train", 3)}


def test_rounds_have_tasks_of_their_own_or_all_the_same(tmp_path: Path) -> None:
    fresh = [drawn(tmp_path / f"fresh-{n}", levels=[4], round=n)[0] for n in (1, 2)]
    same = [drawn(tmp_path / f"same-{n}", levels=[4], draw="same", round=n)[0] for n in (1, 2)]
    assert fresh[0] != fresh[1]
    assert same[0] == same[1]


def test_the_held_out_items_are_fresh_each_round_and_have_the_guard_suites_of_the_environment(tmp_path: Path) -> None:
    first, second = (drawn(tmp_path / str(n), levels=[4], old_levels=[3], draw="same", round=n)[1] for n in (1, 2))
    assert {(item.suite, item.level) for item in first} == {("target", 4), ("carries", 4), ("old", 3)}
    assert sum(item.suite == "target" for item in first) == 9
    assert not {item.prompt for item in first if item.suite == "target"} & {item.prompt for item in second}


def test_a_level_in_two_suites_is_refused() -> None:
    with pytest.raises(UserError, match="level 3 is among the levels and the old levels"):
        validated(DrawParams, {"levels": [2, 3], "old_levels": [3]}, "draw_tasks")


ANSWERS = [
    ItemResult(policy, suite, 2, f"{suite}-{n}", 0, n < right, "", 0)
    for policy, suite, right in (
        ("champion", "target", 2),
        ("candidate", "target", 3),
        ("champion", "old", 0),
        ("candidate", "old", 0),
    )
    for n in range(4)
]


@pytest.mark.parametrize(
    ("waited", "is_promoted", "schedule", "proceed", "state"),
    [
        (0, True, Fixed(), True, {"accuracy": {"2": 0.75}, "waited": 0}),
        (2, True, Fixed(), True, {"accuracy": {"2": 0.75}, "waited": 0}),
        (0, False, Fixed(), True, {"accuracy": {"2": 0.5}, "waited": 1}),
        (1, False, Fixed(), True, {"accuracy": {"2": 0.5}, "waited": 2}),
        (2, False, Fixed(), False, {"accuracy": {"2": 0.5}, "waited": 3}),
        (2, False, Fixed(patience=4), True, {"accuracy": {"2": 0.5}, "waited": 3}),
        (0, True, Fixed(enough=0.7), False, {"accuracy": {"2": 0.75}, "waited": 0}),
        (0, True, Fixed(enough=0.75), False, {"accuracy": {"2": 0.75}, "waited": 0}),
        (0, False, Fixed(enough=0.7), True, {"accuracy": {"2": 0.5}, "waited": 1}),
    ],
)
def test_the_loop_ends_when_the_champion_is_good_enough_or_was_not_replaced_for_long(
    waited: int, is_promoted: bool, schedule: Fixed, proceed: bool, state: dict[str, object]
) -> None:
    assert schedule.advance({"accuracy": {}, "waited": waited}, ANSWERS, is_promoted) == (state, proceed)


def test_the_first_round_has_waited_for_none() -> None:
    """The state that a loop begins with is that of any schedule."""
    begun = {"frontier": 3, "accuracy": {}}
    assert Fixed().advance(begun, ANSWERS, promoted=False) == ({"accuracy": {"2": 0.5}, "waited": 1}, True)


def test_a_loop_that_answers_no_items_ends_by_patience_alone() -> None:
    assert Fixed(enough=0.01).advance({"waited": 1}, [], promoted=True) == ({"accuracy": {}, "waited": 0}, True)
    assert Fixed(enough=0.01).advance({"waited": 2}, [], promoted=False) == ({"accuracy": {}, "waited": 3}, False)
