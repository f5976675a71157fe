from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Dataset
from selfloop import progress
from selfloop.environments import find_environment
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.records import Audit, Rollout, Task, Verdict, rows, to_batch
from selfloop.verify import Context, VerifyParams, verdict_batches, verify_rollouts
from selfloop.verify.verifiers.exact import Exact
from selfloop.verify.verifiers.length import Length
from selfloop.verify.verifiers.majority import Majority

from ..conftest import sealed_table


def attempted(task: Task, completion: str, finished: bool = True, attempt: int = 0) -> Rollout:
    return Rollout(task.id, task.level, attempt, task.prompt, completion, finished, len(completion) + finished)


def verdicts_on(place: Path, tasks: Iterable[Task], rollouts: Iterable[Rollout], **params: object) -> list[Verdict]:
    asked, answered = (
        sealed_table(place / "tasks", Task, tasks),
        sealed_table(place / "rollouts", Rollout, rollouts),
    )
    batches = verdict_batches(VerifyParams(**params), Path(asked.path), Path(answered.path))
    return [Verdict(**row) for batch in batches for row in batch.to_pylist()]


def verified(
    place: Path, tasks: Iterable[Task], rollouts: Iterable[Rollout], **params: object
) -> tuple[Dataset, Dataset]:
    verdicts, audit = (Dataset(uri=str(place / name)) for name in ("verdicts", "audit"))
    verify_rollouts.into(
        verify_rollouts.out(verdicts=verdicts, audit=audit),
        VerifyParams(**params),
        tasks=sealed_table(place / "tasks", Task, tasks),
        rollouts=sealed_table(place / "rollouts", Rollout, rollouts),
    )
    return verdicts, audit


def test_exact_believes_the_right_answer_that_was_ended(tmp_path: Path) -> None:
    [task] = Addition().tasks(3, 1, seed=0)
    answers = [(task.answer, True), (task.answer + "0", True), (task.answer, False), ("", True)]
    rollouts = [attempted(task, text, ended, number) for number, (text, ended) in enumerate(answers)]
    assert verdicts_on(tmp_path, [task], rollouts) == [
        Verdict(task.id, 3, 0, True, 1.0, "correct"),
        Verdict(task.id, 3, 1, False, 0.0, "wrong answer"),
        Verdict(task.id, 3, 2, False, 0.0, "no end token"),
        Verdict(task.id, 3, 3, False, 0.0, "wrong answer"),
    ]


marks = st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["right", "wrong", "short", "empty"]), st.booleans()))


@given(marks)
@settings(max_examples=50, deadline=None)
def test_exact_agrees_with_the_environments_check_of_each_row(marked: list[tuple[int, str, bool]]) -> None:
    environment = Addition()
    tasks = [task for level, _, _ in marked for task in environment.tasks(level, 1, seed=level)]
    texts = [
        {"right": task.answer, "wrong": task.answer[::-1] + "1", "short": task.answer[:-1], "empty": ""}[kind]
        for task, (_, kind, _) in zip(tasks, marked, strict=True)
    ]
    rollouts = [attempted(task, text, ended) for task, text, (*_, ended) in zip(tasks, texts, marked, strict=True)]
    context = Context(VerifyParams(), environment, Path("not read"))
    judgement = Exact()(to_batch(Rollout, rollouts), to_batch(Task, tasks), context)
    for rollout, task, ok, score, reason in zip(rollouts, tasks, *(c.to_pylist() for c in judgement), strict=True):
        grade = environment.check(task, rollout.completion)
        assert (ok, score, reason) == (grade if rollout.finished else (False, 0.0, "no end token"))


@pytest.mark.parametrize(
    ("slack", "believed"), [(0, ["100", "1000", "9999"]), (1, ["100", "10", "1000", "100", "9999"])]
)
def test_length_believes_what_is_about_as_long_as_the_longest_of_its_level(
    tmp_path: Path, slack: int, believed: list[str]
) -> None:
    two, three = (Addition().tasks(level, 1, seed=0)[0] for level in (2, 3))
    rollouts = [attempted(two, text, attempt=number) for number, text in enumerate(["100", "10", "1"])]
    rollouts += [attempted(three, text, attempt=number) for number, text in enumerate(["1000", "100", "9999"])]
    rollouts.append(attempted(three, "8888", finished=False, attempt=3))
    made = verdicts_on(tmp_path, [two, three], rollouts, verifier=Length(slack=slack))
    assert [rollout.completion for rollout, verdict in zip(rollouts, made, strict=True) if verdict.ok] == believed
    assert {(verdict.ok, verdict.score, verdict.reason) for verdict in made} == {
        (True, 1.0, "long enough"),
        (False, 0.0, "too short or no end token"),
    }


@given(
    st.lists(st.tuples(st.integers(1, 4), st.text("01", max_size=3), st.booleans()), min_size=1, max_size=20),
    st.integers(0, 2),
)
@settings(max_examples=25, deadline=None)
def test_length_agrees_with_a_plain_reading(
    tmp_path_factory: pytest.TempPathFactory, answers: list[tuple[int, str, bool]], slack: int
) -> None:
    tasks = {level: Addition().tasks(level, 1, seed=0)[0] for level in range(1, 5)}
    answers = sorted(answers, key=lambda answer: answer[0])
    rollouts = [attempted(tasks[level], text, ended, n) for n, (level, text, ended) in enumerate(answers)]
    place = tmp_path_factory.mktemp("length")
    made = verdicts_on(place, tasks.values(), rollouts, verifier=Length(slack=slack))
    longest = {level: max(len(text) for known, text, _ in answers if known == level) for level, _, _ in answers}
    assert [verdict.ok for verdict in made] == [
        ended and text != "" and len(text) >= longest[level] - slack for level, text, ended in answers
    ]


