import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset
from selfloop.artifacts import read_json
from selfloop.environments import find_environment
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.evaluate import solved_levels
from selfloop.propose import BaseParams, Frontier, ProposeParams, draw_base, propose_tasks
from selfloop.propose.frontier import expected, next_levels, spread
from selfloop.propose.items import RESERVED, held_out
from selfloop.records import Example, ItemResult, Task, rows
from selfloop.stages import validated

from ..conftest import sealed_value

frontiers = st.integers(1, 40)
shares = st.floats(0, 1)
accuracies = st.dictionaries(st.integers(1, 50), shares, max_size=20)


@given(frontiers, accuracies, st.integers(1, 12), shares)
def test_the_next_levels_follow_the_frontier_without_a_gap(
    frontier: int, accuracy: dict[int, float], ahead: int, continue_above: float
) -> None:
    levels = next_levels(frontier, accuracy, ahead, continue_above)
    assert levels == list(range(frontier + 1, frontier + 1 + len(levels)))
    assert 1 <= len(levels) <= ahead


@given(frontiers, accuracies, st.integers(1, 12), shares)
def test_a_level_follows_exactly_where_the_one_before_is_accurate_enough(
    frontier: int, accuracy: dict[int, float], ahead: int, continue_above: float
) -> None:
    levels = next_levels(frontier, accuracy, ahead, continue_above)
    assert all(expected(level, accuracy) >= continue_above for level in levels[:-1])
    assert len(levels) == ahead or expected(levels[-1], accuracy) < continue_above


@given(frontiers, accuracies, st.integers(1, 11), shares)
def test_looking_further_ahead_takes_no_level_away(
    frontier: int, accuracy: dict[int, float], ahead: int, continue_above: float
) -> None:
    near, far = (next_levels(frontier, accuracy, number, continue_above) for number in (ahead, ahead + 1))
    assert far[: len(near)] == near


@given(accuracies, st.integers(0, 60))
def test_the_accuracy_to_reckon_with_is_that_of_the_nearest_level_not_above(
    accuracy: dict[int, float], level: int
) -> None:
    known = [accuracy[lower] for lower in range(level, 0, -1) if lower in accuracy]
    assert expected(level, accuracy) == (known[0] if known else 0.0)


@given(frontiers, accuracies, st.floats(0, 1, exclude_min=True))
def test_the_frontier_moves_past_every_level_in_a_row_that_is_mastered(
    frontier: int, accuracy: dict[int, float], at: float
) -> None:
    moved = solved_levels(accuracy, at, frontier)
    assert moved >= frontier
    assert all(accuracy[level] >= at for level in range(frontier + 1, moved + 1))
    assert accuracy.get(moved + 1, 0.0) < at
    assert solved_levels(accuracy, at, moved) == moved


