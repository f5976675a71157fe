"""The same rows whoever shares the work, and after a kill."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Dataset, Model
from selfloop import progress
from selfloop.artifacts import manifest_of
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.generate import GenerateParams, JoinParams, generate_rollouts, join_rollouts
from selfloop.generate.engines import has_vllm, open_engine
from selfloop.records import Rollout, Task, rows
from selfloop.stages import validated

from .. import forked
from ..conftest import sealed_table

pytestmark = pytest.mark.slow

PARAMS: dict[str, Any] = {"seed": 3, "window": 3, "greedy_first": False}
KILLED = textwrap.dedent("""
    import json, os, signal, sys
    from kfp.dsl import Dataset, Model
    from selfloop import progress
    from selfloop.generate import GenerateParams, generate_rollouts

    policy, tasks, rollouts, after = sys.argv[1:]

    def watcher(done, total, unit):
        if unit == "rollouts" and done >= int(after):
            os.kill(os.getpid(), signal.SIGKILL)

    with progress.watched_by(watcher):
        generate_rollouts.into(
            generate_rollouts.out(rollouts=Dataset(uri=rollouts)),
            GenerateParams(seed=3, window=3, greedy_first=False),
            policy=Model(uri=policy), tasks=Dataset(uri=tasks),
        )
""")


IN_PROCESS = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from kfp.dsl import Dataset, Model
    from selfloop.generate import GenerateParams, generate_rollouts
    from selfloop.modes.inprocess import InProcess, Silent

    policy, tasks, root, after = sys.argv[1:]

    class Killer(Silent):
        def stage_moves(self, done, total, unit):
            if unit == "rollouts":
                print(done)
                if done >= int(after):
                    os.kill(os.getpid(), signal.SIGKILL)

    params = GenerateParams(seed=3, window=3, greedy_first=False)
    inputs = {"policy": Model(uri=policy), "tasks": Dataset(uri=tasks)}
    InProcess(Path(root), Killer()).call(generate_rollouts, params, inputs)
""")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    made = [task for level in range(1, 5) for task in Addition().tasks(level, 3, seed=level)]
    return sealed_table(tmp_path_factory.mktemp("tasks") / "tasks", Task, [t._replace(attempts=2) for t in made])


@pytest.fixture
def generated(trained: Path, tasks: Dataset, tmp_path: Path) -> Callable[..., Dataset]:
    def generate(name: str, **params: Any) -> Dataset:
        rollouts = Dataset(uri=str(tmp_path / name))
        policy = Model(uri=str(trained))
        generate_rollouts.into(
            generate_rollouts.out(rollouts=rollouts), GenerateParams(**(PARAMS | params)), policy=policy, tasks=tasks
        )
        return rollouts

    return generate


def digest(rollouts: Dataset) -> str:
    return manifest_of(rollouts.path).digest


def test_several_processes_make_the_same_rows(generated: Callable[..., Dataset]) -> None:
    alone = generated("alone")
    assert digest(generated("shared", workers=2)) == digest(alone)
    assert len({rollout.completion for rollout in rows(alone.path, Rollout)}) > 8


def test_windows_of_a_process_that_died_are_drawn_again_once(
    generated: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    killed: list[int] = []

    def kills(done: int, total: int, unit: str) -> None:
        if unit == "rollouts" and done and not killed:
            killed.append(next(each.pid or 0 for each in multiprocessing.active_children()))
            os.kill(killed[-1], signal.SIGKILL)

    with progress.watched_by(kills):
        shared = generated("shared", workers=2)
    assert digest(shared) == digest(generated("alone"))
    assert "died; the" in caplog.text


def test_a_process_that_dies_of_the_same_windows_again_is_a_sentence_and_what_was_drawn_is_kept(
    generated: Callable[..., Dataset],
) -> None:
    kept: list[int] = []

    def kills(done: int, total: int, unit: str) -> None:
        if unit == "rollouts" and done:
            kept.append(done)
            for each in multiprocessing.active_children():
                os.kill(each.pid or 0, signal.SIGKILL)

    with (
        progress.watched_by(kills),
        pytest.raises(UserError, match=r"died twice \(at window \d+ or beside it\): lower"),
    ):
        generated("shared", window=1, workers=2)
    assert len(kept) >= 2, "a kill at least for each pool of processes: two windows may end at once"
    seen: list[int] = []
    with progress.watched_by(lambda done, total, unit: seen.append(done) if unit == "rollouts" else None):
        again = generated("shared", window=1)
    assert seen[0] >= kept[-1]
    assert digest(again) == digest(generated("alone", window=1))


def test_the_parts_of_several_pods_are_the_rows_of_one(generated: Callable[..., Dataset], tmp_path: Path) -> None:
    parts = [generated(f"part-{shard}", shards=3, shard=shard) for shard in range(3)]
    joined = Dataset(uri=str(tmp_path / "joined"))
    join_rollouts.into(join_rollouts.out(joined=joined), JoinParams(), parts=parts)
    assert digest(joined) == digest(generated("whole"))


@pytest.mark.parametrize("after", [4, 17])
def test_a_killed_stage_continues_inside_itself_and_comes_to_the_same_digest(
    trained: Path, tasks: Dataset, tmp_path: Path, generated: Callable[..., Dataset], after: int
) -> None:
    killed = tmp_path / "killed"
    done = forked.run("-c", KILLED, str(trained), tasks.path, str(killed), str(after))
    assert done.returncode == -signal.SIGKILL, done.stderr
    seen: list[tuple[int, int, str]] = []
    with progress.watched_by(lambda *moved: seen.append(moved)):
        again = generated("killed")
    found = next(done for done, _, unit in seen if unit == "rollouts")
    assert found == after // 6 * 6  # whole windows of three tasks with two attempts each
    assert seen[-1] == (24, 24, "rollouts")
    assert digest(again) == digest(generated("uninterrupted"))
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "uninterrupted"}


