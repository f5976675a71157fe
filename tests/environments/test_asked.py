"""Roles: tasks about attempts, and the environments whose tasks are such."""

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from selfloop import roles
from selfloop.environments import Environment, find_environment
from selfloop.environments.chain import Chain, values
from selfloop.errors import UserError
from selfloop.records import Task, to_batch

SEEDS = st.integers(0, 2**63 - 1)
NAMES = ["chain", "addition", "arithmetic", "arithmetic:plain", "arithmetic:both"]
NAMED = st.sampled_from(NAMES).map(find_environment)
SHOWN = [f"asked:{role}:{name}" for name in NAMES for role in find_environment(name).roles]
CHAIN = Chain()


def drawn(environment: Environment, level: int, seed: int) -> Task:
    [task] = environment.tasks(level, 1, seed)
    return task


@given(NAMED, st.integers(1, 8), SEEDS, st.booleans())
@settings(max_examples=80)
def test_what_a_judge_answers_rightly_says_whether_the_attempt_is_right(
    environment: Environment, level: int, seed: int, is_right: bool
) -> None:
    task = drawn(environment, level, seed)
    attempt = environment.demonstration(task) if is_right else environment.spoilt(task, 1, seed)
    asked = environment.asked("judge", task, [attempt])
    assert environment.opinion("judge", asked.answer) == float(is_right)
    assert asked.prompt == f"{task.prompt}{attempt}<judge>"
    assert roles.subject(asked) == task
    assert roles.role_of(asked) == "judge"
    judged = environment.asked("judge", asked, [asked.answer])
    assert (judged.answer, roles.root(judged), roles.subject(judged)) == ("1", task, asked)
    for said in ("0", "1", "", "10"):
        assert roles.graded(environment, asked, said).ok is (said == asked.answer)


@given(NAMED, st.integers(1, 8), SEEDS)
@settings(max_examples=40)
def test_of_two_attempts_the_right_one_is_better_in_either_order(
    environment: Environment, level: int, seed: int
) -> None:
    task = drawn(environment, level, seed)
    right, wrong = environment.demonstration(task), environment.spoilt(task, 1, seed)
    orders = {(right, wrong): 1.0, (wrong, right): 0.0, (right, right): 0.5, (wrong, wrong): 0.5}
    for pair, better in orders.items():
        assert environment.opinion("better", environment.asked("better", task, pair).answer) == better


@given(st.integers(1, 20), SEEDS, st.data())
def test_a_spoilt_chain_has_exactly_so_many_wrong_steps_and_another_end(
    level: int, seed: int, data: st.DataObject
) -> None:
    task, errors = drawn(CHAIN, level, seed), data.draw(st.integers(1, level))
    text, chain = CHAIN.spoilt(task, errors, seed), task.prompt[:-1]
    begun = [chain[:2], *(text[end - 2 : end] for end in CHAIN.steps(text))]
    operations = [chain[2 + 2 * step :][:2] for step in range(level)]
    right = [values(f"{value}{operation}")[0] for value, operation in zip(begun, operations, strict=False)]
    assert sum(int(value) != true for value, true in zip(begun[1:], right, strict=True)) == errors
    assert not CHAIN.check(task, text).ok
    assert len(text) == 2 * level


