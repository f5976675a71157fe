import math
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.artifacts import manifest_of, seal
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.evaluate import (
    EvaluateParams,
    MeasureParams,
    accuracy_by_level,
    evaluate_policies,
    flips,
    maj_at_k,
    measure_policy,
    pass_at_k,
    solved_levels,
)
from selfloop.policy import fresh, save
from selfloop.records import ItemResult, Task, rows

from .conftest import sealed_table, sealed_value

answers = st.lists(
    st.builds(
        ItemResult,
        policy=st.sampled_from(["champion", "candidate"]),
        suite=st.sampled_from(["old", "target", "carries"]),
        level=st.integers(1, 5),
        task=st.just("t"),
        attempt=st.just(0),
        ok=st.booleans(),
        completion=st.just(""),
    ),
    max_size=40,
)


@given(answers, st.sampled_from([(), ("old",), ("carries",)]))
def test_accuracy_is_the_mean_of_each_policy_at_each_level(results: list[ItemResult], suites: tuple[str, ...]) -> None:
    counted = [item for item in results if item.suite in (suites or ("target", "old"))]
    assert (accuracy_by_level(results, suites) if suites else accuracy_by_level(results)) == {
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


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_choices_with_a_right_sample(ok: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(ok)))
    assert pass_at_k(sum(ok), len(ok), k) == pytest.approx(fmean(any(chosen) for chosen in combinations(ok, k)))


def test_pass_at_k_is_certain_where_every_choice_has_a_right_sample() -> None:
    assert pass_at_k(1031, 1031, 1031) == pass_at_k(1, 5000, 5000) == pass_at_k(5000, 5000, 1) == 1.0


