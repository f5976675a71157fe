"""What the loop costs over the bare arithmetic of the same run: digests, tables, checks, MLflow, the report.

A first run, which also warms the imports, keeps every call of the arithmetic that its stages make, with what the call
was given: texts encoded and policies trained (``pretrain``, ``finetune``), attempts drawn (``generate``, ``evaluate``,
``measure``). The bare arm makes the same calls again in the same order, on weights and tables in memory, and must come
to the same losses and the same texts. The loop arm is a whole run with MLflow in a new sqlite file. The file's schema
is made once a machine, by MLflow, so that time stands on a line of its own and is left out of the overhead. The bare
arm trains as the loop does, on two cores where there are, and draws on one. The loop draws on all that there are, and
so may take less than its bare arithmetic. The first run trains on one core: that the losses agree is held as well.

Target: overhead of at most 10 %.
"""

from __future__ import annotations

import copy
import logging
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from measuring import SMALL, console, in_turns, publish, ratios, seconds, show, spread, wants_small
from selfloop import lineage, machine
from selfloop.finetune.offline import encoding, supervised
from selfloop.finetune.running.training import Trained
from selfloop.generate import draw, forks
from selfloop.modes import inprocess
from selfloop.recipe import Recipe, find_recipe
from selfloop.report.history import read_history, read_moments
from selfloop.report.render import render
from selfloop.settings import Settings
from selfloop.stages import Stage

REPEATS = 3
STORE = "new MLflow store"
ELSEWHERE = "between stages"


class Call(NamedTuple):
    """One call of the arithmetic: whose it is, how to make it again, how to come to where it started, what it gave."""

    stage: str
    again: Callable[[], Any]
    reset: Callable[[], None]
    gave: Any


class Clock:
    """A listener that adds up the seconds of each stage."""

    def __init__(self) -> None:
        self.stage = ""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.stages: Counter[str] = Counter()
        self._began = 0.0

    def stage_begins(self, round: int, stage: Stage) -> None:
        self.stage, self._began = stage.verb, time.perf_counter()

    def stage_moves(self, done: int, total: int, unit: str) -> None:
        pass

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        self.seconds[stage.verb] += time.perf_counter() - self._began
        self.stages[stage.verb] += 1


class Kept:
    """Keeps the calls of the arithmetic while a run makes them."""

    def __init__(self, clock: Clock) -> None:
        self.calls: list[Call] = []
        self._clock = clock

    def encode(self, *given: Any) -> encoding.Encoded:
        made = Encoded(*given)
        self._keep(partial(Encoded, *given), None)
        return made

    def train(self, policy: Any, data: Any, plan: Any, *given: Any) -> Trained:
        weights, schedule = copy.deepcopy(policy.model.state_dict()), plan.schedule
        state = dict(getattr(schedule, "__dict__", {}))

        def reset() -> None:
            policy.model.load_state_dict(weights)
            getattr(schedule, "__dict__", {}).update(state)

        trained = train(policy, data, plan, *given)
        self._keep(lambda: train(policy, data, plan, *given).loss, trained.loss, reset)
        return trained

    def draw(self, engine: Any, tasks: Any, params: Any, told: Any) -> Iterator[list[Any]]:
        tasks = list(tasks)
        gave = list(draw(engine, tasks, params, told))
        self._keep(lambda: list(draw(engine, tasks, params)), gave)
        return iter(gave)

    def _keep(self, again: Callable[[], Any], gave: Any, reset: Callable[[], None] = lambda: None) -> None:
        self.calls.append(Call(self._clock.stage, again, reset, gave))


Encoded, train = encoding.Encoded, supervised.train


@contextmanager
def keeping(kept: Kept) -> Iterator[None]:
    """Put the keeping of calls before the arithmetic."""
    places = [(encoding, "Encoded", kept.encode), (supervised, "train", kept.train)]
    places += [(forks, "draw", kept.draw), (machine, "cores", lambda: 1)]  # what forks draw is not heard of here
    with ExitStack() as stack:
        for module, name, instead in places:
            stack.enter_context(patch.object(module, name, instead))
        yield


