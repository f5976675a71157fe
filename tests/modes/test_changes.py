"""What a user changed is made anew, and nothing else is."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Dataset
from selfloop.artifacts import manifest_of
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, fetch_policy
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.modes.inprocess import InProcess, Silent, content_key
from selfloop.propose import DrawParams, draw_tasks
from selfloop.records import Example
from selfloop.stages import Stage, executed_by
from selfloop.verify import VerifyParams, verify_rollouts

from ..conftest import sealed_table

FILES = {
    "c_environment.py": """
from selfloop.environments import ExactAnswer
from selfloop.records import Task
from c_numbers import FIRST
class Counting(ExactAnswer):
    name = "counting"
    def tasks(self, level, count, seed):
        return [Task(f"t{seed}-{n}", level, "", f"{n + FIRST}+1=", str(n + FIRST + 1)) for n in range(count)]
""",
    "c_numbers.py": "FIRST = 0\n",
    "c_verifier.py": """
import pyarrow as pa
from selfloop.verify.contract import ended
def believing(rollouts, tasks, context):
    from c_marks import SCORE
    rows = rollouts.num_rows
    return ended(rollouts, pa.array([True] * rows), pa.array([SCORE] * rows), pa.array(["correct"] * rows))
""",
    "c_marks.py": "SCORE = 1.0\n",
    "c_stage.py": """
from typing import NamedTuple
from kfp.dsl import Dataset
from selfloop.records import Rollout, Task, rows, writing
from selfloop.stages import Params, stage
class Answered(NamedTuple):
    rollouts: Dataset
@stage()
def answer_tasks(out: Answered, params: Params, tasks: Dataset) -> None:
    "Attempt each task, and solve it."
    with writing(out.rollouts.path, Rollout) as table:
        table.write([Rollout(t.id, t.level, 0, t.prompt, t.answer, True, 1) for t in rows(tasks.path, Task)])
""",
    "c_nobody.py": "UNUSED = 1\n",
    "d.jsonl": "".join(f'{{"prompt": "q{n}", "answer": "{n}"}}\n' for n in range(16)),
}
ALL = ["draw_tasks", "answer_tasks", "verify_rollouts", "filter_rollouts"]
Loop = Callable[..., list[str]]


class Heard(Silent):
    """Which stages ran, and which were found finished."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        if not skipped:
            self.ran.append(stage.name)


def forget(folder: Path) -> None:
    """Be as a process that has imported nothing of a folder yet."""
    from selfloop import strategies

    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]
    strategies._own.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "own"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    forget(folder)


def calls(root: Path, replay_pool: Dataset, environment: str) -> list[str]:
    """Four stages, of which one is the user's own. Returns those that were not found finished."""
    heard = Heard()
    with executed_by(InProcess(root, heard)):
        tasks = draw_tasks(DrawParams(environment=environment, per_level=3, items_per_level=1)).tasks
        rollouts = importlib.import_module("c_stage").answer_tasks(_nothing(), tasks=tasks).rollouts
        verify = VerifyParams(environment=environment, verifier="c_verifier:believing")
        verdicts = verify_rollouts(verify, tasks=tasks, rollouts=rollouts).verdicts
        filter_rollouts(FilterParams(select=["all"]), rollouts=rollouts, verdicts=verdicts, replay_pool=replay_pool)
    return heard.ran


def _nothing() -> Any:
    return importlib.import_module("c_stage").Params()


@pytest.fixture
def loop(own: Path, tmp_path: Path) -> Loop:
    """The same command in one folder, each time by a new process."""
    replay_pool = sealed_table(tmp_path / "replay_pool", Example, [])

    def run(environment: str = "c_environment:Counting") -> list[str]:
        forget(own)
        return calls(tmp_path / "run", replay_pool, environment)

    return run


