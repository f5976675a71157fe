"""Seconds a step of three trainers: a bare PyTorch loop, transformers' Trainer as selfloop uses it, TRL's SFTTrainer.

Every arm starts from the same weights of the default policy (133,184 parameters, one thread) and takes the same 64
texts of 1 to 4 digits in each step, with AdamW (fused), clipping at 1 and a constant rate. The batches are gathered
from the same ``Encoded`` texts inside the clock. SFTTrainer insists on a ``datasets.Dataset``: it gets one of row
numbers, with its preparation skipped, and a collator that gathers these rows, so it neither tokenizes nor pads anew;
its defaults that would change the arithmetic (bf16, gradient checkpointing) are off, its metrics stay as they are. All
arms must come to the same loss after ``CHECKED`` steps, which warm them up too. A step's time is that between the ends
of the steps behind the first tenth; ``set-up`` is the rest of a call, a Trainer's construction in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from measuring import in_turns, publish, ratios, show, spread, wants_small
from selfloop.environments import find_environment
from selfloop.finetune.offline.encoding import Encoded
from selfloop.finetune.offline.pretraining import PretrainParams, new_policy
from selfloop.finetune.offline.supervised import train
from selfloop.finetune.running.training import Plan
from selfloop.policy import Policy
from selfloop.records import Example
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

PARAMS = PretrainParams()
CHECKED = 20
"""Steps after which the arms are compared: to the bit alike here; float noise in TRL's arm has grown to 4 % by 200."""
REPEATS = 3
LEVELS, PER_LEVEL = 4, 4000


Ended = Callable[[], bool]
Arm = Callable[[Policy, Encoded, int, Ended], None]


class Took(NamedTuple):
    """Seconds of one step and of everything but the steps, and the loss that the arm came to on all texts."""

    step: float
    set_up: float
    loss: float


def texts() -> list[Example]:
    """The texts to train on."""
    environment = find_environment(PARAMS.environment)
    return [
        Example(task.id, task.level, task.prompt, task.answer, 0)
        for level in range(1, LEVELS + 1)
        for task in environment.tasks(level, PER_LEVEL, level)
    ]


def timed(arm: Arm, examples: list[Example], steps: int) -> Took:
    """Train a new policy with one arm, which calls back at the end of each step."""
    policy = new_policy(PARAMS)
    order = np.random.default_rng(0).integers(len(examples), size=steps * PARAMS.batch_size)
    data = Encoded(policy, examples, order)
    ends: list[float] = []

    def ended() -> bool:
        ends.append(time.perf_counter())
        return False

    began = time.perf_counter()
    arm(policy, data, steps, ended)
    whole = time.perf_counter() - began
    assert len(ends) == steps
    first = steps // 10
    step = (ends[-1] - ends[first]) / (steps - 1 - first)
    return Took(step, whole - steps * step, loss(policy, data))


@torch.inference_mode()
def loss(policy: Policy, data: Encoded) -> float:
    """The mean loss on a thousand texts."""
    return float(policy.model(**data.batch(np.arange(1000))).loss)


def bare(policy: Policy, data: Encoded, steps: int, ended: Ended) -> None:
    """Nothing but PyTorch."""
    model: Any = policy.model.train()
    optimizer = adamw(policy)
    for step in range(steps):
        batch = data.__getitems__(list(range(step * PARAMS.batch_size, (step + 1) * PARAMS.batch_size)))
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ended()


def adamw(policy: Policy) -> torch.optim.AdamW:
    """The optimizer that selfloop trains with."""
    return torch.optim.AdamW(
        policy.model.parameters(), lr=PARAMS.lr, betas=(0.9, 0.98), weight_decay=PARAMS.weight_decay, fused=True
    )


def selfloop(policy: Policy, data: Encoded, steps: int, ended: Ended) -> None:
    """What ``pretrain_policy`` and ``finetune_policy`` call."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(
            steps=steps,
            batch_size=PARAMS.batch_size,
            lr=PARAMS.lr,
            schedule=lambda step: 1.0,
            weight_decay=PARAMS.weight_decay,
            seed=0,
            place=Path(scratch),
        )
        train(policy, data, plan, after_step=lambda step: ended())


class Ends(TrainerCallback):
    """Calls back at the end of each step."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._ended()


def trl(policy: Policy, data: Encoded, steps: int, ended: Ended) -> None:
    """TRL's SFTTrainer on the same batches."""
    optimizer = adamw(policy)
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=PARAMS.batch_size,
            max_grad_norm=1.0,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            gradient_checkpointing=False,
            bf16=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=policy.model,
            args=config,
            data_collator=lambda rows: data.__getitems__([row["row"] for row in rows]),
            train_dataset=datasets.Dataset.from_dict({"row": list(range(len(data)))}),
            processing_class=policy.tokenizer,
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)),
            callbacks=[Ends(ended)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    steps, repeats = (20, 1) if small else (200, REPEATS)
    examples = texts()
    arms = {arm.__name__: arm for arm in (bare, selfloop, trl)}
    early = [timed(arm, examples, CHECKED).loss for arm in arms.values()]
    assert max(early) < min(early) * 1.01, f"The arms came to different losses: {early}"
    took = in_turns({name: partial(timed, arm, examples, steps) for name, arm in arms.items()}, repeats)
    losses = [each.loss for of_arm in took.values() for each in of_arm]
    steps_of = {name: [each.step * 1000 for each in of_arm] for name, of_arm in took.items()}
    rows = {
        name: {
            "ms_per_step": spread(steps_of[name]),
            "over_bare": ratios(steps_of[name], steps_of["bare"]),
            "set_up_seconds": spread(each.set_up for each in of_arm),
        }
        for name, of_arm in took.items()
    }
    show(
        f"{steps} steps of {PARAMS.batch_size} texts, median of {repeats} (lowest–highest)",
        ["trainer", "ms a step", "over bare", "set-up s"],
        [(name, *row.values()) for name, row in rows.items()],
    )
    against = ratios(steps_of["trl"], steps_of["selfloop"])
    show("TRL over selfloop", ["", "median (lowest–highest)"], [("ms a step", against)])
    numbers = {name: {key: value._asdict() for key, value in row.items()} for name, row in rows.items()}
    publish(
        "trainers",
        small,
        {"steps": steps, "losses": losses, "trainers": numbers, "trl_over_selfloop": against._asdict()},
    )


if __name__ == "__main__":
    main()
