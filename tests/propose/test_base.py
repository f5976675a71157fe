"""The labelled data that a loop starts from."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset
from pydantic import ValidationError
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.propose import BaseData, BaseParams, WriteParams, draw_base, write_examples
from selfloop.propose.examples import WrittenExamples
from selfloop.records import Example, Task, rows

from ..conftest import sealed_table


def drawn(place: Path, **given: Any) -> BaseData:
    examples, held_out, pool = (Dataset(uri=str(place / name)) for name in ("examples", "held_out", "pool"))
    out = BaseData(examples, held_out, pool, Artifact(uri=str(place / "progress")))
    return draw_base.into(out, BaseParams(**given))


def test_each_level_of_a_tail_has_its_share_of_the_one_before(tmp_path: Path) -> None:
    given = {"environment": "chain", "levels": 4, "per_level": 80, "tail": 0.5, "held_out_per_level": 3}
    made = drawn(tmp_path, **given)
    assert Counter(row.level for row in rows(made.examples.path, Example)) == {1: 80, 2: 40, 3: 20, 4: 10}
    assert Counter(row.level for row in rows(made.held_out.path, Example)) == dict.fromkeys(range(1, 5), 3)


def test_a_policy_is_shown_to_propose_tasks_of_some_levels_alone(tmp_path: Path) -> None:
    given = {"environment": "chain", "levels": 3, "per_level": 5, "proposals": 7, "proposal_levels": [1, 3]}
    shown = [row for row in rows(drawn(tmp_path, **given).examples.path, Example) if row.prompt == "<new>"]
    assert Counter(len(row.completion) // 2 - 1 for row in shown) == {1: 7, 3: 7}


def test_a_round_s_tasks_are_written_down_as_their_environment_shows_them(tmp_path: Path) -> None:
    environment = find_environment("chain")
    tasks = environment.tasks(3, 4, 0)
    written = WrittenExamples(*(Dataset(uri=str(tmp_path / name)) for name in ("examples", "grown")))
    before = sealed_table(tmp_path / "pool", Example, [Example("old", 1, "a", "b", 1)])
    given = sealed_table(tmp_path / "tasks", Task, tasks)
    write_examples.into(written, WriteParams(environment="chain"), given, before)
    told = [(row.task, row.prompt, row.completion, row.good) for row in rows(written.examples.path, Example)]
    assert told == [(task.id, task.prompt, environment.demonstration(task), True) for task in tasks]
    assert [row.task for row in rows(written.replay_pool.path, Example)] == ["old", *(task.id for task in tasks)]


def test_a_share_of_what_is_written_down_is_another_task_s(tmp_path: Path) -> None:
    environment = find_environment("addition")
    tasks = environment.tasks(3, 400, 0)
    written = WrittenExamples(*(Dataset(uri=str(tmp_path / name)) for name in ("examples", "grown")))
    tables = sealed_table(tmp_path / "tasks", Task, tasks), sealed_table(tmp_path / "pool", Example, [])
    write_examples.into(written, WriteParams(flipped=0.4), *tables)
    told = [row.completion for row in rows(written.examples.path, Example)]
    wrong = [number for number, task in enumerate(tasks) if told[number] != task.answer]
    assert 0.3 < len(wrong) / len(tasks) < 0.5
    assert all(told[number] == tasks[number - 1].answer for number in wrong)
    with pytest.raises(ValidationError, match="flipped"):
        WriteParams(flipped=1)


@given(st.integers(1, 30), st.integers(1, 10_000), st.floats(0.01, 1))
def test_no_level_is_left_without_an_example(levels: int, per_level: int, tail: float) -> None:
    try:
        params = BaseParams(levels=levels, per_level=per_level, tail=tail)
    except ValidationError:
        assert per_level * tail ** (levels - 1) <= 0.5
    else:
        assert all(params.number_of(level) for level in range(1, levels + 1))
        assert params.number_of(1) == per_level


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"tail": 0.1, "per_level": 100}, "a tail of 0.1 leaves level 4 of 100 examples none: raise tail or per_level"),
        ({"proposal_levels": [2, 5]}, "proposals of level 5 are asked for, and the data covers 1 to 4: take it out"),
    ],
)
def test_levels_that_would_be_empty_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        BaseParams(**given)


def test_a_policy_is_shown_the_roles_that_are_named_half_of_the_attempts_wrong(tmp_path: Path) -> None:
    given = {"environment": "chain", "levels": 2, "per_level": 5, "roles": ["judge", "judge/judge"], "per_role": 40}
    shown = [row for row in rows(drawn(tmp_path, **given).examples.path, Example) if row.role != "policy"]
    by_kind = Counter((row.level, row.prompt.count("<judge>"), row.completion) for row in shown)
    assert {kind[:2] for kind in by_kind} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert all(10 <= by_kind[level, depth, said] <= 30 for level in (1, 2) for depth in (1, 2) for said in "01")
    assert {row.role for row in shown} == {"judge"}
    chain = find_environment("chain")
    for row in shown:
        task = next(t for t in [chain.parse_proposal(row.prompt.partition("=")[0], "x")])
        attempt = row.prompt.removeprefix(task.prompt).partition("<judge>")[0]
        judged = chain.asked("judge", task, [attempt])
        about = row.prompt.removeprefix(judged.prompt).removesuffix("<judge>")
        assert row.completion == (chain.asked("judge", judged, [about]) if about else judged).answer


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"environment": "countdown", "roles": ["judge"]}, "'countdown' has no role 'judge'"),
        ({"roles": ["restate"]}, "'addition' has no role 'restate' .known: judge, better, again, wrong, worse"),
        ({"roles": ["jugde"]}, "'addition' has no role 'jugde'"),
        ({"roles": ["judge/again"], "environment": "chain"}, None),
        ({"roles": ["again/judge"], "environment": "chain"}, "Nobody makes wrong answers of the role 'again'"),
    ],
)
def test_a_role_that_an_environment_has_not_is_not_shown(tmp_path: Path, given: Any, message: str | None) -> None:
    small = {"levels": 2, "per_level": 2, "per_role": 2, "held_out_per_level": 2} | given
    if message is None:
        drawn(tmp_path, **small)
        return
    with pytest.raises(UserError, match=message):
        drawn(tmp_path, **small)


def test_a_policy_from_scratch_has_a_token_for_the_marks_it_was_shown_and_no_other(tmp_path: Path) -> None:
    from selfloop.finetune import PretrainParams
    from selfloop.finetune.offline.pretraining import new_policy

    small = PretrainParams(environment="chain", hidden_size=8, heads=1, layers=1)
    plain, judge = (new_policy(small, shown) for shown in ({"policy"}, {"policy", "judge"}))
    assert len(judge.tokenizer) == len(plain.tokenizer) + 1
    assert judge.encode(["57+3=60<judge>"])[0][:-1] == plain.encode(["57+3=60"])[0]
    with pytest.raises(UserError, match=r"This policy has no token for '<judge>', and is asked '57\+3=60<judge>': ask"):
        plain.encode(["57+3=60<judge>"])
    with pytest.raises(UserError, match="has no token for 'I', and is asked 'Is it"):
        judge.encode(["1+1=", "Is it right?"])