@given(st.integers(1, 20), SEEDS, st.data())
def test_a_grounded_judge_is_told_of_each_wrong_step_and_of_no_other(
    level: int, seed: int, data: st.DataObject
) -> None:
    task, errors = drawn(CHAIN, level, seed), data.draw(st.integers(0, level))
    text = CHAIN.spoilt(task, errors, seed) if errors else CHAIN.demonstration(task)
    told = CHAIN.recomputed(task, text)
    assert sum(text[end - 2 : end] != told[end - 2 : end] for end in CHAIN.steps(text)) == errors
    asked = CHAIN.asked("grounded", task, [text])
    assert (asked.prompt, asked.answer) == (f"{task.prompt}{text}={told}<grounded>", str(int(not errors)))
    reasoned = CHAIN.asked("reasoned", task, [text])
    assert (reasoned.prompt, reasoned.answer) == (f"{task.prompt}{text}<reasoned>", f"{told}={asked.answer}")
    assert [roles.graded(CHAIN, reasoned, f"99={said}").ok for said in ("0", "1", "")] == [
        bool(errors),
        not errors,
        False,
    ]
    cut = data.draw(st.integers(0, len(text)))
    assert told.startswith(CHAIN.recomputed(task, text[:cut] + "+" + text[cut:])[: cut // 2 * 2])
    with pytest.raises(UserError, match="Nobody works out answers in the role 'judge': ask 'judge' about them"):
        CHAIN.asked("grounded", CHAIN.asked("judge", task, [text]), ["1"])


@given(st.integers(1, 8), SEEDS, st.data())
@settings(max_examples=60)
def test_a_spoilt_solution_carries_on_so_many_values_that_the_tool_did_not_give(
    level: int, seed: int, data: st.DataObject
) -> None:
    environment = find_environment("arithmetic")
    task, errors = drawn(environment, level, seed), data.draw(st.integers(1, level))
    text = environment.spoilt(task, errors, seed)
    ends = environment.steps(text)
    assert len(ends) == level
    assert ends[-1] == len(text)
    left = [task.prompt, *(text[:end].rpartition("</result>")[2] for end in ends)]
    assume("<result>0<" not in text)  # which would hide what went wrong in a factor
    slips = sum(eval(a.strip("=")) != eval(b.strip("=")) for a, b in pairwise(left))
    assert slips == errors
    assert not environment.check(task, text).ok


@given(st.integers(1, 30), SEEDS, st.data())
def test_a_spoilt_sum_has_exactly_so_many_wrong_digits(level: int, seed: int, data: st.DataObject) -> None:
    environment = find_environment("addition")
    task, errors = drawn(environment, level, seed), data.draw(st.integers(1, level + 1))
    text = environment.spoilt(task, errors, seed)
    assert sum(a != b for a, b in zip(text, task.answer, strict=True)) == errors
    assert environment.steps(text) == list(range(1, level + 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("errors", [0, 99])
def test_errors_for_which_there_are_no_steps_are_refused(name: str, errors: int) -> None:
    environment = find_environment(name)
    with pytest.raises(UserError, match=f"has no {errors} wrong ones: ask for as many"):
        environment.spoilt(drawn(environment, 3, 1), errors, 1)


@pytest.mark.parametrize("name", SHOWN)
def test_the_tasks_of_a_role_are_answered_rightly_by_what_is_shown(name: str) -> None:
    environment, below = find_environment(name), find_environment(name.split(":", 2)[2])
    for level in (1, 3):
        tasks = environment.tasks(level, 12, 5)
        assert tasks == environment.tasks(level, 12, 5)
        problems = [below.content(task) for task in below.tasks(level, 12, 5)]
        assert [environment.content(task) for task in tasks] == problems, "a problem is that of the task below"
        known = {*str(environment.alphabet), *environment.special_tokens}
        for task in tasks:
            shown = environment.demonstration(task)
            assert environment.check(task, shown).ok, (task, shown)
            assert task.level == level
            assert {roles.MARKS[name.split(":")[1]]} <= known
            assert roles.readable(environment, task.prompt + shown) != task.prompt + shown, "its mark alone"
        if environment.roles:
            assert {environment.extract_answer(task.answer) for task in tasks} <= {"0", "1", "2"}
            assert all(not environment.check(task, environment.spoilt(task, 1, 1)).ok for task in tasks)


@given(st.integers(1, 12), SEEDS, st.integers(0, 96))
def test_a_chain_worked_back_from_any_answer_comes_to_the_number_that_leads_there(
    level: int, seed: int, other: int
) -> None:
    task = drawn(CHAIN, level, seed)
    asked = roles.backward(CHAIN, task, task.answer)
    assert [each.prompt.replace("<backward>", each.number, 1) for each in asked] == [
        f"{task.prompt}{task.answer}<backward>"
    ] * (level + 1)
    begun, reached = task.prompt[:2], [int(task.prompt[:2]), *values(task.prompt[:-1])]
    for _, number, place in asked:
        back = reached[max(place, 1) : -1][::-1]
        assert number == (begun if not place else task.prompt[2 * place + 1])
        written = [*reached[1 : max(place, 1)], *back]
        assert CHAIN.worked_back(task, place, task.answer) == "".join(f"{value:02}" for value in written)
    first = (CHAIN.worked_back(task, 0, f"{other:02}") or f"{other:02}")[-2:]
    leads = [start for start in range(97) if values(f"{start:02}{task.prompt[2:-1]}")[-1] == other]
    assert [values(f"{start:02}{task.prompt[2:4]}")[0] for start in leads] == [int(first)]
    shown = CHAIN.asked("backward", task, [CHAIN.demonstration(task)])
    assert roles.graded(CHAIN, shown, roles.recovered(CHAIN, shown.answer)).ok
    assert not roles.graded(CHAIN, shown, f"{shown.answer}0").ok


@given(st.integers(1, 20), SEEDS)
def test_whoever_restates_a_chain_may_say_any_that_leads_to_the_attempt(level: int, seed: int) -> None:
    task = drawn(CHAIN, level, seed)
    for attempt in (CHAIN.demonstration(task), CHAIN.spoilt(task, 1, seed)):
        asked = CHAIN.asked("restate", task, [attempt])
        assert task.prompt[2:-1] not in asked.prompt
        reached = attempt == CHAIN.demonstration(task)
        assert roles.graded(CHAIN, asked, task.prompt[2:-1]).ok is reached
        assert not roles.graded(CHAIN, asked, "")[0]


@given(st.integers(1, 12), SEEDS)
def test_another_view_of_a_comparison_has_the_answer_that_goes_with_its_order(level: int, seed: int) -> None:
    pairs = find_environment("asked:better:chain")
    for task in pairs.tasks(level, 3, seed):
        assert pairs.from_view(pairs.view(task).answer) == task.answer != "0"
        assert pairs.view(pairs.view(task)) == task
    with pytest.raises(UserError, match="has no other view of a task: choose one that offers 'views'"):
        find_environment("asked:judge:chain").view(task)


@given(st.integers(1, 12), SEEDS)
def test_whoever_answers_at_once_is_shown_how_a_right_attempt_begins(level: int, seed: int) -> None:
    task = drawn(CHAIN, level, seed)
    asked = roles.posed(CHAIN, "now", task, seed)
    begun = asked.prompt.removeprefix(task.prompt).removesuffix("<now>")
    assert begun
    assert CHAIN.demonstration(task).startswith(begun)
    assert len(begun) in CHAIN.steps(CHAIN.demonstration(task))
    assert (asked.answer, roles.demonstration(CHAIN, asked, seed)) == (task.answer, task.answer)
    assert roles.graded(CHAIN, asked, task.answer).ok


def test_any_expression_of_as_many_operations_with_the_value_restates_an_answer() -> None:
    plain = find_environment("arithmetic:plain")
    [task] = plain.tasks(2, 1, 3)
    asked = plain.asked("restate", task._replace(prompt="2+3+4=", answer="9"), ["9"])
    said = {text: roles.graded(plain, asked, text).ok for text in ("3*2+3", "4+5", "9", "4*2", "2+3+5", "(", "9+0+0")}
    assert [text for text, ok in said.items() if ok] == ["3*2+3"]


@given(st.text("0123<judge>=", max_size=20))
def test_an_attempt_cannot_spell_the_mark_of_a_role(text: str) -> None:
    [task] = CHAIN.tasks(2, 1, 0)
    for written in (text, f"12<judge>{text}<pad>", "<jud<judge>ge>"):
        asked = CHAIN.asked("judge", task, [written])
        assert asked.prompt.count("<judge>") == 1
        assert "<pad>" not in asked.prompt


@given(st.lists(st.sampled_from(["judge", "again", "restate", ""]), max_size=8), SEEDS)
@settings(max_examples=30)
def test_grading_a_batch_agrees_with_grading_one_by_one(kinds: list[str], seed: int) -> None:
    tasks = [
        roles.posed(CHAIN, kind, task, seed) if kind else task
        for kind, task in zip(kinds, CHAIN.tasks(2, len(kinds), seed), strict=True)
    ]
    texts = [roles.demonstration(CHAIN, task, seed)[number % 2 :] for number, task in enumerate(tasks)]
    columns = roles.graded_batch(CHAIN, to_batch(Task, tasks), pa.array(texts, pa.string()))
    one_by_one = [roles.graded(CHAIN, task, text) for task, text in zip(tasks, texts, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == one_by_one


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("asked:judge:countdown", "Environment 'countdown' has no role 'judge' .known: none"),
        (
            "asked:jugde:chain",
            "Environment 'chain' has no role 'jugde' .known: judge, grounded, reasoned, better",
        ),
        ("asked:judge", "is no environment: write a role and an environment: asked:judge:chain"),
        ("asked", "is no environment: write a role and an environment: asked:judge:chain"),
        ("asked:again:asked:judge:chain", "has no role 'again'"),
        ("asked:judge:chian", "There is no environment 'chian'"),
    ],
)
def test_what_is_no_role_of_an_environment_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_environment(name)


@pytest.mark.parametrize(("role", "attempts"), [("judge", []), ("judge", ["1", "2"]), ("better", ["1"])])
def test_a_role_is_asked_about_as_many_attempts_as_it_takes(role: str, attempts: list[Any]) -> None:
    with pytest.raises(UserError, match=f"The role '{role}' is asked about . attempts, not {len(attempts)}"):
        CHAIN.asked(role, drawn(CHAIN, 1, 1), attempts)


@pytest.mark.parametrize("role", roles.REWRITING)
def test_what_was_asked_for_is_judged_as_any_other_attempt(role: str) -> None:
    task = drawn(CHAIN, 3, 1)
    right, wrong = CHAIN.demonstration(task), CHAIN.spoilt(task, 1, 1)
    asked = CHAIN.asked(role, task, [wrong][: roles.ATTEMPTS[role]])
    for attempt in (right, wrong):
        for opinion in ("judge", "grounded"):
            assert CHAIN.asked(opinion, asked, [attempt]) == CHAIN.asked(opinion, task, [attempt])
    assert roles.graded(CHAIN, asked, right).ok is (role == "again")
