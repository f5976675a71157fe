"""The runs of a claim: each in a process and a folder of its own, found again when they are finished.

What the arms of a seed have in common, such as the policy that they begin with, is made by one of them for all.
They are kept out of MLflow and tell no webhook, also where the environment names one: a claim moves no champion.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.artifacts import code_digest, read_json, write_json
from selfloop.errors import HaltedError, UserError
from selfloop.modes.inprocess import RUN, claimed, complete

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from selfloop.recipe import Recipe
    from selfloop.settings import Settings

APART = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "SELFLOOP_WEBHOOK_URL")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HALTED = "halted"
"""A metric that each run has: 1 where a guard stopped it."""


class Run(NamedTuple):
    """One arm in one setup with one seed."""

    setup: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.setup} {self.arm} {self.seed}"


class Outcome(NamedTuple):
    """What became of a run: the recipe's figures, NaN where it came to no number; or why it did not end.

    ``seconds`` are those of a run that was never stopped; ``code`` is the digest of the code that finished it.
    """

    run: Run
    metrics: Mapping[str, float]
    halted: str = ""
    failed: str = ""
    seconds: float | None = None
    code: str = ""


def planned(recipe: Recipe[Any], seeds: Sequence[int], arms: Sequence[str] = ()) -> list[Run]:
    """The runs that the statements of a recipe need, those of one seed after another; ``arms`` leaves out others."""
    claims = recipe.claims
    assert claims is not None
    return [Run(setup, arm, seed) for seed in seeds for setup, arm in claims.cells if not arms or arm in arms]


def settings_of(recipe: Recipe[Any], run: Run) -> Settings:
    """The settings of one run. Raises ``UserError`` where the recipe has no such settings.

    The held-out items of its rounds are its seed's own: items that all seeds share would be no part of their spread,
    and an interval over seeds would be too narrow by them. The arms of one seed share them.
    """
    assert recipe.claims is not None
    overrides = recipe.claims.overrides(*run)
    settings: Settings = recipe.resolve(*overrides)
    own = {}
    for name, kind in settings.stages().items():
        if "item_seeds" in kind.model_fields:
            number = len(getattr(settings, name).item_seeds)
            own[name] = {"item_seeds": [run.seed * number + each for each in range(number)]}
    items_of_seed: Settings = recipe.resolve(*overrides, own)
    return items_of_seed


def place_of(recipe: Recipe[Any], run: Run, root: Path) -> Path:
    """The folder of a run: another for other settings."""
    whole = json.dumps(settings_of(recipe, run).overrides(), sort_keys=True)
    return root / run.setup / f"{run.arm}-{run.seed}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def found(recipe: Recipe[Any], run: Run, root: Path) -> Outcome | None:
    """What became of a run that came to its end; none of one that did not begin, was stopped or failed."""
    place = place_of(recipe, run, root)
    kept = _kept(place)
    if kept is None:
        return None
    metrics = {name: math.nan if value is None else value for name, value in kept["metrics"].items()}
    outcome = Outcome(run, metrics, kept["halted"], kept["failed"], kept["seconds"], kept["code"])
    return None if outcome.failed else outcome


def all_found(recipe: Recipe[Any], runs: Sequence[Run], root: Path) -> dict[Run, Outcome]:
    """What became of those runs that came to their end."""
    return {run: outcome for run in runs if (outcome := found(recipe, run, root))}


def measured(
    name: str, recipe: Recipe[Any], runs: Sequence[Run], root: Path, jobs: int
) -> Generator[Outcome, None, None]:
    """Make these runs, ``jobs`` at a time, and give each one's outcome as it ends. ``name`` is how to find the recipe.

    A run that fails gives the reason, and the others continue. Closed, or killed, it takes the runs at work with it.
    """
    context = multiprocessing.get_context("forkserver")  # which imports what every run needs once
    context.set_forkserver_preload(["selfloop.modes.inprocess"])
    surroundings = {key: value for key, value in os.environ.items() if key not in APART} | dict.fromkeys(THREADS, "1")
    waiting = list(reversed(runs))
    at_work: dict[int, tuple[BaseProcess, Run]] = {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                run = _next(waiting, [run for _, run in at_work.values()])
                process: BaseProcess = context.Process(target=_work, args=(name, run, root, surroundings))
                with _stopped_afterwards():
                    process.start()
                    at_work[process.sentinel] = process, run
            for sentinel in wait(list(at_work)):
                assert isinstance(sentinel, int)
                process, run = at_work.pop(sentinel)
                process.join()
                yield _told(recipe, run, root, process.exitcode or 0)
    finally:
        for process, _ in at_work.values():
            process.kill()
            process.join()


def _next(waiting: list[Run], at_work: Sequence[Run]) -> Run:
    """Take the last run of those that have nothing in common with one at work; the last where all have."""
    busy = {(run.setup, run.seed) for run in at_work}
    free = [at for at, run in enumerate(waiting) if (run.setup, run.seed) not in busy]
    return waiting.pop(free[-1] if free else -1)


@contextmanager
def _stopped_afterwards() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block: half begun, a process would complain, and be lost."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears them
        yield
        return
    heard: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: heard.append(number)) for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold a folder of runs: one claim at a time is measured in it."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "claim.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another 'selfloop claim' is at work in {root}: wait for it, or choose another --output."
            ) from None
        yield


def _told(recipe: Recipe[Any], run: Run, root: Path, exit: int) -> Outcome:
    place = place_of(recipe, run, root)
    kept = _kept(place)
    if outcome := found(recipe, run, root):
        return outcome
    ended = (
        f"its process ended with {f'signal {-exit}' if exit < 0 else f'exit code {exit}'}; see {_beside(place, 'log')}"
    )
    return Outcome(run, {}, failed=kept["failed"] if kept else ended)


def _beside(place: Path, kind: str) -> Path:
    """The file of a kind that goes with a run's folder."""
    return place.with_name(f"{place.name}.{kind}")


