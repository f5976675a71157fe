"""A recipe over several seeds, its control arm beside it, measured the same way: the tables of the README."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from selfloop.artifacts import read_json, write_json
from selfloop.errors import HaltedError, UserError
from selfloop.loop import loop_of
from selfloop.machine import model
from selfloop.modes.inprocess import InProcess, Listener, claimed, complete
from selfloop.modes.noting import check
from selfloop.recipe import Recipe
from selfloop.report.history import read_history
from selfloop.settings import START, Settings
from selfloop.stages import executed_by


class Row(NamedTuple):
    """One run: what was measured of the base and of the champion, and what it took; or why a guard halted it.

    ``course`` is the champion's pass@1 on the target suite, round by round, before each round's candidate was heard.
    """

    arm: str
    seed: int
    base: dict[str, Any]
    champion: dict[str, Any]
    rounds: int
    promoted: int
    kept: int
    precision: float
    seconds: float
    halted: str = ""
    course: Sequence[float] = ()


class Gain(NamedTuple):
    """The mean of the champions' measures less their bases', and its 95 % interval over the seeds (Student's t)."""

    mean: float
    low: float
    high: float
    seeds: int


def gains(rows: Sequence[Row]) -> dict[str, dict[str, Gain]]:
    """What each arm gained in each measure. A run that was halted keeps no measure and counts for none."""
    from scipy import stats

    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name in row.base.keys() & row.champion.keys():
            found.setdefault(row.arm, {}).setdefault(name, []).append(row.champion[name] - row.base[name])
    gained: dict[str, dict[str, Gain]] = {}
    for arm, measures in found.items():
        for name, values in measures.items():
            mean = fmean(values)
            low, high = mean, mean
            if len(set(values)) > 1:
                low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
            gained.setdefault(arm, {})[name] = Gain(mean, float(low), float(high), len(values))
    return gained


def run_arms(
    recipe: Recipe[Any], arms: Mapping[str, Sequence[Settings]], root: Path, listener: Listener | None = None
) -> Iterator[Row]:
    """Run each arm with each of its settings, one run after the other; finished runs are found and not run again.

    They are kept out of MLflow, also where the environment names one: a bench moves no champion.
    """
    for arm, settings in arms.items():
        for each in settings:
            yield _run(recipe, each, root / f"{arm}-{each.seed}", arm, listener)


def _run(recipe: Recipe[Any], settings: Settings, root: Path, arm: str, listener: Listener | None) -> Row:
    if settings.origin != START:
        raise UserError(f"A bench begins at the start, not at {settings.origin}: leave origin out.")
    check(recipe, settings)
    settings, note = _on_this_machine(settings), "bench.json"
    with claimed(root, recipe, settings), _untracked():
        began, champion, halted = time.perf_counter(), dict[str, Any](), ""
        try:
            last, measured = complete(recipe, settings, root, listener)
            champion, history = dict(measured), last.history.path
        except HaltedError as error:
            halted, history = str(error), _newest_history(root)
        seconds = time.perf_counter() - began
        if (root / note).exists():  # a run that was found finished took no time now
            seconds = read_json(root, note)["seconds"]
        else:
            write_json(root, {"seconds": seconds}, note)
        base = _measure_base(recipe, settings, root)
    rounds = read_history(history)["rounds"]
    audits = [round["audit"] for round in rounds if round["audit"]]
    right, wrong = (sum(a[name] for a in audits) for name in ("true_positive", "false_positive"))
    return Row(
        arm=arm,
        seed=settings.seed,
        base=base,
        champion=champion,
        rounds=len(rounds),
        promoted=sum(round["decision"]["promoted"] for round in rounds),
        kept=sum(sum(round["kept"].values()) for round in rounds),
        precision=right / max(right + wrong, 1),
        seconds=seconds,
        halted=halted,
        course=[round["decision"]["suites"]["target"]["champion"]["pass@1"] for round in rounds],
    )


@contextmanager
def _untracked() -> Iterator[None]:
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _on_this_machine(settings: Settings) -> Settings:
    """The settings with a policy of the registry, which these runs do not know, as the folder that it lies in."""
    if not settings.policy.startswith("models:/"):
        return settings
    from selfloop import lineage

    return settings.model_copy(update={"policy": str(lineage.policy_of(settings.policy))})


def _newest_history(root: Path) -> Path:
    return max(root.glob("round-*/close_round-*/new_history"), key=lambda path: path.stat().st_mtime)


def _measure_base(recipe: Recipe[Any], settings: Settings, root: Path) -> dict[str, Any]:
    with executed_by(InProcess(root)):  # the start is finished, so it is found, not run
        loop, of_round = loop_of(recipe), settings.for_round(0)
        return dict(loop.measure(of_round, loop.start(of_round)))


def machine() -> dict[str, str]:
    """Where and when a number was measured, and with what."""
    names = ("selfloop", "torch", "transformers", "kfp", "mlflow")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{model()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