def loop(recipe: Recipe[Any], settings: Settings, clock: Clock) -> dict[str, float]:
    """One whole run with MLflow, as the command does it. Returns seconds by stage, and those between the stages."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place}/mlflow.db"
        began = time.perf_counter()
        store = seconds(make_store)
        with lineage.tracked_run("run", settings.overrides(), place / "mlflow-run.txt", place / "mlflow") as run_id:
            last, measured = inprocess.run(recipe, settings, place / "run", clock)
            moments, page = read_moments(last.history.path), place / "report.html"
            page.write_text(render(read_history(last.history.path), moments, measured), encoding="utf-8")
            lineage.finish(run_id, page, measured)
        total = time.perf_counter() - began
    return {**clock.seconds, ELSEWHERE: total - store - sum(clock.seconds.values()), STORE: store}


def make_store() -> None:
    """Let MLflow make its schema, without a word."""
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    MlflowClient().search_experiments(max_results=1)


def bare(calls: list[Call]) -> dict[str, float]:
    """Make the calls again. Returns their seconds by stage; raises where one comes to something else than before."""
    found: defaultdict[str, float] = defaultdict(float)
    for call in calls:
        call.reset()
        began = time.perf_counter()
        gave = call.again()
        found[call.stage] += time.perf_counter() - began
        assert call.gave is None or gave == call.gave, f"{call.stage} gave something else than before"
    return dict(found)


def lines(arms: Mapping[str, list[dict[str, float]]], stages: Mapping[str, int]) -> list[dict[str, Any]]:
    """For each stage its seconds in both arms, and the difference as a share of all bare arithmetic: medians."""
    found = []
    bare_total = spread(sum(took.values()) for took in arms["bare"]).median
    for name in arms["loop"][0]:
        took, of_it = ([each.get(name, 0.0) for each in arms[arm]] for arm in ("loop", "bare"))
        over = spread(a - b for a, b in zip(took, of_it, strict=True)).median
        medians = {"loop": spread(took).median, "bare": spread(of_it).median, "over": over}
        found.append({"what": name, "times": stages.get(name, 1), **medians, "share": over / bare_total})
    return sorted(found, key=lambda line: -line["over"])


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    recipe = find_recipe("length-generalization")
    settings = recipe.resolve(SMALL if small else {"seed": 0, "schedule": {"target": 12}})
    clock = Clock()
    kept = Kept(clock)
    with keeping(kept):
        loop(recipe, settings, clock)
    console.print(f"[dim]kept {len(kept.calls)} calls of {clock.stages.total()} stages[/]")
    arms = in_turns(
        {"bare": lambda: bare(kept.calls), "loop": lambda: loop(recipe, settings, Clock())}, 1 if small else REPEATS
    )
    below = [sum(took.values()) for took in arms["bare"]]
    with_store = [sum(took.values()) for took in arms["loop"]]
    above = [whole - took[STORE] for whole, took in zip(with_store, arms["loop"], strict=True)]
    overhead, first = ratios(above, below), ratios(with_store, below)
    by_stage = lines(arms, clock.stages)
    show(
        "Where the overhead goes (medians)",
        ["stage", "times", "loop s", "bare s", "over s", "of bare %"],
        [
            (r["what"], r["times"], *(f"{r[name]:.2f}" for name in ("loop", "bare", "over")), f"{r['share']:.2%}")
            for r in by_stage
        ],
    )
    show(
        f"{clock.stages['propose']} rounds, {len(below)} repeats",
        ["", "median (lowest–highest)"],
        [
            ("bare arithmetic, s", spread(below)),
            ("loop, s", spread(above)),
            ("loop / bare", overhead),
            ("loop / bare, with a new MLflow store", first),
        ],
    )
    numbers = {
        "settings": settings.overrides(),
        "rounds": clock.stages["propose"],
        "bare_seconds": below,
        "loop_seconds": above,
        "overhead": {name: value - 1 for name, value in overhead._asdict().items()},
        "overhead_with_new_store": {name: value - 1 for name, value in first._asdict().items()},
        "stages": by_stage,
    }
    publish("overhead", small, numbers)


if __name__ == "__main__":
    main()