@given(st.integers(1, 200), st.integers(1, 30))
def test_levels_are_spread_evenly_from_the_first_to_the_last(last: int, number: int) -> None:
    levels = spread(last, number)
    assert len(levels) == min(number, last)
    assert levels == sorted(set(levels))
    assert levels[-1] == last
    assert levels[0] == 1 or number == 1
    gaps = [after - before for before, after in pairwise(levels)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_the_base_data_covers_its_levels_and_begins_the_loops_state(tmp_path: Path) -> None:
    tables = {name: Dataset(uri=str(tmp_path / name)) for name in ("examples", "held_out", "replay_pool")}
    progress = Artifact(uri=str(tmp_path / "progress"))
    params = BaseParams(levels=6, per_level=20, held_out_per_level=10, seed=3)
    draw_base.into(draw_base.out(**tables, progress=progress), params)
    examples, held_out, replay_pool = (list(rows(table.path, Example)) for table in tables.values())
    assert Counter(example.level for example in examples) == dict.fromkeys(range(1, 7), 20)
    assert Counter(example.level for example in held_out) == dict.fromkeys(range(1, 7), 10)
    assert replay_pool == []
    assert read_json(progress.path) == {"frontier": 6, "accuracy": {}}
    for example in (*examples, *held_out):
        a, b = example.prompt.removesuffix("=").split("+")
        assert int(example.completion[::-1]) == int(a[::-1]) + int(b[::-1])
        assert example.round == 0
    assert not {e.prompt for e in examples if e.level > 1} & {e.prompt for e in held_out}  # one digit is by heart


def proposed(place: Path, frontier: int, accuracy: dict[int, float], **params: Any) -> tuple[list[Task], list[Task]]:
    """The tasks and the items of one round."""
    place.mkdir()
    state = {"frontier": frontier, "accuracy": {str(level): value for level, value in accuracy.items()}}
    tasks, items = (Dataset(uri=str(place / name)) for name in ("tasks", "eval_items"))
    progress = sealed_value(place / "progress", state)
    propose_tasks.into(propose_tasks.out(tasks=tasks, eval_items=items), ProposeParams(**params), progress=progress)
    return list(rows(tasks.path, Task)), list(rows(items.path, Task))


def test_levels_that_are_hardly_solved_get_more_attempts(tmp_path: Path) -> None:
    accuracy = {5: 0.6, 6: 0.5, 7: 0.2}
    tasks, _ = proposed(tmp_path / "1", 4, accuracy, per_level=3, attempts=2, retries=3, retry_below=0.3)
    attempts = {level: {task.attempts for task in tasks if task.level == level} for level in range(5, 9)}
    assert attempts == {5: {2}, 6: {2}, 7: {5}, 8: set()}
    assert Counter(task.level for task in tasks) == {5: 3, 6: 3, 7: 3}
    assert {task.suite for task in tasks} == {"train"}


@pytest.mark.parametrize(("frontier", "ahead"), [(4, 2), (16, 2), (24, 3)])
def test_the_loop_looks_further_ahead_as_it_goes(tmp_path: Path, frontier: int, ahead: int) -> None:
    accuracy = dict.fromkeys(range(frontier, frontier + 9), 1.0)
    tasks, items = proposed(
        tmp_path / "1", frontier, accuracy, per_level=1, ahead=2, items_per_level=1, look_beyond=1, old_levels=3
    )
    assert [task.level for task in tasks] == list(range(frontier + 1, frontier + ahead + 1))
    of_suite = {suite: [item.level for item in items if item.suite == suite] for suite in ("old", "target")}
    assert of_suite["target"] == list(range(frontier + 1, frontier + ahead + 2))
    assert of_suite["old"] == spread(frontier, 3)


def test_each_round_has_tasks_and_held_out_items_of_its_own(tmp_path: Path) -> None:
    accuracy = dict.fromkeys(range(8, 11), 1.0)
    rounds = [
        proposed(tmp_path / str(round), 8, accuracy, round=round, per_level=30, items_per_level=30)
        for round in range(1, 4)
    ]
    proposals = [{task.prompt for task in tasks} for tasks, _ in rounds]
    items = [{item.prompt for item in items if item.level >= 8} for _, items in rounds]
    assert len(set[str]().union(*proposals, *items)) == sum(map(len, [*proposals, *items]))
    again = proposed(tmp_path / "again", 8, accuracy, round=2, per_level=30, items_per_level=30)
    assert again == rounds[1]


def test_the_items_of_a_level_do_not_depend_on_the_frontier_nor_on_the_runs_seed(tmp_path: Path) -> None:
    asked = [(4, 0), (6, 0), (4, 1)]
    first, *others = (proposed(tmp_path / f"{f}{s}", f, {}, items_per_level=4, seed=s)[1] for f, s in asked)
    for other in others:
        both = {item.level for item in first} & {item.level for item in other}
        assert {5, 6, 7} <= both
        for level in both:
            one, two = (
                [item._replace(suite="") for item in items if item.level == level and item.suite in ("old", "target")]
                for items in (first, other)
            )
            assert one == two


@pytest.mark.parametrize(
    ("per_level", "seeds", "numbers"),
    [(64, [0, 1, 2], [22, 21, 21]), (6, [5, 3], [3, 3]), (2, [0, 1, 2], [1, 1, 0]), (7, [9], [7])],
)
def test_the_items_of_a_level_are_drawn_evenly_under_every_evaluation_seed(
    tmp_path: Path, per_level: int, seeds: list[int], numbers: list[int]
) -> None:
    _, items = proposed(tmp_path / "1", 9, {}, items_per_level=per_level, item_seeds=seeds, old_levels=2)
    of_level = Counter((item.level, item.seed) for item in items if item.suite == "target")
    levels = {level for level, _ in of_level}
    assert of_level == {(level, s): n for level in levels for s, n in zip(seeds, numbers, strict=True) if n}
    assert len({item.prompt for item in items if item.suite == "target"}) == per_level * len(levels)


def test_another_evaluation_seed_draws_other_items(tmp_path: Path) -> None:
    some, others = (
        {item.prompt for item in proposed(tmp_path / str(s), 9, {}, item_seeds=[s])[1] if item.level > 8}
        for s in (0, 1)
    )
    assert not some & others


@pytest.mark.parametrize(("seeds", "message"), [([], "at least 1 item"), ([1, 1], "stands twice.*name each once")])
def test_evaluation_seeds_that_draw_nothing_or_the_same_again_are_refused(seeds: list[int], message: str) -> None:
    with pytest.raises(UserError, match=f"Parameter 'item_seeds' of propose cannot be .*{message}"):
        validated(ProposeParams, {"item_seeds": seeds}, "propose")


def test_a_suite_has_no_prompt_and_no_id_twice(tmp_path: Path) -> None:
    _, items = proposed(tmp_path / "1", 2, {}, items_per_level=300)
    assert len({item.id for item in items}) == len(items)
    assert len({(item.suite, item.prompt) for item in items}) == len(items)
    assert 80 < sum(item.level == 1 and item.suite == "old" for item in items) <= 100  # sums of one digit each


def test_a_second_look_has_items_of_the_targets_levels_that_the_first_has_not_and_each_run_its_own(
    tmp_path: Path,
) -> None:
    (_, items), (_, others), (_, again) = (
        proposed(tmp_path / name, 9, {}, items_per_level=7, confirm=4, seed=seed)
        for name, seed in (("one", 0), ("other", 1), ("again", 0))
    )
    by_suite = {suite: [item for item in items if item.suite == suite] for suite in ("target", "confirm")}
    levels = {item.level for item in by_suite["target"]}
    assert Counter(item.level for item in by_suite["confirm"]) == dict.fromkeys(levels, 28)
    assert {item.seed for item in by_suite["confirm"]} == {0, 1, 2}
    prompts = [item.prompt for suite in by_suite.values() for item in suite]
    assert len(set(prompts)) == len(prompts)
    assert not {item.prompt for item in others if item.suite == "confirm"} & set(prompts)
    assert again == items


@pytest.mark.parametrize("confirm", [0, 4])
def test_a_second_look_takes_what_a_small_environment_has_left(confirm: int) -> None:
    params = ProposeParams(environment="countdown", items_per_level=6, confirm=confirm, seed=3)
    items = list(held_out(find_environment("countdown"), {1: "target"}, params))
    number = Counter(item.suite for item in items)
    assert len({item.prompt for item in items}) == len({item.id for item in items}) == len(items)
    assert number["target"] <= 6
    assert (number["confirm"] > 0) is (confirm > 0)
    assert number["confirm"] <= 24


def test_old_levels_add_the_guard_suites_of_the_environment(tmp_path: Path) -> None:
    _, items = proposed(tmp_path / "1", 20, {}, items_per_level=30, old_levels=4)
    numbers = Counter((item.suite, item.level) for item in items)
    assert {level for suite, level in numbers if suite == "carries"} == set(spread(20, 4))
    assert all(numbers["carries", level] <= 30 == numbers["old", level] for level in spread(20, 4)[1:])
    assert {item.seed for item in items if item.suite == "carries"} == {0, 1, 2}


class Declaring(Addition):
    """Addition with guard suites of any name."""

    declared: ClassVar[tuple[str, ...]] = ()

    def guard_suites(self, level: int, count: int, seed: int) -> dict[str, list[Task]]:
        [tasks] = super().guard_suites(level, count, seed).values()
        return {name: [task._replace(id=f"{name}-{task.id}") for task in tasks] for name in self.declared}


def declaring(*names: str) -> Declaring:
    environment = Declaring()
    environment.declared = names  # type: ignore[misc]
    return environment


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c"), ()])
def test_all_guard_suites_together_have_no_more_items_than_the_old_suite(names: tuple[str, ...]) -> None:
    suites = dict.fromkeys(range(3, 9), "old") | {9: "target"}
    numbers = Counter(item.suite for item in held_out(declaring(*names), suites, ProposeParams()))
    assert numbers.keys() == {"old", "target", *names}
    assert sum(numbers[name] for name in names) <= numbers["old"]
    assert all(numbers[name] >= numbers["old"] / len(names) - 3 * 6 for name in names)


@pytest.mark.parametrize("name", RESERVED)
def test_a_guard_suite_does_not_take_a_name_of_the_loops(name: str) -> None:
    with pytest.raises(UserError, match=f"'addition' calls a guard suite '{name}', as the loop does.*another name"):
        list(held_out(declaring("fine", name), {5: "old"}, ProposeParams()))


@given(st.integers(0, 2**40), st.integers(0, 2**40))
@settings(max_examples=20, deadline=None)
def test_another_seed_proposes_other_tasks(tmp_path_factory: pytest.TempPathFactory, seed: int, other: int) -> None:
    assume(seed != other)
    place = tmp_path_factory.mktemp("seeds")
    some, others = (
        proposed(place / name, 7, {}, seed=value, per_level=3, items_per_level=2)
        for name, value in (("some", seed), ("other", other))
    )
    assert not {task.prompt for task in some[0]} & {task.prompt for task in others[0]}


def answered(suite: str, results: dict[tuple[str, int], list[bool]]) -> list[ItemResult]:
    return [
        ItemResult(policy, suite, level, f"{suite}-{level}-{number}", 0, ok, "")
        for (policy, level), oks in results.items()
        for number, ok in enumerate(oks)
    ]


RESULTS = answered(
    "target",
    {
        ("champion", 3): [True, True],
        ("champion", 4): [True, False],
        ("candidate", 3): [True, True],
        ("candidate", 4): [True, True],
        ("candidate", 5): [False, False],
    },
)
BEGUN: dict[str, Any] = {"frontier": 2, "accuracy": {}}


def test_the_curriculum_knows_levels_by_their_own_suites_alone() -> None:
    results = answered("old", {("champion", 2): [True] * 4}) + answered("carries", {("champion", 2): [False] * 4})
    state, _ = Frontier().advance(BEGUN, results, promoted=False)
    assert state == {"frontier": 2, "accuracy": {"2": 1.0}}


def test_a_promoted_candidate_moves_the_frontier() -> None:
    state, proceed = Frontier(target=9).advance(BEGUN, RESULTS, promoted=True)
    assert proceed
    assert state == {"frontier": 4, "accuracy": {"3": 1.0, "4": 1.0, "5": 0.0}}


def test_a_rejected_candidate_leaves_the_champions_accuracy_to_move_the_frontier() -> None:
    state, proceed = Frontier(target=9).advance(BEGUN, RESULTS, promoted=False)
    assert proceed
    assert state == {"frontier": 3, "accuracy": {"3": 1.0, "4": 0.5}}
    assert Frontier(target=9, advance_at=0.5).advance(BEGUN, RESULTS, promoted=False)[0]["frontier"] == 4


@pytest.mark.parametrize(("target", "proceed"), [(3, False), (4, False), (5, True)])
def test_the_loop_ends_when_the_target_is_reached(target: int, proceed: bool) -> None:
    assert Frontier(target=target).advance(BEGUN, RESULTS, promoted=True)[1] is proceed


@given(
    st.integers(1, 6),
    st.dictionaries(st.tuples(st.sampled_from(["champion", "candidate"]), st.integers(1, 9)), st.lists(st.booleans())),
    st.booleans(),
    st.floats(0, 1, exclude_min=True),
    st.integers(1, 9),
)
def test_the_frontier_never_falls_and_only_the_policy_in_force_moves_it(
    frontier: int, results: dict[tuple[str, int], list[bool]], promoted: bool, at: float, target: int
) -> None:
    schedule = Frontier(advance_at=at, target=target)
    begun: dict[str, Any] = {"frontier": frontier, "accuracy": {}}
    state, proceed = schedule.advance(begun, answered("target", results), promoted)
    in_force = {key: oks for key, oks in results.items() if key[0] == ("candidate" if promoted else "champion")}
    assert schedule.advance(begun, answered("target", in_force), promoted) == (state, proceed)
    assert state["frontier"] >= frontier
    assert proceed == (state["frontier"] < target)
    assert {int(level) for level in state["accuracy"]} == {level for (_, level), oks in in_force.items() if oks}
    assert json.loads(json.dumps(state)) == state
    again, _ = schedule.advance(state, answered("target", results), promoted)
    assert again == state


def test_levels_end_where_the_environment_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Addition, "levels", range(1, 7))
    tasks, items = proposed(tmp_path / "near", 4, {5: 1.0, 6: 1.0}, per_level=1, items_per_level=1)
    assert {task.level for task in tasks} == {5, 6}
    assert {item.level for item in items if item.suite == "target"} == {5, 6}
    with pytest.raises(UserError, match="'addition' has no level beyond 6: lower the loop's target"):
        proposed(tmp_path / "end", 6, {})
