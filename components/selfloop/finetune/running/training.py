"""What all trainings share: the plan, the trainer's habits, checkpoints to continue from, and how they stop."""

from __future__ import annotations

import gc
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from selfloop import progress
from selfloop.artifacts import write_json
from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.finetune.running.checkpoints import latest, mark, step_of
from selfloop.finetune.running.moments import moments_of, set_moments, steps_behind

if TYPE_CHECKING:
    from selfloop.finetune.running.moments import Moments

RECOMPUTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(TrainingArguments, name)
)
"""What transformers calls computing activations twice; the older name with the one that goes with rl's vLLM."""


@dataclass(frozen=True)
class Plan:
    """How a training goes. ``schedule`` maps a step to a factor on ``lr``; ``place`` is for its checkpoints.

    ``moments`` are what the optimizer goes on with, and is asked for at the end; none where it begins anew.
    """

    steps: int
    batch_size: int
    lr: float
    schedule: Callable[[int], float]
    weight_decay: float
    seed: int
    place: Path
    accumulate: int = 1
    bf16: bool = False
    gradient_checkpointing: bool = False
    checkpoint_every: int = 500
    merges: bool = False
    moments: Moments | None = None

    @classmethod
    def of(cls, params: TrainingParams, seed: int, place: Path, steps: int, moments: Moments | None = None) -> Plan:
        """The plan that a stage's parameters describe; steps that an optimizer has behind it count in the warm-up."""
        behind = steps_behind(moments or {})
        return cls(
            steps=steps,
            batch_size=params.batch_size,
            lr=params.lr,
            schedule=lambda step: rate_at(step, steps, params.warmup_steps, params.decay, behind),
            weight_decay=params.weight_decay,
            seed=seed,
            place=place,
            accumulate=params.accumulate,
            bf16=in_bf16(params.precision),
            gradient_checkpointing=params.gradient_checkpointing,
            checkpoint_every=params.checkpoint_every,
            merges=params.adapter == "lora" and params.keep == "merged",
            moments=moments,
        )

    def arguments(self) -> dict[str, Any]:
        """The plan as transformers and TRL take it. Raises ``UserError`` for a batch that cannot be shared out."""
        parts = self.accumulate * processes()
        if self.batch_size % parts:
            raise UserError(
                f"batch_size {self.batch_size} cannot be shared by {processes()} processes in {self.accumulate} parts: "
                f"give a multiple of {parts}, or change accumulate."
            )
        return {
            "output_dir": str(self.place),
            "max_steps": self.steps,
            "per_device_train_batch_size": self.batch_size // parts,
            "gradient_accumulation_steps": self.accumulate,
            "learning_rate": self.lr,
            "max_grad_norm": 1.0,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": False,
            "dataloader_pin_memory": torch.cuda.is_available(),
            "save_strategy": "steps" if self.steps > self.checkpoint_every else "no",
            "save_steps": self.checkpoint_every,
            "save_total_limit": 2,
            "logging_strategy": "no",
            "report_to": [],
            "use_cpu": not torch.cuda.is_available(),
            "disable_tqdm": True,
            "seed": self.seed % 2**32,
            "bf16": self.bf16,
            RECOMPUTING: self.gradient_checkpointing,  # also where not: TRL does it unless told
        }


