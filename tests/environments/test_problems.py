"""Programming problems of small files in the shapes of public data sets, with programs that are right and wrong."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.environments import Environment, Grade, find_environment
from selfloop.environments.programs import READS
from selfloop.errors import UserError
from selfloop.problems import UnusableError, problem_of, solution_of
from selfloop.records import Task, to_batch

SUMS = {"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}
SUM = "import sys\nprint(sum(map(int, sys.stdin.read().split())))"
APPS = {
    "question": "Add up.",
    "input_output": json.dumps(SUMS),
    "difficulty": "interview",
    "starter_code": "",
    "solutions": json.dumps([SUM, "x"]),
}
CALLS = {
    "question": "Turn.",
    "difficulty": "competition",
    "starter_code": "class Solution:\n    def turn(self, xs: List[int]) -> List[int]:\n        ",
    "input_output": json.dumps({"fn_name": "turn", "inputs": [[[1, 2]], [[]]], "outputs": [[[2, 1]], [[]]]}),
    "solutions": "",
}
KEYS = APPS | {
    "question": "Power.",
    "input_output": {
        "fn_name": "power",
        "inputs": [[{"2": 7}, 5], [{"-3": 1, "0": 4}, 9]],
        "outputs": [[{"2": 3}], {"-3": 6, "0": 0}],
    },
}
POWER = "def power(d, by): return {key: pow(key, value, by) for key, value in d.items()}"
TURN = "class Solution:\n    def turn(self, xs: List[int]) -> List[int]:\n        return list(reversed(deque(xs)))"
LIVE = {
    "question_content": "Halve.",
    "difficulty": "easy",
    "starter_code": "class Solution:\n    def halve(self, n: int, by: str) -> float:\n        ",
    "metadata": json.dumps({"func_name": "halve"}),
    "public_test_cases": json.dumps([{"input": '3\n"x"', "output": "1.5", "testtype": "functional"}]),
    "private_test_cases": "eJxrYJmayQABCTxAUQVwNzWpODW9KLEktShVBwAkKQP7" * 2,
}
HALVE = "class Solution:\n    def halve(self, n, by): return n / 2 + 1e-9"
LIVE_READ = LIVE | {
    "question_content": "Echo.",
    "starter_code": "",
    "metadata": "{}",
    "public_test_cases": json.dumps([{"input": "a b", "output": "b a\n", "testtype": "stdin"}]),
}
CONTESTS: dict[str, Any] = {
    "description": "Is it even?",
    "public_tests": {"input": ["2\n"], "output": ["YES\n"]},
    "private_tests": {"input": ["3\n", "0\n"], "output": ["NO\n", "YES\n"]},
    "generated_tests": {"input": [], "output": []},
    "difficulty": 2,
    "solutions": {"language": [2, 3], "solution": ["int main() {}", "print('NO' if int(input()) % 2 else 'YES')"]},
}
MBPP: dict[str, Any] = {
    "text": "Double it.",
    "code": "def double(x):\n    return 2 * x",
    "test_list": ["assert double(2) == 4", "assert double('a') == 'aa'"],
}
HUMAN: dict[str, str] = {
    "prompt": 'from typing import List\n\n\ndef total(xs: List[int]) -> int:\n    """Add up."""\n',
    "canonical_solution": "    return sum(xs)\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0",
    "entry_point": "total",
}
QUERIES = {
    "apps": "prompt=question&tests=input_output&level=difficulty&starter=starter_code&answer=solutions",
    "live": "prompt=question_content&tests=public_test_cases&level=difficulty&starter=starter_code",
    "contests": "prompt=description&tests=public_tests,private_tests,generated_tests&level=difficulty&answer=solutions",
    "mbpp": "prompt=text&tests=test_list&answer=code",
    "human": "prompt=prompt&tests=test&function=entry_point&answer=canonical_solution",
}
"""How the public data sets are named; their rows below."""
ROWS: dict[str, list[dict[str, Any]]] = {
    "apps": [APPS, CALLS, KEYS | {"solutions": POWER}],
    "live": [LIVE, LIVE_READ],
    "contests": [CONTESTS],
    "mbpp": [MBPP],
    "human": [HUMAN],
}
ECHO = "print(' '.join(input().split()[::-1]))"
ATTEMPTS = [
    ("Add up.", f"It reads:\n```python\n{SUM}\n```\nFor example:\n```python\nprint(3)\n```", "correct"),
    ("Add up.", f"```python\n{SUM.replace('sum', 'max')}\n```", "wrong answer on test 1"),
    ("Add up.", "```python\nimport os\nprint(3, flush=True)\nos._exit(0)\n```", "ended before test 1"),
    ("Turn.", f"```python\n{TURN}\n```", "correct"),
    ("Turn.", "```python\ndef turn(xs):\n    return tuple(xs[::-1])\n```", "correct"),
    ("Turn.", "```python\ndef turn(xs):\n    return xs\n```", "wrong answer on test 1"),
    ("Turn.", f"```python\nprint('x')\n{TURN.replace('def turn', 'def spin')}\n```", "no such function"),
    ("Power.", "```python\ndef power(d, by): return [*d]\n```", "wrong answer on test 1"),
    ("Halve.", f"```python\n{HALVE}\n```", "correct"),
    ("Halve.", f"```python\n{HALVE.replace('/', '//')}\n```", "wrong answer on test 1"),
    ("Echo.", f"```python\n{ECHO}\n```", "correct"),
    ("Echo.", "```python\nprint(input())\n```", "wrong answer on test 1"),
    ("Is it even?", "```python\nprint('YES')\n```", "wrong answer on test 2"),
    ("Double it.", "```python\ndef double(x): return x * 2\n```", "correct"),
    ("Double it.", "```python\ndef double(x): return x ** 2\n```", "TypeError on test 2"),
    ("Add up.\"", "    return sum(xs)\n", "correct"),
    ("Add up.\"", "```python\ndef total(xs):\n    return len(xs) + 1\n```", "wrong answer on test 2"),
    ("Double it.", "```python\nwhile True: pass\n```", "timeout"),
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("own_cache")


def write(place: Path, rows: list[dict[str, Any]]) -> Path:
    if place.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    else:
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def of(place: Path, query: str, *rows: dict[str, Any]) -> Environment:
    return find_environment(f"programs:{write(place, list(rows))}?{query}")


def everything(environment: Environment) -> list[Task]:
    return [task for level in environment.levels or [1] for task in environment.tasks(level, 99, 1)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Environment]:
    place = tmp_path_factory.mktemp("problems")
    return {name: of(place / f"{name}.jsonl", f"{QUERIES[name]}&seconds=2", *rows) for name, rows in ROWS.items()}


@pytest.fixture(scope="module")
def tasks(sets: dict[str, Environment]) -> dict[str, Task]:
    """All tasks, by their first line, or of code their last."""
    found = [task for environment in sets.values() for task in everything(environment)]
    return {_told(task): task for task in found}


def _told(task: Task) -> str:
    return 'Add up."' if "def total" in task.prompt else task.prompt.split("\n")[0]


@pytest.fixture(scope="module")
def grades(sets: dict[str, Environment], tasks: dict[str, Task]) -> list[Grade]:
    """Of all attempts, then of all demonstrations, in one batch of whatever kinds."""
    pairs = [(tasks[prompt], attempt) for prompt, attempt, _ in ATTEMPTS]
    pairs += [(task, task.answer) for task in tasks.values() if task.answer]
    columns = sets["apps"].check_batch(
        to_batch(Task, [task for task, _ in pairs]), pa.array([said for _, said in pairs])
    )
    return [Grade(*row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]


@pytest.mark.debian("bubblewrap")
@pytest.mark.parametrize("number", range(len(ATTEMPTS)), ids=[f"{a[0]} {a[2]} {n}" for n, a in enumerate(ATTEMPTS)])
def test_problems_of_all_shapes_tell_right_programs_from_wrong_ones(grades: list[Grade], number: int) -> None:
    assert grades[number].reason == ATTEMPTS[number][2]


@pytest.mark.debian("bubblewrap")
def test_the_solutions_of_the_data_are_right(grades: list[Grade], tasks: dict[str, Task]) -> None:
    shown = [task for task in tasks.values() if task.answer]
    assert {_told(task) for task in shown} == {"Add up.", "Power.", "Is it even?", "Double it.", 'Add up."'}
    assert grades[len(ATTEMPTS) :] == [Grade(True, 1.0, "correct")] * len(shown)


@pytest.mark.debian("bubblewrap")
def test_a_program_alone_is_judged_as_in_a_batch(sets: dict[str, Environment], tasks: dict[str, Task]) -> None:
    for prompt, attempt, reason in ATTEMPTS[:4:3]:
        assert sets["mbpp"].check(tasks[prompt], attempt).reason == reason


def test_prompts_say_what_is_asked_for(tasks: dict[str, Task]) -> None:
    assert tasks["Add up."].prompt == f"Add up.\n\n{READS}"
    assert "Begin with this code:\n```python\nclass Solution:\n    def turn(" in tasks["Turn."].prompt
    assert "the method `turn` of a class `Solution`" in tasks["Turn."].prompt
    assert tasks["Double it."].prompt.startswith("Double it.\n\nWrite the Python function `double`.")
    assert tasks['Add up."'].prompt.startswith(HUMAN["prompt"])


def test_levels_in_words_are_numbers(sets: dict[str, Environment], tasks: dict[str, Task]) -> None:
    assert sets["apps"].levels == range(2, 4)
    assert sets["mbpp"].levels is None
    assert [tasks[prompt].level for prompt in ("Add up.", "Turn.", "Halve.", "Is it even?")] == [2, 3, 1, 2]


def test_the_same_seed_gives_the_same_tasks(sets: dict[str, Environment], tmp_path: Path) -> None:
    again = of(tmp_path / "again.jsonl", QUERIES["apps"], *ROWS["apps"][::-1])
    for one, other in zip(everything(sets["apps"]), everything(again), strict=True):
        assert (one.prompt, one.answer) == (other.prompt, other.answer)


def test_without_a_right_program_nothing_can_be_shown(sets: dict[str, Environment], tasks: dict[str, Task]) -> None:
    with pytest.raises(UserError, match=r"gives row 2 no program to show: name the column .* answer=COLUMN"):
        sets["apps"].demonstration(tasks["Turn."])
    assert sets["apps"].demonstration(tasks["Add up."]) == f"```python\n{SUM}\n```"


def test_without_an_instruction_a_policy_continues_the_prompt(tmp_path: Path) -> None:
    [task] = everything(of(tmp_path / "human.jsonl", f"{QUERIES['human']}&instruction=", HUMAN))
    assert (task.prompt, task.answer) == (HUMAN["prompt"], HUMAN["canonical_solution"])
    [task] = everything(of(tmp_path / "human.jsonl", f"{QUERIES['human']}&instruction=Go+on!", HUMAN))
    assert task.prompt == f"{HUMAN['prompt']}\n\nGo on!"
    assert task.answer.startswith("```python\nfrom typing import List\n\n\ndef total(")


@pytest.mark.parametrize("name", ["contests", "mbpp", "human", "live"])
def test_a_file_with_types_of_its_own_gives_the_same_tasks(
    sets: dict[str, Environment], name: str, tmp_path: Path
) -> None:
    typed = of(tmp_path / f"{name}.parquet", QUERIES[name], *ROWS[name])
    assert [task.metadata for task in everything(typed)] == [task.metadata for task in everything(sets[name])]


def test_rows_that_cannot_be_used_are_named_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bare = APPS | {"question": "None.", "input_output": ""}
    rows = [APPS, bare, APPS | {"question": "Odd.", "difficulty": "hellish"}]
    with pytest.raises(
        UserError, match=r"a\.jsonl: row 2 has no tests; or leave such rows out with unusable=leave-out\."
    ):
        everything(of(tmp_path / "a.jsonl", QUERIES["apps"], *rows))
    left = of(tmp_path / "a.jsonl", f"{QUERIES['apps']}&unusable=leave-out", *rows)
    assert [task.prompt for task in everything(left)] == [f"Add up.\n\n{READS}"]
    assert f"{tmp_path}/a.jsonl: 2 rows are left out. The first: {tmp_path}/a.jsonl: row 2 has no tests" in caplog.text


def test_asserts_that_cannot_be_judged_outside_are_named_by_their_row(tmp_path: Path) -> None:
    row = MBPP | {"test_list": ["try:\n    double(1)\nexcept ValueError:\n    assert True"]}
    with pytest.raises(UserError, match=r"a\.jsonl: row 1: The test .* cannot be judged outside the sandbox"):
        everything(of(tmp_path / "a.jsonl", QUERIES["mbpp"], row))


@pytest.mark.debian("bubblewrap")
def test_code_that_a_data_set_runs_before_a_program_is_run_before_it(tmp_path: Path) -> None:
    row = MBPP | {"test_setup_code": "def same(x):\n    return x"}
    for extra, one in (("", row), ("&setup=first", MBPP | {"first": row["test_setup_code"]})):
        environment = of(tmp_path / "a.jsonl", QUERIES["mbpp"] + extra, one)
        [task] = everything(environment)
        assert environment.check(task, "def double(x): return same(x) * 2").ok


@pytest.mark.parametrize("name", ["checker", "generated_checker", "special_judge"])
def test_a_problem_with_a_checker_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"row 1 has a '{name}'.*others are right"):
        everything(of(tmp_path / "a.jsonl", QUERIES["apps"], APPS | {name: "import sys"}))
    assert everything(of(tmp_path / "a.jsonl", QUERIES["apps"], APPS | {name: None}))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("prompt=text&tests=test_list,more", "has no column 'more'"),
        ("prompt=text&tests=test_list&function=name", "has no column 'name'"),
        ("prompt=text&tests=test_list&check=exact", "check"),
        ("prompt=text&tests=test_list&seconds=0", "seconds"),
        ("prompt=text&tests=test_list&unusable=forget", "unusable"),
    ],
)
def test_a_query_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, query: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        everything(of(tmp_path / "a.jsonl", query, MBPP))
    assert "\n" not in str(refused.value)


def test_a_family_without_a_place_is_refused() -> None:
    with pytest.raises(UserError, match=r"programs is a family: write programs:PATH\?prompt=COLUMN&tests=COLUMN\."):
        find_environment("programs")


@pytest.mark.parametrize(
    ("tests", "sentence"),
    [
        (None, "has no tests"),
        ("", "has no tests"),
        ([], "has no tests"),
        ({"inputs": [], "outputs": []}, "has no tests"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "has 1 inputs and 2 outputs"),
        ({"input": ["1"], "output": []}, "has 1 inputs and 0 outputs"),
        ({"inputs": [1], "outputs": ["1"]}, "has '1' for what is read or written"),
        ({"inputs": [["1", 2]], "outputs": ["1"]}, "for what is read or written"),
        ({"inputs": [3], "outputs": [3], "fn_name": "f"}, "has '3' for the arguments of 'f'"),
        ({"inputs": ["x"], "outputs": ["3"], "fn_name": "f"}, "which are to be JSON"),
        ({"inputs": ["1"], "outputs": ["NaN"], "fn_name": "f"}, "expects nan, which no value is equal to"),
        ([{"input": "1", "output": "1", "testtype": "functional"}], "tests of a function that nothing names"),
        ([{"input": "1", "output": "[1", "testtype": "functional"}], "which are to be JSON"),
        ([{"input": "1"}], "for tests: give assert statements"),
        ("def check(candidate):\n    assert candidate(1)", "tests of a function that nothing names"),
        ([["1", "2"]], "for tests: give assert statements"),
        ("no tests", "has 'no tests' for tests"),
        ("[1, 2", "has '[1, 2' for tests"),
        (7, "has '7' for tests"),
        (LIVE["private_test_cases"], "packs its private ones with pickle"),
        (["assert f(1)", {"input": "1", "output": "1"}], "has tests of more than one kind"),
        ({"inputs": ["1"], "outputs": ["x" * 2**23]}, "expected outputs of"),
        ({"inputs": ["x" * 2**23], "outputs": ["1"]}, "inputs of"),
        ({"inputs": [[1]], "outputs": ["x" * 2**17], "fn_name": "f"}, "run with 131072 at most"),
    ],
)
def test_tests_that_cannot_be_run_or_passed_are_refused(tests: object, sentence: str) -> None:
    for written in (tests, json.dumps(tests)) if isinstance(tests, list | dict) else (tests,):
        with pytest.raises(UnusableError) as refused:
            problem_of([written])
        assert sentence in str(refused.value)


def test_examples_hold_what_is_given_and_what_is_right() -> None:
    sums = [("1 2\n", ["3\n"]), ("3\n4", ["7"])]
    assert problem_of([SUMS, None, ""], "unused") == ("", (), sums)
    assert problem_of([json.dumps(SUMS)]) == ("", (), sums)
    wrapped = {"fn_name": "f", "inputs": [[{"1": 2}, {"a": 1}], [[]]], "outputs": [[3], [1, 2]]}
    assert problem_of([wrapped]) == ("f", (), [([{"1": 2}, {"a": 1}], [[3], 3]), ([[]], [[1, 2]])])
    lines = {"fn_name": "f", "inputs": ['[1]\n"x"\n'], "outputs": ["[1]"]}
    assert problem_of([lines]) == ("f", (), [([[1], "x"], [[1]])])
    assert problem_of([MBPP["test_list"]]) == ("", MBPP["test_list"], ())


def test_numbers_in_a_file_of_json_are_numbers(tmp_path: Path) -> None:
    row = CALLS | {"input_output": json.loads(str(CALLS["input_output"])), "solutions": [TURN]}
    [task] = everything(of(tmp_path / "nested.jsonl", QUERIES["apps"], row))
    assert json.loads(task.metadata)["tests"] == [[[[1, 2]], [[[2, 1]], [2, 1]]], [[[]], [[[]], []]]]


@pytest.mark.parametrize(
    ("value", "program"),
    [
        ("x = 1", "x = 1"),
        ('["x", "y"]', "x"),
        (["x", "y"], "x"),
        ([], ""),
        ("[]", ""),
        (None, ""),
        ("[0][0]", "[0][0]"),
        ({"language": ["2"], "solution": ["c"]}, ""),
        (CONTESTS["solutions"], "print('NO' if int(input()) % 2 else 'YES')"),
    ],
)
def test_of_several_solutions_the_first_is_shown(value: object, program: str) -> None:
    assert solution_of(value) == program


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["inputs", "outputs", "fn_name", "input", "output", "testtype", "x"]), inner
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.booleans())
def test_whatever_stands_there_is_a_problem_or_refused(value: Any, in_json: bool) -> None:
    with suppress(UnusableError):
        found = problem_of([json.dumps(value) if in_json else value])
        assert bool(found.asserts) != bool(found.examples)
