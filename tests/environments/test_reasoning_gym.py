import json
import os
import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.reasoning_gym import INSTRUCTION, MATHEMATICS, ReasoningGym, _pack, _unpack
from selfloop.errors import UserError
from selfloop.records import Task, to_batch

pytestmark = pytest.mark.slow

factory = pytest.importorskip("reasoning_gym.factory", reason="needs the extra 'reasoning-gym'")

TASKSETS = sorted(factory.DATASETS.keys() - {"composite"})
NO_ANSWER = {
    "boxnet": "gives no plan of its own",
    "graph_color": "gives no colouring as its answer, but one in its metadata",
    "propositional_logic": "gives no conclusion as its answer, but one in its metadata",
    "rubiks_cube": "gives no moves as its answer, but some in its metadata",
    "rush_hour": "gives no moves of its own",
}
BELIEVES_ANYTHING = {"game_of_life_halting": "its verifier takes every text that is not empty for the answer"}
NOT_REPEATABLE = {"codeio": "runs programs, some of which draw from the global random state or read the clock"}
TOO_SLOW_TO_REPEAT = {"sokoban": "takes up to 25 s for two tasks of level 1"}
RUN_WHAT_THEY_READ = ["binary_matrix", "n_queens", "spiral_matrix", "string_insertion"]
PARSE_WITH_SYMPY = [
    "countdown",
    "intermediate_integration",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
]
WRONG = ("no such answer", "", "42", "{}", "[1, 2", "(((", "\x00", "R1 A=1,B=2")

SEED = 0


class Recorded(ReasoningGym):
    """Remembers what reasoning-gym made, to compare with what became of it."""

    def entries(self, level: int, count: int, seed: int) -> list[dict[str, Any]]:
        self.made = super().entries(level, count, seed)
        return deepcopy(self.made)


@cache
def drawn(taskset: str) -> tuple[Recorded, list[Task]]:
    environment = Recorded(taskset)
    return environment, environment.tasks(1, 2, SEED)


@cache
def verifier(taskset: str) -> Any:
    """A dataset of reasoning-gym's own, configured here without the adapter."""
    kind, config = factory.DATASETS[taskset]
    if taskset in factory.CURRICULA and taskset != "knight_swap":
        curriculum = factory.create_curriculum(taskset)
        curriculum.set_global_level(0)
        return kind(config=curriculum.generate_configuration({"seed": 1, "size": 1}))
    return kind(config=config(seed=1, size=1))


def score(taskset: str, answer: str, entry: dict[str, Any]) -> float:
    """What reasoning-gym says, where its verifier does not give up on the answer."""
    try:
        return min(1.0, max(0.0, float(verifier(taskset).score_answer(answer, entry))))
    except (KeyError, TypeError, ValueError):
        return 0.0


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # codeio runs programs that touch files


@pytest.mark.parametrize("taskset", TASKSETS)
def test_the_metadata_keeps_everything_but_the_question(taskset: str) -> None:
    environment, tasks = drawn(taskset)
    for task, entry in zip(tasks, environment.made, strict=True):
        assert _unpack(json.loads(task.metadata)) | {"question": task.prompt.removesuffix(INSTRUCTION)} == entry
        assert task.answer == (entry["answer"] or "")


@pytest.mark.parametrize("taskset", TASKSETS)
def test_an_answer_scores_as_reasoning_gym_scores_it(taskset: str) -> None:
    environment, tasks = drawn(taskset)
    for task, entry in zip(tasks, environment.made, strict=True):
        right = environment.check(task, task.answer)
        assert right.score == score(taskset, task.answer, entry)
        assert right.ok == (taskset not in NO_ANSWER)
        assert environment.check(task, f"Let me see.\n<answer>\n{task.answer}\n</answer>") == right
        for text in WRONG:
            wrong = environment.check(task, text)
            if taskset in PARSE_WITH_SYMPY and not MATHEMATICS.fullmatch(text):
                assert wrong == (False, 0.0, "not plain mathematics")
            else:
                assert wrong.score == score(taskset, text.strip(), entry)


@pytest.mark.parametrize("taskset", sorted(set(TASKSETS) - NO_ANSWER.keys() - BELIEVES_ANYTHING.keys()))
def test_a_wrong_answer_scores_less_than_the_right_one(taskset: str) -> None:
    environment, tasks = drawn(taskset)
    for task in tasks:
        assert environment.check(task, "no such answer").score < environment.check(task, task.answer).score


@pytest.mark.parametrize(
    ("taskset", "example"),
    [
        ("graph_color", "possible_answer"),
        ("propositional_logic", "example_answer"),
        ("rubiks_cube", "example_correct_answer"),
    ],
)
def test_where_there_is_no_answer_the_metadata_has_one_that_is_accepted(taskset: str, example: str) -> None:
    environment, tasks = drawn(taskset)
    for task, entry in zip(tasks, environment.made, strict=True):
        known = entry["metadata"][example]
        assert environment.check(task, known if isinstance(known, str) else json.dumps(known)).ok


