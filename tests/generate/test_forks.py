"""Windows that are drawn side by side are those that one process draws."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from selfloop import machine
from selfloop.adapters import digest_at
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.generate import GenerateParams, draw, forks
from selfloop.generate.forks import Source, Window, side_by_side
from selfloop.metering import metered
from selfloop.records import Rollout

PARAMS = GenerateParams(seed=3, greedy_first=False)


@pytest.fixture
def windows(trained: Path) -> list[Window]:
    """Five windows of different sizes, of one policy under two digests, as champion and candidate are."""
    first, second = (Source(str(trained), f"{digest_at(trained)}{name}") for name in ("", "+"))
    tasks = [Addition().tasks(level, 2 + level, seed=level) for level in (1, 2, 3)]
    return [*(Window(first, each) for each in tasks), *(Window(second, each) for each in tasks[:2])]


def drawn(windows: Sequence[Window], params: GenerateParams = PARAMS) -> tuple[list[list[Rollout]], list[int]]:
    """The rollouts of each window, and how many attempts were told of at a time."""
    told: list[int] = []
    return list(side_by_side(params, windows, lambda rollouts: told.append(len(rollouts)))), told


def on_cores(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(machine, "cores", lambda: number)
    monkeypatch.setattr(forks, "LEAST", 2)


def test_every_number_of_cores_draws_the_same(windows: list[Window], monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 1)
    with metered() as meter:
        alone, one_by_one = drawn(windows)
    assert set(one_by_one) == {1}
    for cores in (2, 3, 8):
        on_cores(monkeypatch, cores)
        with metered() as shared:
            together, told = drawn(windows)
        assert together == alone
        assert shared.drawn == meter.drawn > 0
        assert told == [len(each) for each in alone], "a fork tells of a whole window"


def test_what_a_killed_fork_had_to_draw_is_drawn_here(windows: list[Window], monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 1)
    alone, _ = drawn(windows)
    on_cores(monkeypatch, 2)
    parent = os.getpid()

    def killed_at_the_second(engine: Any, tasks: Any, *given: Any) -> Iterator[list[Rollout]]:
        if os.getpid() != parent and len(list(tasks)) != 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(engine, tasks, *given)

    monkeypatch.setattr(forks, "draw", killed_at_the_second)
    assert drawn(windows)[0] == alone


def test_a_mistake_is_said_in_a_sentence_by_the_parent(
    windows: list[Window], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    on_cores(monkeypatch, 2)
    foreign = [window._replace(tasks=[task._replace(prompt="?") for task in window.tasks]) for window in windows]
    wide = GenerateParams(seed=3, form="regex", pattern="(")
    with pytest.raises(UserError):
        drawn(foreign, wide)
    assert capfd.readouterr().err == ""


def test_no_fork_outlives_a_generation_that_is_left(windows: list[Window], monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    on_cores(monkeypatch, 2)
    before = set(psutil.Process().children())
    going = side_by_side(PARAMS, windows, lambda rollouts: None)
    next(going)
    assert set(psutil.Process().children()) > before
    going.close()
    left = set(psutil.Process().children()) - before
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]
