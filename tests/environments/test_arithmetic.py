import itertools
import json
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.arithmetic import BOUND, Arithmetic, numbers_in, steps
from selfloop.errors import UserError
from selfloop.generate.tools.op import Op
from selfloop.policy import scratch_tokenizer
from selfloop.records import Task, to_batch

pytestmark = pytest.mark.slow

SEEDS = st.integers(0, 2**63 - 1)
LEVELS = st.sampled_from(Arithmetic.levels)
FLAVOURS = st.sampled_from(["tools", "plain", "both", "claims"])


def all_of(environment: Arithmetic, level: int, seed: int) -> list[Task]:
    made = environment.tasks(level, 20, seed)
    return made + list(itertools.chain(*environment.guard_suites(level, 20, seed).values()))


@given(FLAVOURS, LEVELS, SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_task_is_solved_by_what_is_written_and_python_agrees(flavour: str, level: int, seed: int) -> None:
    environment = Arithmetic(flavour)
    for task in all_of(environment, level, seed):
        assert eval(task.prompt.removesuffix("=")) == int(task.answer)
        assert len(re.findall(r"[+*-]", task.prompt)) == task.level == level
        assert environment.check(task, environment.demonstration(task)) == (True, 1.0, "correct")
        assert all(abs(step.value) < BOUND for step in steps(task.prompt.removesuffix("=")))


@given(LEVELS, SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_results_written_are_those_of_the_tool_and_each_turn_fits(level: int, seed: int) -> None:
    environment = Arithmetic()
    tokenizer = scratch_tokenizer(Arithmetic.alphabet, Arithmetic.special_tokens)
    for task in all_of(environment, level, seed):
        written = environment.demonstration(task)
        calls = re.findall("<op>(.*?)</op><result>(.*?)</result>", written)
        assert len(calls) == task.level
        assert [Op()(call) for call, _ in calls] == [result for _, result in calls]
        left = re.split("<op>.*?</result>", task.prompt + written)
        assert {eval(expression.removesuffix("=")) for expression in left} == {int(task.answer)}, (
            "each is worth the same"
        )
        by_the_tool = [written[first:last] for first, last in environment.non_policy_spans(written)]
        assert by_the_tool == [f"<result>{result}</result>" for _, result in calls]
        assert tokenizer.decode(tokenizer(task.prompt + written)["input_ids"]) == task.prompt + written
        turns = re.split("<result>.*?</result>", written)
        assert max(len(tokenizer(turn)["input_ids"]) for turn in turns) < task.max_tokens


@pytest.mark.parametrize(("flavour", "least", "most"), [("tools", 1, 1), ("plain", 0, 0), ("both", 0.3, 0.37)])
def test_a_flavour_shows_the_tool_in_all_texts_in_none_or_in_one_of_three(
    flavour: str, least: float, most: float
) -> None:
    environment = Arithmetic(flavour)
    tasks = environment.tasks(3, 5000, 1)
    shown = sum(environment.demonstration(task) != task.answer for task in tasks) / len(tasks)
    assert least <= shown <= most


def test_a_refusal_of_the_tool_is_one_token() -> None:
    tokenizer = scratch_tokenizer(Arithmetic.alphabet, Arithmetic.special_tokens)
    text = f"<op>3+4+5</op><result>{Op()('3+4+5')}</result>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) == 10


@given(FLAVOURS, LEVELS, SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_proposal_that_is_shown_is_one(flavour: str, level: int, seed: int) -> None:
    environment = Arithmetic(flavour)
    for text in environment.proposals(level, 10, seed):
        task = environment.parse_proposal(text, "x")
        assert (task.id, task.level, task.prompt) == ("x", level, text.partition("=")[0] + "=")
        claimed = {"claimed": task.answer} if flavour == "claims" else {}
        assert json.loads(task.metadata) == claimed


@given(LEVELS, SEEDS, st.data())
@settings(max_examples=30, deadline=None)
def test_spaces_and_needless_brackets_make_no_other_task(level: int, seed: int, data: st.DataObject) -> None:
    [text] = Arithmetic().proposals(level, 1, seed)
    pieces = re.findall(r"\d+|.", text)
    dressed = "".join(
        f"(({piece}))" if piece.isdigit() and data.draw(st.booleans()) else f"{piece} " for piece in pieces
    )
    assert Arithmetic().parse_proposal(f"({dressed})", "x") == Arithmetic().parse_proposal(text, "x")


@given(st.text("123+-*() ", max_size=20))
def test_one_form_is_its_own_form_and_has_the_same_value(text: str) -> None:
    try:
        task = Arithmetic().parse_proposal(text, "x")
    except ValueError:
        return
    assert int(task.answer) == eval(text.strip())
    assert Arithmetic().parse_proposal(task.prompt, "x") == task


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an expression"),
        ("3+", "not an expression"),
        ("-3+4", "not an expression"),
        ("3/4", "not an expression"),
        ("3**4", "not an expression"),
        ("__import__('os')", "not an expression"),
        ("(" * 150 + "3+4" + ")" * 40, "not an expression"),
        ("9" * 5000, "not an expression"),
        ("7", "no operation"),
        ("+".join("1" * 14), "too many operations"),
        ("3+12", "a number out of range"),
        ("3+0", "a number out of range"),
        ("9*9*9*9", "a value out of bound on the way"),
        ("9*9*9*2-9*9*9", "a value out of bound on the way"),
        ("3+4=x", "the claimed answer is no whole number"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_task_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        Arithmetic().parse_proposal(text, "x")


@pytest.mark.parametrize(
    ("text", "claimed"),
    [("(3+4)*2", {}), ("(3+4)*2=", {}), ("(3+4)*2=14", {"claimed": "14"}), ("(3+4)*2=-015", {"claimed": "-15"})],
)
def test_a_claim_is_noted_beside_the_true_answer(text: str, claimed: dict[str, str]) -> None:
    task = Arithmetic().parse_proposal(text, "x")
    assert (task.prompt, task.answer, json.loads(task.metadata)) == ("(3+4)*2=", "14", claimed)


def test_a_problem_is_its_value_and_its_numbers_in_whatever_order() -> None:
    same, other = (Arithmetic().parse_proposal(text, "x") for text in ("3*(4+5)=", "(5+4)*3="))
    assert Arithmetic().content(same) == Arithmetic().content(other) == "[3, 4, 5]=27"
    assert Arithmetic().content(Arithmetic().parse_proposal("3*4+5", "x")) == "[3, 4, 5]=17"


@given(LEVELS, st.integers(0, 40), SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_tasks_and_fewer_are_the_first_of_more(level: int, count: int, seed: int) -> None:
    tasks = Arithmetic().tasks(level, count, seed)
    assert tasks == Arithmetic().tasks(level, 50, seed)[:count]
    assert len({task.id for task in tasks}) == len({task.prompt for task in tasks}) == count


def test_the_guard_suites_have_numbers_of_two_digits_and_zeros_which_no_task_has() -> None:
    suites = Arithmetic().guard_suites(3, 20, seed=1)
    assert suites.keys() == {"numbers", "zeros"}
    assert min(number for task in suites["numbers"] for number in numbers_in(task.prompt)) >= 10
    assert all(0 in numbers_in(task.prompt) and max(numbers_in(task.prompt)) < 10 for task in suites["zeros"])
    tasks = Arithmetic().tasks(3, 200, 1)
    assert {number for task in tasks for number in numbers_in(task.prompt)} == set(range(1, 10))


def test_check_and_check_batch_agree() -> None:
    [task] = Arithmetic().tasks(2, 1, seed=1)
    completions = [Arithmetic().demonstration(task), task.answer, "", f"{task.answer}</result>", f"{task.answer}\n"]
    columns = Arithmetic().check_batch(to_batch(Task, [task] * 5), pa.array(completions))
    grades = [Arithmetic().check(task, text) for text in completions]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades
    assert [grade.ok for grade in grades] == [True, True, False, False, False]


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="arithmetic has levels 1 to 12, not 13"):
        Arithmetic().tasks(13, 1, seed=0)
    with pytest.raises(UserError, match="no flavour of arithmetic 'plane': did you mean 'plain'"):
        find_environment("arithmetic:plane")


def test_it_offers_proposals() -> None:
    environment = find_environment("arithmetic:plain")
    assert environment.offers == {"levels", "alphabet", "plain positions", "proposals", *environment.roles}
