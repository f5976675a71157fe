"""Schedules: what each asks to be drawn, when each says that a loop is over, and with which recipes they go."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact
from selfloop.errors import UserError
from selfloop.loop import LoopSettings
from selfloop.propose import DrawParams, Schedule
from selfloop.propose.curve import Curve, PowerLaw, fitted
from selfloop.recipe import Recipe, find_recipe, recipes
from selfloop.records import ItemResult
from selfloop.stages import Params, Stage, executed_by

SCHEDULES = [kind() for kind in Schedule.members().values()]
EACH = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


class Asked:
    """An executor that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Params, dict[str, Any]]] = []

    def call(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        self.calls.append((stage.name, params, inputs))
        return stage.made({name: f"{stage.name}.{name}" for name in stage.outputs})

    def map(self, stage: Stage, params: Params, inputs: dict[str, Any]) -> Any:
        raise AssertionError(stage.name)


def test_these_schedules_come_with_selfloop() -> None:
    assert [str(schedule) for schedule in SCHEDULES] == [
        "curve",
        "fixed",
        "frontier",
        "none",
        "successive",
    ]
    assert str(LoopSettings().schedule) == "fixed"


@pytest.mark.parametrize(
    ("name", "stage", "part", "inputs"),
    [
        ("fixed", "draw_tasks", "draw", []),
        ("curve", "draw_tasks", "draw", []),
        ("frontier", "propose_tasks", "propose", ["progress"]),
        ("successive", "draw_tasks", "draw", []),
    ],
)
def test_a_schedule_draws_with_the_settings_that_it_takes(name: str, stage: str, part: str, inputs: list[str]) -> None:
    settings = find_recipe("length-generalization").resolve({"schedule": name, "seed": 3}).for_round(4)
    progress, asked = Artifact(name="progress"), Asked()
    with executed_by(asked):
        drawn = settings.schedule.draw(settings, progress)
    params = getattr(settings, part)
    assert asked.calls == [(stage, params, dict.fromkeys(inputs, progress))]
    assert (params.seed, params.round) == (3, 4)
    assert drawn == (f"{stage}.tasks", f"{stage}.eval_items")
    assert settings.schedule.takes == (part,)


@pytest.mark.parametrize(
    ("round", "levels", "old"),
    [(1, [5], [1]), (2, [5], [1]), (3, [3], [1, 5]), (5, [4], [1, 5, 3]), (9, [4], [1, 5, 3])],
)
def test_successive_levels_are_drawn_one_after_another_and_those_before_are_old(
    round: int, levels: list[int], old: list[int]
) -> None:
    given = {"schedule": "successive,each=2", "draw": {"levels": [5, 3, 4], "old_levels": [1]}}
    settings, asked = find_recipe("continual").resolve(given).for_round(round), Asked()
    with executed_by(asked):
        settings.schedule.draw(settings, Artifact(name="progress"))
    [(_, params, _)] = asked.calls
    assert isinstance(params, DrawParams)
    assert (params.levels, params.old_levels, params.round) == (levels, old, round)


def test_no_schedule_asks_for_nothing() -> None:
    asked = Asked()
    with executed_by(asked):
        assert [*Schedule.parse("none").draw(LoopSettings(), Artifact())] == [None, None]
    assert asked.calls == []


@EACH
def test_a_schedule_continues_from_the_state_that_every_loop_begins_with(schedule: Schedule) -> None:
    state: dict[str, Any] = {"frontier": 4, "accuracy": {}}
    for promoted in (False, True):
        state, proceed = schedule.advance(state, [], promoted)
        assert proceed


@EACH
@given(
    frontier=st.integers(1, 9),
    waited=st.integers(0, 1100),
    answers=st.lists(st.tuples(st.integers(1, 6), st.booleans())),
    promoted=st.booleans(),
)
def test_what_a_schedule_keeps_depends_on_what_was_answered_and_not_on_the_order(
    schedule: Schedule, frontier: int, waited: int, answers: list[tuple[int, bool]], promoted: bool
) -> None:
    state = {"frontier": frontier, "accuracy": {}, "waited": waited}
    results = [
        ItemResult(policy, "target", level, f"{number}", 0, ok, "")
        for number, (level, ok) in enumerate(answers)
        for policy in ("champion", "candidate")
    ]
    before = dict(state)
    assert schedule.advance(state, results, promoted) == schedule.advance(state, results[::-1], promoted)
    assert state == before


@pytest.mark.parametrize("name", ["curve", "fixed", "none"])
@given(promotions=st.lists(st.booleans(), max_size=20), patience=st.integers(1, 6))
def test_a_loop_ends_after_so_many_rounds_in_a_row_without_a_promotion(
    name: str, promotions: list[bool], patience: int
) -> None:
    schedule = Schedule.parse(f"{name},patience={patience}")
    state: dict[str, Any] = {}
    for round, promoted in enumerate(promotions, 1):
        state, proceed = schedule.advance(state, [], promoted)
        newest = promotions[max(round - patience, 0) : round]
        assert proceed == (len(newest) < patience or any(newest))
        if not proceed:
            break


@given(level=st.floats(0.3, 1), height=st.floats(0.05, 0.3), speed=st.floats(0.1, 4), rounds=st.integers(5, 12))
def test_a_power_law_is_found_again_from_its_own_points(level: float, height: float, speed: float, rounds: int) -> None:
    law = PowerLaw(level, height, speed)
    found = fitted([law(round) for round in range(1, rounds + 1)])
    assert [found(round) for round in range(1, rounds + 6)] == pytest.approx(
        [law(round) for round in range(1, rounds + 6)], abs=1e-3
    )


@given(st.lists(st.floats(0, 1), min_size=4, max_size=12))
def test_a_learning_curve_never_promises_a_loss(accuracies: list[float]) -> None:
    found = fitted(accuracies)
    assert found(len(accuracies) + 5) >= found(len(accuracies)) - 1e-9


@pytest.mark.parametrize(("speed", "ends"), [(0.5, 10), (2.0, 4)])
def test_a_loop_ends_when_its_curve_promises_too_little(speed: float, ends: int) -> None:
    schedule, law, state = Curve(worth=0.03, ahead=5), PowerLaw(0.9, 0.5, speed), dict[str, Any]()
    for round in range(1, 30):
        right = int(law(round) * 1000 + 0.5)
        results = [ItemResult("candidate", "target", 1, f"{n}", 0, n < right, "") for n in range(1000)]
        state, proceed = schedule.advance(state, results, True)
        if not proceed:
            break
    assert round == ends
    assert state["curve"] == pytest.approx([law(n) for n in range(1, round + 1)], abs=1e-3)


def test_too_few_points_for_a_curve_are_refused() -> None:
    with pytest.raises(UserError, match="points"):
        Schedule.parse("curve,points=3")


@pytest.mark.parametrize("known", recipes().values(), ids=lambda known: known.name)
@EACH
def test_a_schedule_whose_settings_a_recipe_has_not_is_refused(known: Recipe[Any], schedule: Schedule) -> None:
    if set(schedule.takes) <= known.settings.stages().keys():
        assert known.resolve({"schedule": str(schedule)}).schedule == schedule
        return
    with pytest.raises(UserError) as refused:
        known.resolve({"schedule": str(schedule)})
    assert str(refused.value) == (
        f"{known.name}: the schedule '{schedule}' needs the settings '{schedule.takes[0]}': choose another."
    )
