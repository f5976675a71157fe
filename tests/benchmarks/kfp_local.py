"""What KFP adds: seconds a stage by ``kfp.local`` over the same stage in process.

Both arms run the small configuration of the tests with one round and with three. The difference of the two is the cost
of two rounds, in which start-up, the base policy and the end of a run cancel. MLflow is off, compiled modules are
cached. Of each stage it is shown how long its function worked, in which a task of KFP's imports what in process is
there already, and how long it took from then to the work of the next stage: sealing, and by KFP the end of one process
and the beginning of another.

Target: at most 1.5 s a stage over the same stage in process.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from measuring import SMALL, cached_bytecode, in_turns, publish, seconds, show, spread, wants_small
from selfloop.artifacts import sidecar_of
from selfloop.modes.compiling import run_locally
from selfloop.modes.inprocess import run
from selfloop.recipe import Recipe, find_recipe
from selfloop.settings import Settings

FEW, MANY = 1, 3
REPEATS = 3


class Ran(NamedTuple):
    """Seconds of a run; of each stage, by its name, the seconds of its work and those from there to the next."""

    seconds: float
    work: dict[str, list[float]]
    after: dict[str, list[float]]


def ran(mode: Callable[[Recipe[Any], Settings, Path], Any], recipe: Recipe[Any], rounds: int) -> Ran:
    """Run the small configuration with so many rounds, quietly."""
    settings = recipe.resolve(SMALL, {"rounds": rounds})
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        root = Path(folder, "run")
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            took = seconds(lambda: mode(recipe, settings, root))
        return Ran(took, *moments(root))


def moments(root: Path) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The seconds of each stage's work, and those from its end to the next one's beginning."""
    known = {
        (moment["began"], moment["seconds"], moment["stage"])
        for path in root.rglob("manifest.json")
        if "began" in (moment := sidecar_of(path.parent))
    }
    work: dict[str, list[float]] = defaultdict(list)
    after: dict[str, list[float]] = defaultdict(list)
    ordered = sorted(known)
    for (began, took, stage), (next_began, _, _) in pairwise(ordered):
        work[stage].append(took)
        after[stage].append(next_began - began - took)
    return work, after


def a_round(few: list[Ran], many: list[Ran]) -> list[float]:
    """Seconds of one round, a number a repeat."""
    return [(b.seconds - a.seconds) / (MANY - FEW) for a, b in zip(few, many, strict=True)]


def stages_of_a_round(recipe: Recipe[Any]) -> int:
    """The stages of one round."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "run")
        run(recipe, recipe.resolve(SMALL, {"rounds": 1}), root)
        return len(list(root.glob("round-01/*"))) - 1  # the measurement at the end is no part of the round


def by_stage(took: dict[str, list[Ran]]) -> dict[str, dict[str, float]]:
    """Median seconds of each stage in the longer runs of both modes: at work, and from there to the next stage."""
    runs = {name: took[f"{name} {MANY}"] for name in ("in process", "kfp.local")}
    return {
        stage: {
            f"{name} {part}": spread(s for ran in of_mode for s in getattr(ran, part).get(stage, [0.0])).median
            for name, of_mode in runs.items()
            for part in ("work", "after")
        }
        for stage in runs["kfp.local"][0].work
    }


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    logging.disable(logging.WARNING)
    recipe = find_recipe("length-generalization")
    number = stages_of_a_round(recipe)
    modes: dict[str, Callable[[Recipe[Any], Settings, Path], Any]] = {"in process": run, "kfp.local": run_locally}
    arms = {f"{name} {n}": partial(ran, mode, recipe, n) for name, mode in modes.items() for n in (FEW, MANY)}
    with cached_bytecode():
        ran(run_locally, recipe, FEW)
        took = in_turns(arms, 1 if small else REPEATS)
    rounds = {name: a_round(took[f"{name} {FEW}"], took[f"{name} {MANY}"]) for name in modes}
    over = spread((b - a) / number for a, b in zip(rounds["in process"], rounds["kfp.local"], strict=True))
    stages = by_stage(took)
    show(
        f"A round of the small configuration, median of {len(took['kfp.local 1'])} (lowest–highest)",
        ["", "s"],
        [(name, spread(values)) for name, values in rounds.items()] + [("over in process, a stage", over)],
    )
    show(
        "Stages, median seconds",
        ["stage", *next(iter(stages.values()))],
        [(name, *(f"{s:.2f}" for s in row.values())) for name, row in stages.items()],
    )
    numbers = {
        "stages_of_a_round": number,
        "seconds_a_round": rounds,
        "seconds_a_stage_over_in_process": over._asdict(),
        "stages": stages,
    }
    publish("kfp_local", small, numbers)


if __name__ == "__main__":
    main()