def rate_at(
    step: int, steps: int, warmup: int, decay: Literal["constant", "linear", "cosine"], behind: int = 0
) -> float:
    """The factor on the learning rate at a step, counted from 0: it rises to 1 over the warm-up, and falls to 0.

    Steps that the optimizer has ``behind`` it are of the same warm-up, which is not begun again.
    """
    if step + behind < warmup:
        return (step + behind + 1) / warmup
    left = (steps - step) / max(steps - max(warmup - behind, 0), 1)
    return {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[decay]


def adamw(weights: Sequence[torch.Tensor], plan: Plan) -> torch.optim.AdamW:
    """The optimizer of every training, fused."""
    return torch.optim.AdamW(weights, lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True)


class Batches(Protocol):
    """What a training is fed with, as far as its troubles and its speed are told of it."""

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """The texts from one number to before another, in the order in which they are seen."""
        ...


class Trained(NamedTuple):
    """The mean loss of all steps, the steps, from which on this process took them, and in how many seconds.

    ``weights`` are those of the whole model where each process holds only a part (FSDP, DeepSpeed), ``moments`` what
    the optimizer knows, where the plan asks for it.
    """

    loss: float
    steps: int
    first: int
    seconds: float
    weights: Mapping[str, torch.Tensor] | None = None
    moments: Moments | None = None


class Guarded:
    """What every trainer here does: our optimizer and rate, and an end at once where a number is none."""

    plan: Plan
    batches: Batches
    total = 0.0

    def create_optimizer(self: Any, model: Any = None) -> Any:
        """Ours, on the weights that change."""
        if self.optimizer is None:
            weights = trainable(model or self.model)
            self.optimizer = adamw(list(weights.values()), self.plan)
            set_moments(self.optimizer, weights, self.plan.moments or {})
        return self.optimizer

    def create_scheduler(self: Any, num_training_steps: int, optimizer: Any = None) -> Any:
        """The plan's own rate."""
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self.plan.schedule)
        return self.lr_scheduler

    def training_step(self: Any, *given: Any, **named: Any) -> torch.Tensor:
        """A step; its texts are saved where the loss is no number."""
        loss: torch.Tensor = super().training_step(*given, **named)  # type: ignore[misc]
        value = float(loss)
        if not np.isfinite(value):
            raise diverged(self.plan, self.batches, self.state.global_step, f"The loss of step {{}} is {value}")
        self.total += value
        return loss

    def _clip_grad_norm(self: Any, model: Any) -> Any:
        """The norm of the gradient, which is clipped; a step by one that is no number is not taken."""
        norm = super()._clip_grad_norm(model)  # type: ignore[misc]
        check_gradient(self.plan, self.batches, self.state.global_step, float(norm))
        return norm

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: a policy's story is its manifest."""

    def _send_telemetry(self) -> None:
        """Tell nobody."""