@pytest.mark.parametrize("taskset", sorted(BELIEVES_ANYTHING))
def test_a_taskset_listed_as_believing_anything_still_does(taskset: str) -> None:
    environment, tasks = drawn(taskset)
    assert all(environment.check(task, "no such answer").ok for task in tasks)


@pytest.mark.parametrize("taskset", sorted(set(TASKSETS) - NOT_REPEATABLE.keys() - TOO_SLOW_TO_REPEAT.keys()))
def test_the_same_seed_gives_the_same_tasks(taskset: str) -> None:
    assert find_environment(f"reasoning-gym:{taskset}").tasks(1, 2, SEED) == drawn(taskset)[1]


@pytest.mark.parametrize("taskset", ["acre", "countdown", "gsm_symbolic", "list_functions", "pool_matrix"])
def test_different_seeds_give_different_tasks_also_with_seeds_next_to_each_other(taskset: str) -> None:
    environment = find_environment(f"reasoning-gym:{taskset}")
    seeds = [0, 1, 2, 2**63 - 2, 2**63 - 1]
    prompts = [task.prompt for seed in seeds for task in environment.tasks(1, 3, seed)]
    assert len(set(prompts)) == 3 * len(seeds)


def test_another_process_gives_the_same_grades(tmp_path: Path) -> None:
    asked = [
        (taskset, task, [task.answer, "no such answer", "42"]) for taskset in TASKSETS for task in drawn(taskset)[1]
    ]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    program = (
        "import json; from selfloop.environments import find_environment; from selfloop.records import Task\n"
        "asked = json.load(open('asked.json'))\n"
        "known = {name: find_environment('reasoning-gym:' + name) for name, _, _ in asked}\n"
        "grades = [[known[name].check(Task(*task), text) for text in texts] for name, task, texts in asked]\n"
        "json.dump(grades, open('grades.json', 'w'))"
    )
    # Sets of strings have another order there, which makes some tasksets draw other tasks.
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=tmp_path, env=environment)
    here = [[list(drawn(name)[0].check(task, text)) for text in texts] for name, task, texts in asked]
    assert json.loads((tmp_path / "grades.json").read_text()) == here


def test_an_answer_that_is_never_checked_through_is_cut_off_and_the_next_is_graded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("selfloop.environments.reasoning_gym.SECONDS", 3.0)
    environment, [task, _] = drawn("countdown")
    ok, score, reason = environment.check_batch(
        to_batch(Task, [task] * 3), pa.array([task.answer, "((9**999)**999)**999", task.answer])
    )
    assert ok.to_pylist() == [True, False, True]
    assert score.to_pylist() == [1.0, 0.0, 1.0]
    assert reason.to_pylist() == ["correct", "timeout", "correct"]


def test_a_task_that_its_own_verifier_fails_on_is_said_in_one_sentence() -> None:
    environment, [task, _] = drawn("prime_factorization")
    broken = to_batch(Task, [task._replace(metadata='{"dict": []}')])
    with pytest.raises(UserError, match=f"fails on the answer of task '{task.id}' itself \\(KeyError\\)"):
        environment.check_batch(broken, pa.array(["no such answer"]))


def test_check_and_check_batch_agree() -> None:
    environment, tasks = drawn("countdown")
    tasks, completions = [*tasks, *tasks], [tasks[0].answer, "1 + 1", "", f"<answer>{tasks[1].answer}</answer>"]
    columns = environment.check_batch(to_batch(Task, tasks), pa.array(completions))
    grades = [environment.check(task, text) for task, text in zip(tasks, completions, strict=True)]
    assert list(zip(*(column.to_pylist() for column in columns), strict=True)) == grades
    assert [grade.ok for grade in grades] == [True, False, False, True]


@pytest.mark.parametrize("taskset", TASKSETS)
def test_every_level_has_a_configuration_that_reasoning_gym_accepts(taskset: str) -> None:
    environment = ReasoningGym(taskset)
    levels = environment.levels or range(1, 2)
    assert levels == range(1, len(environment._configs) + 1)
    for config in environment._configs:
        getattr(config, "validate", lambda: None)()
    assert ("levels" in environment.offers) == (taskset in factory.CURRICULA and taskset != "knight_swap")


def test_a_higher_level_is_a_harder_configuration() -> None:
    environment = ReasoningGym("countdown")
    attributes = factory.create_curriculum("countdown").attributes.values()
    assert environment.levels == range(1, 1 + max(len(attribute.levels) for attribute in attributes))
    lengths = [
        max(len(re.findall(r"\d+", task.answer)) for task in environment.tasks(level, 5, SEED)) for level in (1, 5)
    ]
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize(("taskset", "level", "last"), [("countdown", 6, 5), ("countdown", 0, 5), ("acre", 2, 1)])
def test_a_level_that_a_taskset_does_not_have_is_refused(taskset: str, level: int, last: int) -> None:
    with pytest.raises(UserError, match=f"reasoning-gym:{taskset} has levels 1 to {last}, not {level}"):
        find_environment(f"reasoning-gym:{taskset}").tasks(level, 1, SEED)


