"""Steps a second of on-policy training: selfloop's own loop, and TRL's ``GRPOTrainer`` at the same settings.

Two policies, briefly pretrained so that the rewards of a group differ: the default one (133,184 parameters) on sums of
one and two digits, and one of 447,072 parameters on countdown. A step draws 64 attempts in groups of 8, has the
environment's own verifier judge them, and takes one AdamW step (fused) with GRPO's advantages. Both arms are called as
``reinforce_policy`` calls them, on one thread, with the same tasks in the same order; what TRL draws is its own. TRL's
arm is given every advantage that costs nothing: no logging, no checkpoints, no model card. The addition policy counts
positions as any Llama does here, since TRL cannot draw with its scheme. A step's time is that between the ends of the
steps behind the first tenth; the arms take turns. ``trl as it comes`` leaves TRL's default on, which computes the
activations of a step twice (gradient checkpointing); the other two arms compute them once. ``solved`` is the mean
reward: the arms have to come to about the same for the work to be alike.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from measuring import in_turns, publish, ratios, show, spread, wants_small
from selfloop import progress
from selfloop.environments import find_environment
from selfloop.finetune.offline.encoding import Encoded
from selfloop.finetune.offline.pretraining import PretrainParams, new_policy
from selfloop.finetune.offline.supervised import train
from selfloop.finetune.online.collector import RolloutCollector, StrategyStates
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.rewards import RewardContext
from selfloop.finetune.online.small_trainer import SmallTrainer
from selfloop.finetune.online.trl_trainer import train_by_trl
from selfloop.finetune.running.training import Plan
from selfloop.policy import Policy, fresh, save
from selfloop.propose.curricula import TaskPool
from selfloop.records import Example

REPEATS = 3
PRETRAINED = 400
"""Steps of supervised training, enough for some attempts to be right and some not."""
BATCH, GROUP = 64, 8


class Setting(NamedTuple):
    """A policy, and what it is trained on."""

    pretrain: PretrainParams
    levels: tuple[int, ...]
    max_tokens: int


SETTINGS = {
    "addition": Setting(PretrainParams(environment="addition"), (1, 2, 3), 8),
    "countdown": Setting(
        PretrainParams(environment="countdown", hidden_size=96, layers=4, heads=4, intermediate_size=256),
        (1, 2),
        16,
    ),
}


class Took(NamedTuple):
    """Milliseconds a step, by the clock and by the processor, and the mean reward."""

    wall: float
    cpu: float
    solved: float


def pretrained(setting: Setting, place: Path, steps: int) -> int:
    """A policy that solves some of the tasks. Returns its parameters."""
    environment, params = find_environment(setting.pretrain.environment), setting.pretrain
    policy = new_policy(params)
    if hasattr(policy.model.config, "position_restarts"):
        del policy.model.config.position_restarts
    examples = [
        Example(task.id, task.level, task.prompt, environment.demonstration(task), 0)
        for level in setting.levels
        for task in environment.tasks(level, 2000, level)
    ]
    order = [number * 7919 % len(examples) for number in range(steps * BATCH)]
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(steps, BATCH, params.lr, lambda step: min(1.0, (step + 1) / 50), 0.05, 0, Path(scratch))
        train(policy, Encoded(policy, examples, order), plan, after_step=lambda step: False)
    save(policy, place)
    return int(policy.model.num_parameters())


def trained(setting: Setting, place: Path, steps: int, trainer: str) -> Took:
    """Train by one arm."""
    environment = find_environment(setting.pretrain.environment)
    tasks = [task for level in setting.levels for task in environment.tasks(level, 200, 77 + level)]
    params = ReinforceParams(
        environment=environment.name,
        batch_size=BATCH,
        group_size=GROUP,
        max_tokens=setting.max_tokens,
        steps=steps,
        lr=1e-5,
        engine="transformers",
        gradient_checkpointing=trainer == "trl as it comes",
    )
    policy, ends = fresh(place), list[tuple[float, float]]()
    pool = TaskPool(tasks, setting.levels, lambda purpose: 0)
    states, context = StrategyStates.of_round(params, pool, {}), RewardContext(params.environment, params, 0, BATCH)
    collector = RolloutCollector(params, policy, pool, states, context)

    def ended(done: int, total: int, unit: str) -> None:
        ends.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as scratch, progress.watched_by(ended):
        ARMS[trainer](params, policy, Plan.of(params, 0, Path(scratch), steps), collector)
    assert len(ends) == steps
    first = steps // 10
    wall, cpu = (
        (after - before) * 1000 / (steps - 1 - first) for before, after in zip(ends[first], ends[-1], strict=True)
    )
    return Took(wall, cpu, fmean(collector.by_draw))


def own(params: ReinforceParams, policy: Policy, plan: Plan, collector: RolloutCollector) -> None:
    """Our loop."""
    SmallTrainer(params, policy, plan, collector).train()


ARMS: dict[str, Callable[[ReinforceParams, Policy, Plan, RolloutCollector], Any]] = {
    "own": own,
    "trl": train_by_trl,
    "trl as it comes": train_by_trl,
}


def measured(name: str, setting: Setting, small: bool) -> dict[str, Any]:
    """What the arms took for one policy."""
    steps, repeats = (10, 1) if small else (40, REPEATS)
    with tempfile.TemporaryDirectory() as scratch:
        parameters = pretrained(setting, Path(scratch), 50 if small else PRETRAINED)
        took = in_turns({arm: partial(trained, setting, Path(scratch), steps, arm) for arm in ARMS}, repeats)
    rows = {
        arm: {
            "ms_per_step": spread(each.wall for each in of_arm),
            "cpu_ms_per_step": spread(each.cpu for each in of_arm),
            "over_own": ratios([each.wall for each in of_arm], [each.wall for each in took["own"]]),
            "cpu_over_own": ratios([each.cpu for each in of_arm], [each.cpu for each in took["own"]]),
            "solved": spread(each.solved for each in of_arm),
        }
        for arm, of_arm in took.items()
    }
    show(
        f"{name}, {parameters:,} parameters: {steps} steps, median of {repeats} (lowest–highest)",
        ["trainer", "ms a step", "CPU ms", "over own", "CPU over own", "solved"],
        [(arm, *row.values()) for arm, row in rows.items()],
    )
    arms = {arm: {key: value._asdict() for key, value in row.items()} for arm, row in rows.items()}
    return {"parameters": parameters, "steps": steps, "trainers": arms}


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    publish("on_policy", small, {name: measured(name, setting, small) for name, setting in SETTINGS.items()})


if __name__ == "__main__":
    main()