def trainable(model: Any) -> dict[str, torch.Tensor]:
    """The weights that change, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def check_gradient(plan: Plan, batches: Batches, step: int, norm: float) -> None:
    """Refuse to take a step, counted from 0, by a gradient that is no number."""
    if not math.isfinite(norm):
        raise diverged(plan, batches, step, f"The gradient of step {{}} has the norm {norm}")


def check_weights(plan: Plan, batches: Batches, steps: int, weights: Iterable[torch.Tensor]) -> None:
    """Refuse weights that are no numbers after so many steps: no such policy is a candidate, nor a checkpoint."""
    largest = torch.nn.utils.get_total_norm(list(weights), float("inf"))  # of a NaN it is NaN
    if not math.isfinite(largest):
        raise diverged(plan, batches, steps - 1, "The weights after step {} are no longer finite")


def diverged(plan: Plan, batches: Batches, step: int, what: str) -> UserError:
    """That a step, counted from 0, came to no number; its texts are saved."""
    saved = plan.place / f"step-{step + 1}.json"
    plan.place.mkdir(parents=True, exist_ok=True)
    texts = batches.seen(step * plan.batch_size, (step + 1) * plan.batch_size)
    write_json(saved.parent, texts, saved.name)
    before = latest(plan.place)
    kept = f"the checkpoint before it is {before[0]}" if before else "there is no checkpoint before it"
    return UserError(
        f"{what.format(step + 1)} and training stopped: its {len(texts)} texts are in {saved}, {kept}; lower lr, or "
        "take these texts out."
    )


class Reports(TrainerCallback):
    """Sends each step to whoever watches the stage, marks checkpoints, and asks whether training is over."""

    def __init__(self, trainer: Any, after_step: Callable[[int], bool]) -> None:
        self._trainer, self._after_step = trainer, after_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step, and stop where training is over."""
        progress.report(state.global_step, state.max_steps, "steps")
        if self._after_step(state.global_step):
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint that was written, where its weights are numbers."""
        trainer = self._trainer
        check_weights(trainer.plan, trainer.batches, state.global_step, trainer.model.parameters())
        if state.is_world_process_zero:
            mark(Path(args.output_dir) / f"checkpoint-{state.global_step}", {"total": trainer.total})


def never(step: int) -> bool:
    """Train to the end of the plan."""
    return False


def fit(trainer: Any, plan: Plan, batches: Batches, after_step: Callable[[int], bool] = never) -> Trained:
    """Let a trainer (a ``Guarded`` one) train, from its last whole checkpoint where it was killed.

    Raises ``UserError`` where memory is used up, and where a loss, a gradient or the weights are no numbers.
    """
    if trainer.accelerator.num_processes != processes():
        raise UserError(
            f"{processes()} processes were started, but each would train alone: start them with 'accelerate launch' as "
            "multi-GPU, FSDP or DeepSpeed."
        )
    shared_out = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if shared_out and plan.merges:
        raise UserError("An adapter cannot be merged where each process holds a part of the weights: keep the adapter.")
    if shared_out and plan.moments is not None:
        raise UserError(
            "FSDP and DeepSpeed share the optimizer out, which is to be handed on whole: set 'optimizer' to 'anew'."
        )
    disable_progress_bar()  # a checkpoint would draw one
    trainer.plan, trainer.batches = plan, batches
    trainer.add_callback(Reports(trainer, after_step))
    trainer.remove_callback(PrinterCallback)
    found = latest(plan.place)
    if found is not None:
        trainer.total = found[1]["total"]
    first = step_of(found[0]) if found else 0
    check_agreed(first)
    began = time.perf_counter()
    with memory_watched(plan, batches), nothing_collected():
        trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    seconds = time.perf_counter() - began
    trainer.model.eval()
    steps = trainer.state.global_step
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if shared_out else None
    check_weights(plan, batches, steps, weights.values() if weights else trainer.model.parameters())
    moments = moments_of(trainer.optimizer, trainable(trainer.model)) if plan.moments is not None else None
    return Trained(trainer.total / max(steps, 1), steps, first, seconds, weights, moments)


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Leave what there is by now out of garbage collections in this block.

    transformers begins each training with one, which frees nothing here, and takes as long as ten steps of a small
    policy. On a GPU it may free memory.
    """
    if torch.cuda.is_available():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def check_agreed(first: int) -> None:
    """Refuse to continue where the processes would continue from different steps."""
    if processes() == 1:
        return
    from accelerate.utils import gather_object

    seen = gather_object([first])
    if len(set(seen)) > 1:
        raise UserError(
            f"The nodes see checkpoints of different steps ({', '.join(map(str, seen))}): set SELFLOOP_SCRATCH to a "
            "place that all of them share, or leave it unset."
        )


class memory_watched:  # noqa: N801 (a context, used like a function)
    """Says in a sentence that memory is used up, and what to lower."""

    def __init__(self, plan: Plan, batches: Batches) -> None:
        self._plan, self._batches = plan, batches

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or not out_of_memory(error):
            return
        longest = int(np.max(getattr(self._batches, "lengths", 0)))
        each = self._plan.batch_size // (self._plan.accumulate * processes())
        raise UserError(
            f"Memory ran out in a training step of {each} texts at once (batch_size {self._plan.batch_size}, "
            f"accumulate {self._plan.accumulate}) of up to {longest} tokens: raise accumulate, lower batch_size or "
            "max_length, set gradient_checkpointing, or train an adapter."
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of used-up memory, on a GPU or on the CPU, which says it in words only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def in_bf16(precision: str) -> bool:
    """Whether the arithmetic is bfloat16; the weights that change are kept as they are."""
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return precision == "bfloat16" or (precision == "auto" and able)


def finished(plan: Plan) -> None:
    """Forget the checkpoints of a training whose policy is saved."""
    shutil.rmtree(plan.place, ignore_errors=True)
