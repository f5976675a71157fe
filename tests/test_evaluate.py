from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.artifacts import manifest_of, seal
from selfloop.environments.addition import Addition
from selfloop.evaluate import (
    EvaluateParams,
    MeasureParams,
    accuracy_by_level,
    evaluate_policies,
    measure_policy,
    solved_levels,
)
from selfloop.policy import fresh, save
from selfloop.records import ItemResult, Task, rows

from .conftest import sealed_table, sealed_value

answers = st.lists(
    st.builds(
        ItemResult,
        policy=st.sampled_from(["champion", "candidate"]),
        suite=st.sampled_from(["old", "target"]),
        level=st.integers(1, 5),
        task=st.just("t"),
        attempt=st.just(0),
        ok=st.booleans(),
        completion=st.just(""),
    ),
    max_size=40,
)


@given(answers, st.sampled_from([None, "old", "target"]))
def test_accuracy_is_the_mean_of_each_policy_at_each_level(results: list[ItemResult], suite: str | None) -> None:
    counted = [item for item in results if suite in (None, item.suite)]
    assert accuracy_by_level(results, suite) == {
        policy: {
            level: fmean(item.ok for item in counted if (item.policy, item.level) == (policy, level))
            for level in {item.level for item in counted if item.policy == policy}
        }
        for policy in {item.policy for item in counted}
    }


@given(answers)
def test_levels_rise_within_the_accuracies(results: list[ItemResult]) -> None:
    for levels in accuracy_by_level(results).values():
        assert list(levels) == sorted(levels)


@given(st.dictionaries(st.integers(1, 12), st.floats(0, 1)), st.floats(0, 1, exclude_min=True))
def test_a_level_is_solved_when_it_and_all_below_it_are_accurate_enough(
    accuracy: dict[int, float], threshold: float
) -> None:
    solved = solved_levels(accuracy, threshold)
    assert all(accuracy[level] >= threshold for level in range(1, solved + 1))
    assert accuracy.get(solved + 1, 0.0) < threshold


def test_a_gap_ends_what_is_solved() -> None:
    assert solved_levels({1: 1.0, 2: 0.97, 3: 0.9, 4: 1.0}, 0.95) == 2
    assert solved_levels({2: 1.0}, 0.95) == 0
    assert solved_levels({}, 0.95) == 0


def items(per_level: int, attempts: int = 1) -> list[Task]:
    return [
        task._replace(suite="old" if level < 3 else "target", attempts=attempts)
        for level in range(1, 5)
        for task in Addition().tasks(level, per_level, seed=level)
    ]


def evaluated(place: Path, candidate: Path, champion: Path, asked: list[Task], **params: int) -> list[ItemResult]:
    results = Dataset(uri=str(place / "results"))
    evaluate_policies(
        EvaluateParams(**params),
        candidate=Model(uri=str(candidate)),
        champion=Model(uri=str(champion)),
        items=sealed_table(place / "items", Task, asked),
        results=results,
    )
    return list(rows(results.path, ItemResult))


def test_a_policy_is_as_good_as_itself(trained: Path, tmp_path: Path) -> None:
    asked, seen = items(16), []
    with progress.watched_by(lambda *moved: seen.append(moved)):
        results = evaluated(tmp_path, trained, trained, asked)
    assert seen[-1] == (2 * len(asked), 2 * len(asked), "items")
    champion, candidate = (
        [item._replace(policy="") for item in results if item.policy == policy] for policy in ("champion", "candidate")
    )
    assert champion == candidate
    assert [(item.task, item.suite, item.level, item.attempt) for item in champion] == [
        (task.id, task.suite, task.level, 0) for task in asked
    ]
    assert [item.ok for item in champion] == [
        item.completion == task.answer for item, task in zip(champion, asked, strict=True)
    ]
    assert 0 < fmean(item.ok for item in champion) < 1


def test_each_answer_stands_under_the_name_of_the_policy_that_gave_it(trained: Path, tmp_path: Path) -> None:
    silent = fresh(trained)
    silent.model.lm_head.weight.data.zero_()  # all tokens are as likely, so the first one, <pad>, is chosen forever
    save(silent, tmp_path / "silent")
    seal(tmp_path / "silent", "Model")
    results = evaluated(tmp_path, candidate=tmp_path / "silent", champion=trained, asked=items(8))
    assert {item.policy for item in results if item.ok} == {"champion"}
    assert {item.completion for item in results if "<pad>" in item.completion} == {
        item.completion for item in results if item.policy == "candidate"
    }


def test_an_item_is_answered_once_whatever_its_attempts(trained: Path, tmp_path: Path) -> None:
    results = evaluated(tmp_path, trained, trained, items(2, attempts=5), batch_size=3)
    assert len(results) == 2 * len(items(2))
    assert results == evaluated(tmp_path / "other", trained, trained, items(2))


def test_an_answer_that_was_cut_off_is_not_right(trained: Path, tmp_path: Path) -> None:
    asked = items(16)[:16]
    whole = evaluated(tmp_path / "whole", trained, trained, asked)
    cut = evaluated(tmp_path / "cut", trained, trained, asked, max_tokens=2)
    assert any(item.ok and len(item.completion) == 2 for item in whole)
    assert [item.completion for item in cut] == [item.completion[:2] for item in whole]
    assert not any(item.ok for item in cut)


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    place = tmp_path_factory.mktemp("measured")
    curriculum = sealed_value(place / "curriculum", {"frontier": 2, "accuracy": {}})
    results = Dataset(uri=str(place / "results"))
    measure_policy(
        MeasureParams(per_level=32, beyond=3, solved=0.6),
        policy=Model(uri=str(trained)),
        curriculum=curriculum,
        results=results,
    )
    return results


def test_every_level_up_to_some_beyond_the_frontier_is_measured(measured: Dataset) -> None:
    answered = list(rows(measured.path, ItemResult))
    assert [item.level for item in answered] == [level for level in range(1, 6) for _ in range(32)]
    assert {(item.policy, item.suite) for item in answered} == {("champion", "measure")}


def test_what_was_measured_is_in_the_metadata(measured: Dataset) -> None:
    accuracy = accuracy_by_level(rows(measured.path, ItemResult))["champion"]
    told = manifest_of(measured.path).metadata
    assert told == {
        "solved": solved_levels(accuracy, 0.6),
        "accuracy": {str(level): value for level, value in accuracy.items()},
    }
    assert told["solved"] in (1, 2)  # the base levels, which the policy has mostly learnt


def test_a_measurement_can_be_repeated(measured: Dataset, trained: Path, tmp_path: Path) -> None:
    again = Dataset(uri=str(tmp_path / "results"))
    curriculum: Artifact = sealed_value(tmp_path / "curriculum", {"frontier": 2, "accuracy": {}})
    measure_policy(
        MeasureParams(per_level=32, beyond=3, solved=0.6, batch_size=7),
        policy=Model(uri=str(trained)),
        curriculum=curriculum,
        results=again,
    )
    assert again.metadata["digest"] == manifest_of(measured.path).digest
