import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from selfloop.environments import environments

from ..forked import CLI
from .conftest import DATA

pytestmark = pytest.mark.slow

PROBLEMS = f"{DATA}/problems.jsonl?prompt=question&tests=input_output&level=difficulty&answer=solutions"
READERS = ("dataset", "gsm8k", "math", "programs")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Command) -> Command:
    """``selfloop list environments``. What reads a data set has a process of its own: the Hub's libraries read their
    environment while they are imported.
    """
    monkeypatch.setenv("COLUMNS", "80")
    surroundings = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "datasets-cache"),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        if not words or words[0].partition(":")[0] not in READERS:
            return typed("list", "environments", *words)
        command = [sys.executable, *CLI, "list", "environments", *words]
        return subprocess.run(
            command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=surroundings
        )

    return run


def sections(shown: str) -> list[list[str]]:
    return [part.splitlines() for part in shown.split("\nlevel ")[1:]]


@pytest.mark.parametrize(
    "name",
    [
        "addition",
        "arithmetic",
        "countdown",
        "reverse",
        "reasoning-gym:countdown",
        f"gsm8k:{DATA}/gsm8k",
        f"math:{DATA}/math",
        pytest.param(f"programs:{PROBLEMS}", marks=pytest.mark.debian("bubblewrap")),
    ],
    ids=lambda name: name.split("/")[0],
)
def test_an_environment_shows_three_tasks_and_its_verifier_tells_right_from_wrong(show: Command, name: str) -> None:
    done = show(name)
    assert (done.returncode, done.stderr) == (0, "")
    parts = sections(done.stdout)
    assert len(parts) == 3
    for lines in parts:
        words = [line[2:13].strip() for line in lines if line.startswith("  ") and line[2:13].strip()]
        assert words == ["prompt", "answer", "right one", "damaged", "another's", "empty"]
        verdicts = [line.split()[0] for line in lines if ", score " in line]
        assert verdicts == ["right,", "wrong,", "wrong,", "wrong,"]


def test_a_data_set_of_ones_own_is_shown_in_lines_that_fit_and_cannot_steer_the_terminal(
    show: Command, tmp_path: Path
) -> None:
    long = "\\n".join(f"Line {n} " + "of many words " * 10 for n in range(40))
    rows = [f'{{"prompt": "{long} \\u001b[31m number {n}", "answer": "{n}"}}\n' for n in range(9)]
    (tmp_path / "long.jsonl").write_text("".join(rows))
    done = show("dataset:long.jsonl?check=contains")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    first = sections(done.stdout)[0]
    assert len(first) < 40
    assert any("more lines ..." in line for line in first)
    assert max(len(line.rstrip()) for line in first) <= 80


def test_the_list_has_a_line_on_each(show: Command) -> None:
    done = show()
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines() if line[1:2].strip()} >= environments().keys()


def test_the_hub_out_of_reach_is_a_sentence(show: Command) -> None:
    done = show("gsm8k")
    assert (done.returncode, done.stdout) == (1, "")
    assert "openai/gsm8k cannot be read as a data set: Couldn't reach" in done.stderr
    assert done.stderr.count("\n") == 1