@pytest.mark.parametrize(
    ("file", "before", "after", "anew"),
    [
        ("c_nobody.py", "1", "2", []),
        ("c_verifier.py", "rows =", "rows  =", ["verify_rollouts"]),
        ("c_verifier.py", "[True]", "[False]", ["verify_rollouts", "filter_rollouts"]),
        ("c_marks.py", "1.0", "0.5", ["verify_rollouts", "filter_rollouts"]),
        ("c_environment.py", "count, seed", "count,  seed", ["draw_tasks", "verify_rollouts"]),
        ("c_environment.py", "+1=", "+1 =", ALL),
        ("c_numbers.py", "0", "7", ALL),
        ("c_stage.py", "and solve it", "and solve  it", ["answer_tasks"]),
    ],
)
def test_what_depends_on_a_changed_module_runs_anew_and_nothing_else_does(
    loop: Loop, own: Path, file: str, before: str, after: str, anew: list[str]
) -> None:
    assert loop() == ALL
    assert loop() == []
    (own / file).write_text(FILES[file].replace(before, after, 1))
    assert loop() == anew
    assert loop() == []
    (own / file).write_text(FILES[file])
    assert loop() == []


def test_what_depends_on_a_changed_data_set_runs_anew_and_nothing_else_does(loop: Loop, own: Path) -> None:
    environment = f"dataset:{own}/d.jsonl"
    assert loop(environment) == ALL
    (own / "d.jsonl").write_text(FILES["d.jsonl"].replace("\n", " \n"))
    assert loop(environment) == ["draw_tasks", "verify_rollouts"]
    (own / "d.jsonl").write_text(FILES["d.jsonl"].replace('"answer": "', '"answer": "the '))
    assert loop(environment) == ALL
    assert loop(environment) == []


def test_a_data_set_that_kept_its_time_is_read_anew(own: Path) -> None:
    answers = []
    for answer in ("1", "2"):
        (own / "d.jsonl").write_text(f'{{"prompt": "q", "answer": "{answer}"}}\n')
        os.utime(own / "d.jsonl", ns=(10**18, 10**18))
        answers += [task.answer for task in find_environment(f"dataset:{own}/d.jsonl").tasks(1, 1, 0)]
    assert answers == ["1", "2"]


def test_manifests_say_what_was_brought(loop: Loop, tmp_path: Path) -> None:
    loop()
    [drawn], [verified], [filtered] = (
        [manifest_of(place).brought for place in (tmp_path / "run").glob(f"round-00/{name}")]
        for name in ("draw_tasks-*/tasks", "verify_rollouts-*/verdicts", "filter_rollouts-*/examples")
    )
    assert drawn.keys() == {"c_environment"}
    assert verified == drawn | {"c_verifier": verified["c_verifier"]}
    assert filtered == {}


def test_a_module_that_changes_under_a_process_is_not_taken_for_what_runs(
    loop: Loop, own: Path, tmp_path: Path
) -> None:
    loop()
    (own / "c_marks.py").write_text("SCORE = 0.5\n")
    with pytest.raises(UserError, match=r"c_marks\.py has changed since this process imported it"):
        calls(tmp_path / "run", sealed_table(tmp_path / "none", Example, []), "c_environment:Counting")


def test_equal_content_in_another_folder_has_the_same_key(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = sealed_table(tmp_path / "tasks", Example, [])

    def keys(folder: Path) -> list[str]:
        forget(own)
        answer = importlib.import_module("c_stage").answer_tasks
        data = DrawParams(environment=f"dataset:{folder}/d.jsonl")
        verify = VerifyParams(verifier="c_verifier:believing")
        fetch = FetchParams(source=str(folder))
        return [
            content_key(draw_tasks, data, {}),
            content_key(answer, answer.params(), {"tasks": tasks}),
            content_key(verify_rollouts, verify, {"tasks": tasks, "rollouts": tasks}),
            content_key(fetch_policy, fetch, {}),
        ]

    before = keys(own)
    moved = own.rename(tmp_path / "moved")
    monkeypatch.syspath_prepend(str(moved))
    assert keys(moved) == before
    (moved / "c_nobody.py").write_text("UNUSED = 2\n")
    after = keys(moved)
    assert (after[:3], after[3] != before[3]) == (before[:3], True)
    forget(moved)