def _kept(place: Path) -> Any:
    file = _beside(place, "json")
    return read_json(file.parent, file.name) if file.is_file() else None


def _work(name: str, run: Run, root: Path, surroundings: Mapping[str, str]) -> None:
    """One run, in a process of its own that ends with its parent. ``surroundings`` is its environment."""
    threading.Thread(target=_follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ.clear()
    os.environ.update(surroundings)
    from selfloop.recipe import find_recipe

    recipe = find_recipe(name)
    place = place_of(recipe, run, root)
    place.parent.mkdir(parents=True, exist_ok=True)
    file = _beside(place, "json")
    file.unlink(missing_ok=True)
    with _beside(place, "log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    write_json(file.parent, _outcome(recipe, run, place, root), file.name)


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _outcome(recipe: Recipe[Any], run: Run, place: Path, root: Path) -> dict[str, Any]:
    """What became of a run, as it is kept. A failure is an outcome: its reason is what there is to say."""
    _clear_other_code(place)
    resumed, began = place.exists(), time.perf_counter()
    outcome: dict[str, Any] = {"metrics": {}, "halted": "", "failed": "", "seconds": None, "code": code_digest()}
    settings = settings_of(recipe, run)
    try:
        with claimed(place, recipe, settings):
            _, numbers = complete(recipe, settings, place, beside=_arms_of_its_seed(recipe, run, root))
        outcome["metrics"] = {name: _number(value) for name, value in numbers.items()} | {HALTED: 0.0}
    except HaltedError as error:
        outcome |= {"metrics": {HALTED: 1.0}, "halted": str(error)}
    except UserError as error:
        outcome["failed"] = str(error)
    except Exception as error:
        traceback.print_exc()
        outcome["failed"] = f"{type(error).__name__}: {error}; see {_beside(place, 'log')}"
    if not resumed:
        outcome["seconds"] = round(time.perf_counter() - began, 1)
    return outcome


def _arms_of_its_seed(recipe: Recipe[Any], run: Run, root: Path) -> list[Path]:
    """The folders of those other arms in the same setup and with the same seed that came to their end."""
    assert recipe.claims is not None
    others = (run._replace(arm=arm) for setup, arm in recipe.claims.cells if setup == run.setup and arm != run.arm)
    return [place_of(recipe, each, root) for each in others if found(recipe, each, root)]


def _clear_other_code(place: Path) -> None:
    """A run that another version of the code began cannot continue: begin it anew."""
    with suppress(FileNotFoundError):
        if read_json(place, RUN)["code"] != code_digest():
            shutil.rmtree(place)


def _number(value: Any) -> float | None:
    """A measure as JSON has it; none where it is no number that there is."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
