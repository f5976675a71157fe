"""What the loop costs over the bare arithmetic of the same run: digests, tables, checks, MLflow, the report.

A first run, which also warms the imports, keeps every call of the arithmetic that its stages make, with what the call
was given: texts encoded and policies trained (``pretrain``, ``finetune``), attempts drawn (``generate``, ``evaluate``,
``measure``). The bare arm makes the same calls again in the same order, on weights and tables in memory, and must come
to the same losses and the same texts. The loop arm is a whole run with MLflow in a new sqlite file. The file's schema
is made once a machine, by MLflow, so that time stands on a line of its own and is left out of the overhead. The bare
arm trains as the loop does, on two cores where there are, and draws on one. The loop draws on all that there are, and
so may take less than its bare arithmetic. The first run trains on one core: that the losses agree is held as well.

The script arm does the same work as a script of plain PyTorch and transformers does it: the same texts in the same
batches through ``LlamaForCausalLM`` and AdamW, the same prompts through a cache of keys and values, a token at a time,
on one thread and on all. It draws other tokens, checks nothing and writes nothing.

Targets: overhead of at most 10 %; at most 1.3 times what the script takes, on as many threads as it is faster.
"""

from __future__ import annotations

import copy
import logging
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from measuring import SMALL, console, in_turns, publish, ratios, seconds, show, spread, wants_small
from selfloop import lineage, machine
from selfloop.finetune.offline import encoding, supervised
from selfloop.finetune.running.training import Plan, Trained, never
from selfloop.generate import GenerateParams, draw, forks
from selfloop.modes import inprocess
from selfloop.policy import Policy, next_positions, position_ids, restarts_of
from selfloop.recipe import Recipe, find_recipe
from selfloop.records import Task
from selfloop.report.history import read_history, read_moments
from selfloop.report.render import render
from selfloop.settings import Settings
from selfloop.stages import Stage
from transformers import DynamicCache

REPEATS = 3
STORE = "new MLflow store"
ELSEWHERE = "between stages"


class Call(NamedTuple):
    """One call of the arithmetic: whose it is, how to make it again, how to come to where it started, what it gave, and
    how a script does the same work.
    """

    stage: str
    again: Callable[[], Any]
    reset: Callable[[], None]
    gave: Any
    plainly: Callable[[], object]


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
        self._keep(partial(Encoded, *given), None, partial(Encoded, *given))
        return made

    def train(self, policy: Any, data: Any, plan: Any, *given: Any, **named: Any) -> Trained:
        weights, schedule = copy.deepcopy(policy.model.state_dict()), plan.schedule
        state = dict(getattr(schedule, "__dict__", {}))

        def reset() -> None:
            policy.model.load_state_dict(weights)
            getattr(schedule, "__dict__", {}).update(state)

        trained = train(policy, data, plan, *given, **named)
        plainly = partial(plain_train, policy, data, plan, *given)
        self._keep(lambda: train(policy, data, plan, *given, **named).loss, trained.loss, plainly, reset)
        return trained

    def draw(self, engine: Any, tasks: Any, params: Any, told: Any) -> Iterator[list[Any]]:
        tasks = list(tasks)
        gave = list(draw(engine, tasks, params, told))
        self._keep(lambda: list(draw(engine, tasks, params)), gave, partial(plain_draw, engine, tasks, params))
        return iter(gave)

    def _keep(
        self,
        again: Callable[[], Any],
        gave: Any,
        plainly: Callable[[], object],
        reset: Callable[[], None] = lambda: None,
    ) -> None:
        self.calls.append(Call(self._clock.stage, again, reset, gave, plainly))


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


def script(calls: list[Call], threads: int) -> float:
    """Do the work of the calls plainly. Returns the seconds that it took."""
    took = 0.0
    for call in calls:
        call.reset()
        torch.set_num_threads(threads)
        took += seconds(call.plainly)
    torch.set_num_threads(1)
    return took


def plain_train(policy: Policy, data: encoding.Encoded, plan: Plan, after_step: Callable[[int], bool] = never) -> None:
    """A training as one writes it by hand."""
    model = policy.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, plan.schedule)
    for step in range(plan.steps):
        batch = data.batch(data.order[step * plan.batch_size : (step + 1) * plan.batch_size])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        if after_step(step + 1):
            return


@torch.inference_mode()
def plain_draw(engine: Any, tasks: list[Task], params: GenerateParams) -> None:
    """A generation as one writes it by hand: a batch is drawn until its last text ends."""
    policy: Policy = vars(engine)["_policy"]
    model, restarts, end = policy.model.eval(), restarts_of(policy), policy.ends[0]
    asked = [prompt for task in tasks for prompt in policy.encode([task.prompt]) * params.attempts_at(task)]
    for first in range(0, len(asked), params.batch_size):
        given = policy.tokenizer.pad({"input_ids": asked[first : first + params.batch_size]}, return_tensors="pt")
        token, mask = given["input_ids"], given["attention_mask"]
        position = position_ids(policy, token, mask)
        assert position is not None
        cache, ended = DynamicCache(config=model.config), torch.zeros(len(token), 1, dtype=torch.bool)
        texts: list[torch.Tensor] = []
        while not ended.all() and len(texts) < params.max_tokens:
            said = model(input_ids=token, attention_mask=mask, position_ids=position, past_key_values=cache)
            chances = torch.softmax(said.logits[:, -1] / params.temperature, -1)
            token, before, position = torch.multinomial(chances, 1), token[:, -1:], position[:, -1:]
            position = next_positions(restarts, before, token, position)
            mask = torch.cat([mask, torch.ones_like(token)], 1)
            ended |= token == end
            texts.append(token)
        policy.tokenizer.batch_decode(torch.cat(texts, 1))


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
    arms: dict[str, list[Any]] = in_turns(
        {
            "bare": lambda: bare(kept.calls),
            "loop": lambda: loop(recipe, settings, Clock()),
            "script": lambda: script(kept.calls, 1),
            "script, all threads": lambda: script(kept.calls, machine.cores()),
        },
        1 if small else REPEATS,
    )
    below = [sum(took.values()) for took in arms["bare"]]
    with_store = [sum(took.values()) for took in arms["loop"]]
    above = [whole - took[STORE] for whole, took in zip(with_store, arms["loop"], strict=True)]
    overhead, first = ratios(above, below), ratios(with_store, below)
    scripts = {name: arms[name] for name in ("script", "script, all threads")}
    over_script = ratios(above, min(scripts.values(), key=statistics.median))
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
            *((f"{name}, s", spread(took)) for name, took in scripts.items()),
            ("loop / bare", overhead),
            ("loop / bare, with a new MLflow store", first),
            ("loop / script", over_script),
        ],
    )
    numbers = {
        "settings": settings.overrides(),
        "rounds": clock.stages["propose"],
        "bare_seconds": below,
        "loop_seconds": above,
        "script_seconds": scripts,
        "loop_over_script": over_script._asdict(),
        "overhead": {name: value - 1 for name, value in overhead._asdict().items()},
        "overhead_with_new_store": {name: value - 1 for name, value in first._asdict().items()},
        "stages": by_stage,
    }
    publish("overhead", small, numbers)


if __name__ == "__main__":
    main()
