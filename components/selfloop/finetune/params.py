"""What every training stage is told: how long, how fast, how precisely, which weights, on how much hardware."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfloop.seeds import STREAM
from selfloop.stages import Params


class TrainingParams(Params):
    """One AdamW step after the other, at a rate that stays after the warm-up or falls to 0."""

    inherits = frozenset({"seed", "round"})
    reads = frozenset({"accelerate_config"})

    steps: int = Field(50, ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, description="Texts in a step, on all processes together.")
    accumulate: int = Field(1, ge=1, description="Parts in which a step's batch is computed: less memory, same step.")
    lr: float = Field(1e-3, gt=0, description="Learning rate after the warm-up.")
    warmup_steps: int = Field(5, ge=0, description="Steps over which the rate rises to lr.")
    decay: Literal["constant", "linear", "cosine"] = Field("constant", description="How the rate falls after that.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW.")
    max_length: int = Field(32768, ge=4, description="Tokens of a text at most; a longer one is cut at its end.")
    adapter: Literal["full", "lora"] = Field("full", description="All weights, or a LoRA adapter on frozen ones.")
    keep: Literal["adapter", "merged"] = Field("adapter", description="lora: the adapter alone, or the whole policy.")
    lora_rank: int = Field(16, ge=1, description="lora: rank of a new adapter.")
    lora_alpha: int = Field(32, ge=1, description="lora: scale of a new adapter, before division by its rank.")
    lora_targets: list[str] = Field(
        ["all-linear"], min_length=1, description="lora: modules that a new adapter changes; 'all-linear' but the head."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic; auto is bfloat16 on a GPU that has it, float32 elsewhere."
    )
    weights: Literal["as before", "float32"] = Field(
        "as before", description="Precision in which weights are kept: the policy's; float32 loses no small step."
    )
    gradient_checkpointing: bool = Field(False, description="Compute activations twice instead of keeping them.")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints, which a killed training resumes.")
    accelerate_config: str = Field(
        "auto", description="A YAML of 'accelerate config' (multi-GPU, FSDP, DeepSpeed); auto uses all visible GPUs."
    )
    nodes: int = Field(
        1, ge=1, description="Machines that a training spans, by Kubeflow's Trainer; 1 stays in the pod."
    )
    nodes_from_bytes: int = Field(
        2 * 10**9, ge=0, description="nodes: a policy with fewer bytes of weights than this stays in the pod."
    )
    seed: int = Field(0, ge=0, description="Seed of the training.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")
