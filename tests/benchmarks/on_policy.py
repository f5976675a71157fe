"""Steps a second of on-policy training: selfloop's own loop, and TRL's ``GRPOTrainer`` at the same settings.

Two policies, briefly pretrained so that the rewards of a group differ: the default one (133,184 parameters) on sums of
one and two digits, and one of 447,072 parameters on countdown. A step draws 64 attempts in groups of 8, has the
environment's own verifier judge them, and takes one AdamW step (fused) with GRPO's advantages. Both arms are called as
``reinforce_policy`` calls them, on one thread, with the same tasks in the same order; what TRL draws is its own. TRL's
arm is given every advantage that costs nothing: no logging, no checkpoints, no model card. The addition policy counts
positions as any Llama does here, since TRL cannot draw with its scheme. A step's time is that between the ends of the
steps behind the first tenth; the arms take turns. ``solved`` is the share of rewards above 0, which has to be of the
same order for the work to be alike.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from selfloop import progress
from selfloop.environments import find_environment
from selfloop.finetune.encoded import Encoded
from selfloop.finetune.kernel import Kernel
from selfloop.finetune.practice import InTurn, Practice, Verified
from selfloop.finetune.pretrain import PretrainParams, _new_policy
from selfloop.finetune.reinforce import ReinforceParams
from selfloop.finetune.reinforcing import by_trl
from selfloop.finetune.training import Plan, train
from selfloop.policy import Policy, fresh, save
from selfloop.records import Example, Task
from selfloop.verify import VerifyParams

REPEATS = 5
PRETRAINED = 600
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
    """Steps a second, attempts' tokens a second, and the share of rewards above 0."""

    steps: float
    solved: float


def pretrained(setting: Setting, place: Path, steps: int) -> int:
    """A policy that solves some of the tasks. Returns its parameters."""
    environment, params = find_environment(setting.pretrain.environment), setting.pretrain
    policy = _new_policy(params)
    if hasattr(policy.model.config, "position_restarts"):
        del policy.model.config.position_restarts
    examples = [
        Example(task.id, task.level, task.prompt, environment.written(task), 0)
        for level in setting.levels
        for task in environment.tasks(level, 2000, level)
    ]
    order = [number * 7919 % len(examples) for number in range(steps * BATCH)]
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(steps, BATCH, params.lr, lambda step: min(1.0, (step + 1) / 50), 0.05, 0, Path(scratch))
        train(policy, Encoded(policy, examples, order), plan, after_step=lambda step: False)
    save(policy, place)
    return int(policy.model.num_parameters())


def practised(setting: Setting, place: Path, steps: int, trainer: str) -> Took:
    """Train one arm."""
    environment = find_environment(setting.pretrain.environment)
    tasks: list[Task] = [task for level in setting.levels for task in environment.tasks(level, 200, 77 + level)]
    params = ReinforceParams(
        environment=setting.pretrain.environment,
        verifier="exact",
        batch_size=BATCH,
        group_size=GROUP,
        max_tokens=setting.max_tokens,
        steps=steps,
        lr=1e-5,
        engine="transformers",
    )
    policy, ends = fresh(place), list[float]()
    rewards = Verified(VerifyParams(environment=params.environment, verifier=params.verifier))
    practice = Practice(params, policy, InTurn(tasks, 0), rewards)
    with (
        tempfile.TemporaryDirectory() as scratch,
        progress.watched_by(lambda done, total, unit: ends.append(time.perf_counter())),
    ):
        plan = Plan.of(params, 0, Path(scratch), steps)
        ARMS[trainer](params, policy, plan, practice)
    assert len(ends) == steps
    first = steps // 10
    solved = fmean(reward > 0 for reward in practice.by_draw)
    return Took((steps - 1 - first) / (ends[-1] - ends[first]), fmean(practice.by_draw) if solved else 0.0)


def own(params: ReinforceParams, policy: Policy, plan: Plan, practice: Practice) -> None:
    """Our loop."""
    Kernel(params, policy, plan, practice).train()


ARMS: dict[str, Callable[[ReinforceParams, Policy, Plan, Practice], Any]] = {"own": own, "trl": by_trl}