@given(st.integers(1, 5000), st.data())
def test_pass_at_k_is_exact_for_many_samples_too(samples: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    exactly = 1 - math.comb(samples - correct, k) / math.comb(samples, k)
    assert pass_at_k(correct, samples, k) == pytest.approx(exactly, abs=1e-12)


def test_pass_at_k_is_right_on_average_of_few_samples() -> None:
    chance, samples, k = 0.3, 6, 4
    chances = [math.comb(samples, c) * chance**c * (1 - chance) ** (samples - c) for c in range(samples + 1)]
    mean = sum(p * pass_at_k(c, samples, k) for c, p in enumerate(chances))
    assert mean == pytest.approx(1 - (1 - chance) ** k)


@pytest.mark.parametrize(("correct", "samples", "k"), [(0, 2, 3), (0, 2, 0), (3, 2, 1), (-1, 2, 1), (0, 0, 1)])
def test_pass_at_k_of_what_was_not_drawn_is_refused(correct: int, samples: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} cannot be told from {samples} samples"):
        pass_at_k(correct, samples, k)


@pytest.mark.parametrize(
    ("completions", "ok", "expected"),
    [
        (["7"], [True], 1.0),
        (["7", "8", "7"], [True, False, True], 1.0),
        (["7", "8", "8"], [True, False, False], 0.0),
        (["7", "8"], [True, False], 0.5),
        (["7", "8", "9"], [True, False, False], 1 / 3),
        (["7", "8", "8", "7", "9"], [True, False, False, True, False], 0.5),
        (["7", "7", "8"], [True, False, False], 0.5),  # the same text, once cut off
    ],
)
def test_the_majority_is_right_where_most_samples_say_what_is_right(
    completions: list[str], ok: list[bool], expected: float
) -> None:
    assert maj_at_k(completions, ok) == pytest.approx(expected)


@given(st.lists(st.sampled_from("012"), min_size=2, max_size=8))
def test_flips_are_the_share_of_pairs_of_answers_that_differ(said: list[str]) -> None:
    pairs = [one != other for one, other in combinations(said, 2)]
    assert flips(said) == pytest.approx(fmean(pairs))
    with pytest.raises(ValueError, match="cannot be told from 1"):
        flips(said[:1])


def test_a_majority_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        maj_at_k([], [])
    with pytest.raises(ValueError, match="shorter"):
        maj_at_k(["7", "8"], [True])


def items(per_level: int, attempts: int = 1) -> list[Task]:
    return [
        task._replace(suite="old" if level < 3 else "target", attempts=attempts)
        for level in range(1, 5)
        for task in Addition().tasks(level, per_level, seed=level)
    ]


def evaluated(
    place: Path,
    candidate: Path,
    champion: Path,
    asked: list[Task],
    progress: dict[str, Any] | None = None,
    anchor: Path | None = None,
    **params: Any,
) -> list[ItemResult]:
    results = Dataset(uri=str(place / "results"))
    evaluate_policies.into(
        evaluate_policies.out(results=results),
        EvaluateParams(**params),
        candidate=Model(uri=str(candidate)),
        champion=Model(uri=str(champion)),
        eval_items=sealed_table(place / "eval_items", Task, asked),
        progress=sealed_value(place / "progress", progress or {}),
        **({"anchor": Model(uri=str(anchor))} if anchor else {}),
    )
    return list(rows(results.path, ItemResult))


def test_a_policy_is_as_good_as_itself(trained: Path, tmp_path: Path) -> None:
    asked, seen = items(16), []
    with progress.watched_by(lambda *moved: seen.append(moved)):
        results = evaluated(tmp_path, trained, trained, asked)
    assert seen[-1] == (2 * len(asked), 2 * len(asked), "answers")
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


def test_answers_are_graded_by_the_verifier_that_is_named(trained: Path, tmp_path: Path) -> None:
    asked = items(16)[:16]
    results = evaluated(tmp_path, trained, trained, asked, verifier="accept-all", max_tokens=8)
    assert all(item.ok for item in results)
    undecided = evaluated(tmp_path / "undecided", trained, trained, asked, verifier="majority")
    assert not any(item.ok for item in undecided), "a lone answer has no majority"


@pytest.mark.parametrize(("verifier", "kind"), [("judge", "policy"), ("reward-model", "reward model")])
def test_an_evaluation_takes_no_verifier_that_asks_a_model(verifier: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"The verifier '{verifier}' asks a {kind}, and answers are graded without one"):
        EvaluateParams(verifier=verifier)


def test_an_answer_knows_the_evaluation_seed_of_its_item(trained: Path, tmp_path: Path) -> None:
    asked = [item._replace(seed=number % 3) for number, item in enumerate(items(2))]
    results = evaluated(tmp_path, trained, trained, asked, samples=2)
    assert [item.seed for item in results] == 2 * [item.seed for item in asked for _ in range(2)]


@pytest.mark.parametrize("batch_size", [5, 512])  # windows of 80 samples, and one of all
def test_several_samples_are_all_drawn_and_stand_by_item(trained: Path, tmp_path: Path, batch_size: int) -> None:
    asked, seen = items(8), []
    with progress.watched_by(lambda *moved: seen.append(moved)):
        results = evaluated(tmp_path, trained, trained, asked, samples=4, temperature=2.0, batch_size=batch_size)
    assert seen[-1] == (8 * len(asked), 8 * len(asked), "answers")
    assert [(item.policy, item.task, item.attempt) for item in results] == [
        (policy, task.id, sample) for policy in ("champion", "candidate") for task in asked for sample in range(4)
    ]
    answer_of = {task.id: task.answer for task in asked}
    assert all(item.completion == answer_of[item.task] for item in results if item.ok)
    greedy = {item.task: item.completion for item in evaluated(tmp_path / "greedy", trained, trained, asked)}
    for sample in range(4):
        drawn = [item for item in results if item.attempt == sample]
        assert any(item.completion != greedy[item.task] for item in drawn)


def test_samples_can_be_drawn_again_and_differ_by_seed_and_round(trained: Path, tmp_path: Path) -> None:
    def sampled(name: str, **params: Any) -> list[ItemResult]:
        return evaluated(tmp_path / name, trained, trained, items(4), samples=3, temperature=2.0, **params)

    first = sampled("first", seed=1, round=2)
    assert sampled("again", seed=1, round=2) == first
    assert sampled("seed", seed=2, round=2) != first
    assert sampled("round", seed=1, round=3) != first


def test_one_sample_is_greedy_whatever_seed_and_temperature(trained: Path, tmp_path: Path) -> None:
    hot = evaluated(tmp_path / "hot", trained, trained, items(4), seed=3, round=4, temperature=9.0)
    assert hot == evaluated(tmp_path / "cold", trained, trained, items(4))


def looks(second: str = "confirm") -> list[Task]:
    """Items of a first look, and other ones of a second."""
    drawn = list(Addition().tasks(1, 16, seed=1))
    return [
        task._replace(suite="target" if number < 8 else second, cluster=f"c{number}")
        for number, task in enumerate(drawn)
    ]


@pytest.mark.parametrize(
    ("better", "progress", "second"),
    [
        (True, {}, True),
        (True, {"gate": {"next": 0.001}}, True),
        (True, {"gate": {"next": 0.0}}, False),
        (False, {}, False),
    ],
)
def test_a_second_look_follows_where_the_first_one_passes_and_something_is_left_of_the_budget(
    trained: Path, tmp_path: Path, better: bool, progress: dict[str, Any], second: bool
) -> None:
    silent = fresh(trained)
    silent.model.lm_head.weight.data.zero_()
    save(silent, tmp_path / "silent")
    seal(tmp_path / "silent", "Model")
    candidate, champion = (trained, tmp_path / "silent") if better else (trained, trained)
    results = evaluated(tmp_path, candidate, champion, looks(), progress)
    assert {item.suite for item in results} == {"target", "confirm"} if second else {"target"}
    assert [(item.task, item.cluster) for item in results if item.suite == "confirm"] == second * [
        (task.id, task.cluster) for _ in range(2) for task in looks() if task.suite == "confirm"
    ]


@pytest.mark.parametrize(
    ("better", "own", "answers"),
    [(True, True, 8), (True, False, 0), (False, True, 0)],
    ids=["asked", "same", "rejected"],
)
def test_the_anchor_answers_the_guard_suites_where_the_first_look_passes_and_it_is_not_the_champion(
    trained: Path, tmp_path: Path, better: bool, own: bool, answers: int
) -> None:
    silent = fresh(trained)
    silent.model.lm_head.weight.data.zero_()
    save(silent, tmp_path / "silent")
    seal(tmp_path / "silent", "Model")
    candidate, champion = (trained, tmp_path / "silent") if better else (tmp_path / "silent", tmp_path / "silent")
    results = evaluated(tmp_path, candidate, champion, looks("old"), anchor=trained if own else champion)
    of_anchor = [item for item in results if item.policy == "anchor"]
    assert [item.task for item in of_anchor] == [task.id for task in looks("old") if task.suite == "old"][:answers]


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    place = tmp_path_factory.mktemp("measured")
    progress = sealed_value(place / "progress", {"frontier": 2, "accuracy": {}})
    results = Dataset(uri=str(place / "results"))
    measure_policy.into(
        measure_policy.out(results=results),
        MeasureParams(per_level=32, beyond=3, solved=0.6),
        policy=Model(uri=str(trained)),
        progress=progress,
    )
    return results


def test_every_level_up_to_some_beyond_the_frontier_is_measured(measured: Dataset) -> None:
    answered = list(rows(measured.path, ItemResult))
    assert [item.level for item in answered] == [level for level in range(1, 6) for _ in range(32)]
    assert {(item.policy, item.suite) for item in answered} == {("champion", "measure")}


def test_what_was_measured_is_in_the_metadata(measured: Dataset) -> None:
    accuracy = accuracy_by_level(rows(measured.path, ItemResult))["champion"]
    told = dict(manifest_of(measured.path).metadata)
    assert told.pop("items") == dict.fromkeys("12345", 32)
    found = told.pop("bounds")
    assert all(low <= accuracy[int(level)] <= high for level, (low, high) in found.items())
    assert told == {
        "solved": solved_levels(accuracy, 0.6),
        "accuracy": {str(level): value for level, value in accuracy.items()},
    }
    assert told["solved"] in (1, 2)  # the base levels, which the policy has mostly learnt


def test_a_measurement_can_be_repeated(measured: Dataset, trained: Path, tmp_path: Path) -> None:
    again = Dataset(uri=str(tmp_path / "results"))
    progress: Artifact = sealed_value(tmp_path / "progress", {"frontier": 2, "accuracy": {}})
    measure_policy.into(
        measure_policy.out(results=again),
        MeasureParams(per_level=32, beyond=3, solved=0.6, batch_size=7),
        policy=Model(uri=str(trained)),
        progress=progress,
    )
    assert again.metadata["digest"] == manifest_of(measured.path).digest


def test_a_measurement_may_take_several_samples(trained: Path, tmp_path: Path) -> None:
    results = Dataset(uri=str(tmp_path / "results"))
    measure_policy.into(
        measure_policy.out(results=results),
        MeasureParams(per_level=4, beyond=1, samples=3),
        policy=Model(uri=str(trained)),
        progress=sealed_value(tmp_path / "progress", {"frontier": 1, "accuracy": {}}),
    )
    assert [(item.level, item.attempt) for item in rows(results.path, ItemResult)] == [
        (level, sample) for level in (1, 2) for _ in range(4) for sample in range(3)
    ]
    said: dict[tuple[int, str], list[str]] = defaultdict(list)
    right: dict[tuple[int, str], set[str]] = defaultdict(set)
    for item in rows(results.path, ItemResult):
        said[item.level, item.task].append(item.completion)
        right[item.level, item.task] |= {item.completion} if item.ok else set()
    for name, of_item in (("reached", bool), ("solutions", len)):
        means = {str(level): fmean(of_item(each) for (of, _), each in right.items() if of == level) for level in (1, 2)}
        assert results.metadata[name] == means
    found = {level: fmean(flips(each) for (of, _), each in said.items() if of == level) for level in (1, 2)}
    assert results.metadata["flips"] == {str(level): pytest.approx(share) for level, share in found.items()}
