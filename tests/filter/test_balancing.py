"""The temperature of a round, and how the next is chosen by what came of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset
from pydantic import ValidationError
from selfloop.artifacts import read_json
from selfloop.errors import UserError
from selfloop.filter import BalanceParams, TemperParams, balance_sampling, temper_tasks
from selfloop.filter.balancing import BalancedSampling, TemperedTasks, best_hold
from selfloop.filter.filter import grouped
from selfloop.filter.selectors.balance import BalanceScores
from selfloop.records import Rollout, Task, Verdict, rows

from ..conftest import sealed_table, sealed_value
from .conftest import Judged, group, joined


def task(id: str, level: int = 1, temperature: float | None = None) -> Task:
    return Task(id, level, "train", f"{id}?", "", temperature=temperature)


def chosen(place: Path, judged: list[Judged], of: dict[str, float | None], **params: Any) -> dict[str, Any]:
    """What is chosen after these attempts at tasks of these temperatures."""
    given = (
        sealed_table(place / "tasks", Task, [task(id, temperature=each) for id, each in of.items()]),
        sealed_table(place / "rollouts", Rollout, [each.rollout for each in judged]),
        sealed_table(place / "verdicts", Verdict, [each.verdict for each in judged]),
    )
    out = BalancedSampling(Artifact(uri=str(place / "next")))
    found: dict[str, Any] = read_json(balance_sampling.into(out, BalanceParams(**params), *given).next_sampling.path)
    return found


COLD = [each for n in "ab" for each in group(n, ("x", True), ("x", True), ("x", True))]
WARM = [each for n in "cd" for each in group(n, ("x", True), ("y", True), ("z", True))]
HOT = [each for n in "ef" for each in group(n, ("x", True), ("q", False), ("r", False))]
OF: dict[str, float | None] = {"a": 0.5, "b": 0.5, "c": 1.0, "d": 1.0, "e": 1.5, "f": 1.5}


def test_the_temperature_of_most_right_ones_that_differ_is_chosen(tmp_path: Path) -> None:
    found = chosen(tmp_path, COLD + WARM + HOT, OF, enough=3)
    assert found["temperature"] == 1.0
    assert found["balance"] == {"0.5": pytest.approx(1 / 3), "1": 1.0, "1.5": pytest.approx(1 / 3)}
    assert found["threshold"] == {"0.5": 1.0, "1": 1.0, "1.5": 1.0}
    assert found["best_two"] == {"0.5": 1.0, "1": 1.0, "1.5": 1.0}
    assert chosen(tmp_path / "two", COLD + WARM + HOT, OF, by="best two")["temperature"] == 0.5, "the lowest of equals"


def test_tasks_without_a_temperature_say_nothing_of_one(tmp_path: Path) -> None:
    found = chosen(tmp_path, COLD + WARM, {"a": None, "b": None, "c": 1.2, "d": 1.2})
    assert (found["temperature"], list(found["balance"])) == (1.2, ["1.2"])
    with pytest.raises(UserError, match="No rollout is of a task with a temperature: give balance_sampling those"):
        chosen(tmp_path / "none", COLD, {"a": None, "b": None})


@given(st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=5), min_size=1, max_size=4))
def test_the_best_of_a_task_hold_a_right_one_or_not(groups: list[list[tuple[bool, int]]]) -> None:
    judged = [
        each
        for number, attempts in enumerate(groups)
        for each in group(f"t{number}", *((f"{n}", ok, float(worth)) for n, (ok, worth) in enumerate(attempts)))
    ]
    expected = [any(ok for ok, _ in sorted(each, key=lambda one: -one[1])[:2]) for each in groups]
    assert best_hold(grouped(joined(judged)), 2) == expected


def test_no_threshold_has_a_higher_mean_than_the_best() -> None:
    seen = BalanceScores()
    for judged in (group("a", ("x", True, 0.9), ("y", False, 0.8)), group("b", ("z", True, 0.3), ("w", False, 0.1))):
        seen.add(grouped(joined(judged)), 1)
    assert seen.best.least == 0.3
    assert seen.best.mean == pytest.approx(0.75)


@given(
    st.lists(st.floats(0.1, 2), min_size=1, max_size=4, unique=True),
    st.integers(1, 5),
    st.lists(st.integers(1, 3), max_size=30).map(sorted),
)
def test_every_so_many_tasks_of_a_level_one_probes_in_turn(
    tmp_path_factory: pytest.TempPathFactory, temperatures: list[float], every: int, levels: list[int]
) -> None:
    place = tmp_path_factory.mktemp("tempered")
    tasks = sealed_table(place / "tasks", Task, [task(f"{n}", level) for n, level in enumerate(levels)])
    params = TemperParams(temperatures=temperatures, probe_every=every)
    out = TemperedTasks(Dataset(uri=str(place / "out")))
    made = list(
        rows(temper_tasks.into(out, params, tasks, sealed_value(place / "s", {"temperature": 3.0})).tempered.path, Task)
    )
    assert [each._replace(temperature=None) for each in made] == list(rows(tasks.path, Task))
    for level in set(levels):
        of_level = [each.temperature for each in made if each.level == level]
        probed = of_level[::every]
        assert probed == [temperatures[n % len(temperatures)] for n in range(len(probed))]
        assert Counter(of_level)[3.0] == len(of_level) - len(probed)


@pytest.mark.parametrize("temperatures", [[0.0], [1.0, 1.0], []])
def test_temperatures_that_are_none_are_refused(temperatures: list[float]) -> None:
    with pytest.raises(ValidationError):
        TemperParams(temperatures=temperatures)
