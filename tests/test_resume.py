"""Killed with -9 at any moment, a run continues where it stopped and comes to the same digests."""

import json
import shutil
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from . import forked
from .conftest import digests

pytestmark = pytest.mark.slow

DRIVER = textwrap.dedent("""
    import json, os, signal, sys
    from pathlib import Path
    from selfloop.modes.inprocess import Silent, run
    from selfloop.recipe import find_recipe

    name, root, small, event, stage_name, number = sys.argv[1:]

    class Killer(Silent):
        at_work, ran = "", []

        def happens(self, what, round):
            if (what, self.at_work) == (event, stage_name) and self.round == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

        def stage_begins(self, round, stage):
            self.at_work, self.round = stage.name, round
            self.ran.append(f"{round} {stage.name}")
            self.happens("begins", round)

        def stage_moves(self, done, total, unit):
            self.happens("moves", self.round)

        def stage_ends(self, round, stage, outputs, skipped):
            if not skipped:
                self.happens("ends", round)

    recipe, killer = find_recipe(name), Killer()
    run(recipe, recipe.resolve(json.loads(small)), Path(root), killer)
    print(json.dumps(killer.ran))
""")

STAGES_A_ROUND = 7


def driven(recipe: str, root: Path, small: dict[str, Any], *when: str) -> subprocess.CompletedProcess[str]:
    """A run in a process of its own, which is killed with -9 when a stage of a round comes to an event."""
    return forked.run("-c", DRIVER, recipe, str(root), json.dumps(small), *when)


def _drive(root: Path, small: dict[str, Any], *when: str) -> subprocess.CompletedProcess[str]:
    return driven("length-generalization", root, small, *when)


@pytest.mark.parametrize(
    ("event", "stage", "round", "ran_again"),
    [
        ("moves", "pretrain_policy", 0, 2 + 2 * STAGES_A_ROUND + 1),
        ("ends", "verify_rollouts", 1, 2 * STAGES_A_ROUND + 1 - 3),
        ("moves", "finetune_policy", 2, STAGES_A_ROUND + 1 - 4),
        ("begins", "close_round", 2, 2),
    ],
)
def test_a_killed_run_continues_and_comes_to_the_same_digests(
    tmp_path: Path, finished_run: Path, small: dict[str, Any], event: str, stage: str, round: int, ran_again: int
) -> None:
    killed = _drive(tmp_path / "run", small, event, stage, str(round))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = _drive(tmp_path / "run", small, "never", "", "0")
    assert resumed.returncode == 0, resumed.stderr
    assert len(json.loads(resumed.stdout)) == ran_again
    assert digests(tmp_path / "run") == digests(finished_run)


@pytest.mark.parametrize("what", ["results", "returned.json", "results/manifest.json"])
def test_what_was_removed_because_it_was_damaged_is_made_again(
    tmp_path: Path, finished_run: Path, small: dict[str, Any], what: str
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    stage = "close_round" if what == "returned.json" else "evaluate_policies"
    damaged = next((tmp_path / "run" / "round-02").glob(f"{stage}-*")) / what
    if damaged.is_dir():
        shutil.rmtree(damaged)
    else:
        damaged.unlink()
    again = _drive(tmp_path / "run", small, "never", "", "0")
    assert json.loads(again.stdout) == [f"2 {stage}"], again.stderr
    assert digests(tmp_path / "run") == digests(finished_run)


def test_of_the_reports_of_a_run_the_newest_is_kept(finished_run: Path) -> None:
    assert [page.parts[-3] for page in finished_run.glob("round-*/close_round-*/report")] == ["round-02"]


def test_a_finished_run_runs_nothing_again(finished_run: Path, small: dict[str, Any]) -> None:
    again = _drive(finished_run, small, "never", "", "0")
    assert json.loads(again.stdout) == []