def test_a_run_in_process_keeps_the_windows_of_a_killed_stage(
    trained: Path, tasks: Dataset, tmp_path: Path, generated: Callable[..., Dataset]
) -> None:
    killed, finished = (
        forked.run("-c", IN_PROCESS, str(trained), tasks.path, str(tmp_path / "run"), after) for after in ("13", "25")
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert finished.stdout.split()[0] == "12", finished.stderr  # what it began with
    [made] = (tmp_path / "run" / "round-00").iterdir()
    assert {path.name for path in made.iterdir()} == {".key", "rollouts"}
    assert manifest_of(made / "rollouts").digest == digest(generated("plain"))


def test_windows_of_other_parameters_are_not_taken(
    trained: Path, tasks: Dataset, tmp_path: Path, generated: Callable[..., Dataset]
) -> None:
    killed = forked.run("-c", KILLED, str(trained), tasks.path, str(tmp_path / "other"), "17")
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".other.windows/*/window-*.parquet"))
    assert digest(generated("other", seed=4)) == digest(generated("plain", seed=4))


def test_a_worker_ends_with_the_process_that_started_it(trained: Path, tasks: Dataset, tmp_path: Path) -> None:
    program = KILLED.replace("window=3", "window=1, workers=2")
    command = [sys.executable, "-c", program, str(trained), tasks.path, str(tmp_path / "rollouts"), "4"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert started.wait(200) == -signal.SIGKILL
    assert started.stdout is not None
    assert started.stdout.read() == b""  # returns only when no process holds the pipe any more


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"shards": 2, "shard": 2}, "The shard must be below the number of shards"),
        ({"form": "choice"}, "The form 'choice' needs choices"),
        ({"stop": [""]}, "An empty stop text would end every completion"),
        ({"engine": "vlm"}, "'auto', 'transformers' or 'vllm'"),
    ],
)
def test_impossible_parameters_are_refused_before_anything_starts(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        validated(GenerateParams, given, "generate")


def test_an_engine_that_is_not_installed_is_a_sentence(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert not has_vllm()
    with pytest.raises(UserError, match="'vllm' is not installed here"):
        open_engine(GenerateParams(engine="vllm"), tmp_path, "")
    with pytest.raises(UserError, match="restarts its position ids"):
        open_engine(GenerateParams(engine="vllm"), trained, "")


def test_a_run_with_an_engine_that_is_not_installed_does_not_begin(
    typed: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = typed("run", "length-generalization", "--engine", "vllm")
    said = [line for line in done.stderr.splitlines() if line]
    assert (done.returncode, len(said)) == (1, 1), done.stderr
    assert "'vllm' is not installed here" in said[0]
    assert not list(tmp_path.rglob("run.json"))
    wrong = typed("run", "length-generalization", "--engine", "vlm")
    assert "'engine' of length-generalization.verify cannot be 'vlm'" in wrong.stderr


def test_auto_is_transformers_where_there_is_no_vllm(trained: Path) -> None:
    from selfloop.generate.engines.transformers import Transformers

    assert isinstance(open_engine(GenerateParams(), trained, "trained"), Transformers)
    assert os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") is None