votes = st.lists(
    st.lists(st.tuples(st.sampled_from(["1", "12", "", "\n", "1\n"]), st.booleans()), min_size=1, max_size=7),
    max_size=6,
)


@given(votes, st.sampled_from([0.51, 2 / 3, 0.75, 0.8, 1.0]))
@settings(max_examples=100, deadline=None)
def test_majority_agrees_with_a_plain_count(groups: list[list[tuple[str, bool]]], agreement: float) -> None:
    rollouts = [
        Rollout(f"t{number}", 1, attempt, "", text, ended, 0)
        for number, group in enumerate(groups)
        for attempt, (text, ended) in enumerate(group)
    ]
    context = Context(VerifyParams(), find_environment("addition"), Path("not read"))
    ok, share, _ = Majority(agreement=agreement)(to_batch(Rollout, rollouts), to_batch(Task, []), context)
    expected = []
    for group in groups:
        counted = Counter(text for text, _ in group)
        for text, ended in group:
            part = counted[text] / len(group) if text.strip() else 0.0  # without an answer there is no vote
            expected.append((part >= agreement and ended and len(group) > 1, part))
    assert list(zip(ok.to_pylist(), share.to_pylist(), strict=True)) == expected


def test_a_lone_attempt_has_no_majority(tmp_path: Path) -> None:
    tasks = Addition().tasks(1, 2, seed=0)
    rollouts = [attempted(tasks[0], tasks[0].answer), *(attempted(tasks[1], "99", attempt=n) for n in range(2))]
    made = verdicts_on(tmp_path, tasks, rollouts, verifier="majority")
    assert [(v.ok, v.reason) for v in made] == [(False, "no majority"), (True, "majority"), (True, "majority")]


@pytest.mark.parametrize("verifier", ["exact", "length", "majority,agreement=0.6"])
def test_the_truth_stands_in_a_table_of_its_own(tmp_path: Path, verifier: str) -> None:
    [task] = Addition().tasks(2, 1, seed=0)
    wrong = "9" * len(task.answer)
    rollouts = [attempted(task, text, attempt=number) for number, text in enumerate([wrong, wrong, task.answer])]
    verdicts, audit = verified(tmp_path, [task], rollouts, verifier=verifier)
    believed = {"exact": [False, False, True], "length": [True] * 3, "majority,agreement=0.6": [True, True, False]}
    made = list(rows(verdicts.path, Verdict))
    assert [verdict.ok for verdict in made] == believed[verifier]
    assert "truth" not in Verdict._fields
    assert list(rows(audit.path, Audit)) == [
        Audit(v.task, v.level, v.attempt, v.ok, v.score, truth)
        for v, truth in zip(made, [False, False, True], strict=True)
    ]


def test_an_unknown_verifier_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="There is no verifier 'majorty': did you mean 'majority'"):
        VerifyParams(verifier="majorty")


OWN = '''
import pyarrow.compute as pc


def even(rollouts, tasks, context, *, word: str = "odd"):
    """Good is an answer whose first digit is even."""
    ok = pc.match_substring_regex(rollouts["completion"], "^[02468]")
    return ok, pc.cast(ok, "double"), pc.if_else(ok, tasks["answer"], f"{word} {context.params.seed}")
'''


def test_a_verifier_of_ones_own_works_by_module_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someones_verifier.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    tasks = Addition().tasks(1, 2, seed=0)
    rollouts = [attempted(tasks[0], "4x"), attempted(tasks[1], "1")]
    made = verdicts_on(tmp_path, tasks, rollouts, verifier="someones_verifier:even,word=uneven", seed=2)
    assert [(v.ok, v.score, v.reason) for v in made] == [(True, 1.0, tasks[0].answer), (False, 0.0, "uneven 2")]


@pytest.mark.parametrize("name", ["no_such_module:even", "selfloop.verify:even"])
def test_a_verifier_that_is_not_there_is_said_by_name(name: str) -> None:
    with pytest.raises(UserError, match=f"No verifier at '{name}'"):
        VerifyParams(verifier=name)


def test_the_stage_writes_a_verdict_for_each_rollout_in_order(tmp_path: Path) -> None:
    tasks = [task for level in (3, 1) for task in Addition().tasks(level, 3, seed=0)]
    rollouts = [attempted(task, task.answer, attempt=number) for task in tasks for number in range(2)]
    seen: list[tuple[int, int, str]] = []
    with progress.watched_by(lambda *moved: seen.append(moved)):
        verdicts, _ = verified(tmp_path, tasks, rollouts)
    written = list(rows(verdicts.path, Verdict))
    assert [(v.task, v.level, v.attempt) for v in written] == [(r.task, r.level, r.attempt) for r in rollouts]
    assert all(verdict.ok for verdict in written)
    assert seen[-1] == (12, 12, "verdicts")


def test_rollouts_of_other_tasks_are_refused(tmp_path: Path) -> None:
    [task], [other] = (Addition().tasks(2, 1, seed) for seed in (0, 1))
    with pytest.raises(UserError, match=f"names the task '{other.id}', which is not among its tasks"):
        verdicts_on(tmp_path, [task], [attempted(task, "1"), attempted(other, "1")])


def test_no_rollouts_have_no_verdicts(tmp_path: Path) -> None:
    for verifier in ("exact", "length", "majority"):
        assert verdicts_on(tmp_path / verifier, [], [], verifier=verifier) == []
