"""How large a compiled pipeline is, how many pods it asks for, and how long compiling takes.

For the default loop, a pod a stage and a pod a round, with the profile ``one-gpu``. On a cluster each task is a pod of
its own and one of a driver, each sub-graph one of a driver, and so is the pipeline. ``kept`` is what the cluster keeps
of a run whose rounds are all run (``modes/argo.py``). Seconds are the processor's, of the compilation alone, in a
process that has imported it.

Target: kept at most 60 kB a round, fused 14 kB, and 16 rounds a run; 10 rounds in less than 2 s.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import yaml
from measuring import in_turns, publish, show, spread, wants_small
from selfloop.modes.argo import cost
from selfloop.modes.compiling import compile_pipeline
from selfloop.profiles import find_profile
from selfloop.recipe import find_recipe

ROUNDS = {False: (1, 5, 10, 16), True: (1, 5, 10, 25, 50)}
REPEATS = 5
PROFILE = "one-gpu"


class Compiled(NamedTuple):
    """One compilation: its seconds, the bytes of the file and of what a cluster keeps, its tasks and sub-graphs."""

    seconds: float
    bytes: int
    kept: int
    tasks: int
    graphs: int

    @property
    def pods(self) -> int:
        """Those of the drivers too."""
        return 2 * self.tasks + self.graphs + 1


def compiled(rounds: int, fused: bool) -> Compiled:
    """Compile the default loop with so many rounds."""
    recipe, profile = find_recipe("length-generalization"), find_profile(PROFILE)
    settings = recipe.resolve({"rounds": rounds})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        began = process_time()
        compile_pipeline(recipe, settings, path, fused, profile)
        took = process_time() - began
        spec, platform = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
        tasks, graphs = counted(spec, spec["root"])
        return Compiled(took, path.stat().st_size, cost(spec, platform).stored, tasks, graphs)


def counted(spec: dict[str, Any], component: dict[str, Any]) -> tuple[int, int]:
    """The tasks with a pod of their own below a component, and the sub-graphs that hold others."""
    tasks = graphs = 0
    for task in component["dag"]["tasks"].values():
        called = spec["components"][task["componentRef"]["name"]]
        below = counted(spec, called) if "dag" in called else (1, -1)
        tasks, graphs = tasks + below[0], graphs + below[1] + 1
    return tasks, graphs


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    arms = {(rounds, fused): partial(compiled, rounds, fused) for fused, each in ROUNDS.items() for rounds in each}
    took = in_turns(
        {f"{n} rounds{', fused' * fused}": arm for (n, fused), arm in arms.items()}, 1 if small else REPEATS
    )
    rows = []
    for (rounds, fused), of_it in zip(arms, took.values(), strict=True):
        about = {"rounds": rounds, "a pod": "a round" if fused else "a stage", "pods": of_it[0].pods}
        sizes = {"kB": of_it[0].bytes / 1000, "kB kept": of_it[0].kept / 1000}
        rows.append(about | sizes | {"seconds": spread(each.seconds for each in of_it)})
    shown = [[f"{value:.0f}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    show(f"Compiled with profile {PROFILE}, median of {len(next(iter(took.values())))}", list(rows[0]), shown)
    publish("compiling", small, {"compiled": rows})


if __name__ == "__main__":
    main()