def test_the_policy_is_asked_for_tags_and_shown_them() -> None:
    environment, (task, *_) = drawn("chain_sum")
    assert task.prompt.endswith("\n\nPut the final answer in <answer></answer> tags.")
    assert environment.demonstration(task) == f"<answer>{task.answer}</answer>"
    assert environment.check(task, environment.demonstration(task)).ok


@pytest.mark.parametrize(
    "said", ["The answer is {}.", "I add them up.\nFinal answer: **{}**", "So it is $\\boxed{{{}}}$.", " {}\n"]
)
def test_an_answer_in_a_box_or_a_sentence_is_read_and_has_one_vote_with_the_bare_one(said: str) -> None:
    environment, (task, *_) = drawn("chain_sum")
    assert environment.check(task, said.format(task.answer)).ok
    assert environment.extract_answer(said.format(task.answer)) == task.answer
    assert not environment.check(task, said.format(int(task.answer) + 1)).ok


def test_the_last_answer_in_tags_counts() -> None:
    environment, (task, *_) = drawn("chain_sum")
    assert environment.check(task, f"<answer>1</answer> No: <answer> {task.answer} </answer>").ok
    assert not environment.check(task, f"<answer>{task.answer}</answer> No: <answer>x</answer>").ok


def test_a_verifier_that_fails_on_its_own_answer_is_not_blamed_on_the_policy() -> None:
    environment, (task, *_) = drawn("prime_factorization")
    assert environment.check(task, "no such answer") == (False, 0.0, "unreadable answer (ValueError)")
    with pytest.raises(KeyError):
        environment.check(task._replace(metadata='{"dict": []}'), "no such answer")


@pytest.mark.parametrize("taskset", [*RUN_WHAT_THEY_READ, *PARSE_WITH_SYMPY])
@pytest.mark.parametrize(
    "attack",
    [
        "open('made', 'w')",
        "[c for c in ().__class__.__base__.__subclasses__() if open('made', 'w')]",
        "__import__('os').mkdir('made')",
        "exit()",
    ],
)
def test_what_the_policy_writes_is_not_executed(taskset: str, attack: str, tmp_path: Path) -> None:
    environment, (task, *_) = drawn(taskset)
    assert not environment.check(task, attack).ok
    assert not list(tmp_path.iterdir())


def test_every_verifier_that_evaluates_text_is_known_here() -> None:
    # number_sorting evaluates nothing but its own answer.
    names = {taskset: factory.DATASETS[taskset][0].score_answer.__code__.co_names for taskset in TASKSETS}
    assert [t for t in TASKSETS if {"eval", "exec"} & set(names[t]) and t != "number_sorting"] == RUN_WHAT_THEY_READ
    assert [t for t in TASKSETS if "parse_expr" in names[t]] == PARSE_WITH_SYMPY


@pytest.mark.parametrize(
    "text", ["9**9**9**9", "9**(9**9)", "9**9999", "2 ** 10 ** 10", "x.a", "lambda", "1; 2", "f(x)(y)['a']"]
)
def test_what_is_not_plain_mathematics_never_reaches_sympy(text: str) -> None:
    assert not MATHEMATICS.fullmatch(text)


@pytest.mark.parametrize(
    "text", ["3*x**2/4 - 5.5*X + C", "(41*151 - 120)/120", "x*log(x)**2 + sqrt(x)*exp(-x)", ".5 + x**(3/2)"]
)
def test_plain_mathematics_reaches_sympy(text: str) -> None:
    assert MATHEMATICS.fullmatch(text)


@given(st.text("*+-()/x1. n", max_size=2000))
@settings(max_examples=50, deadline=2000)
def test_any_text_is_looked_through_in_no_time(text: str) -> None:
    MATHEMATICS.fullmatch(text * 5)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.fractions(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(st.integers() | st.tuples(st.text(), st.integers()))
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.integers(), st.integers()), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_comes_back_from_json_as_it_was(value: Any) -> None:
    back = _unpack(json.loads(json.dumps(_pack(value))))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [1j, find_environment("addition").restarts, frozenset({1}), b"bytes"])
def test_a_value_that_would_not_come_back_as_it_was_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        _pack({"value": value})


def test_an_unknown_taskset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="no reasoning-gym taskset 'countdwon': did you mean 'countdown'"):
        find_environment("reasoning-gym:countdwon")


def test_the_family_alone_is_refused_with_how_to_name_a_taskset() -> None:
    with pytest.raises(UserError, match="write reasoning-gym:NAME"):
        find_environment("reasoning-gym")


def test_without_reasoning_gym_one_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "reasoning_gym"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=re.escape("pip install 'selfloop[reasoning-gym]'")):
        find_environment("reasoning-gym:countdown")


def test_listing_the_environments_does_not_import_reasoning_gym() -> None:
    program = "import sys; from selfloop.environments import environments; environments()\n"
    program += "sys.exit(bool({'reasoning_gym', 'sympy', 'torch', 'pyarrow'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", program], check=True)
