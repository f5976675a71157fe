"""What of a policy changes in a training, and what is kept of it: all weights, or an adapter, alone or merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from selfloop.adapters import parts
from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.policy import Policy, fresh, load, save
from selfloop.seeds import seed_for

if TYPE_CHECKING:
    from selfloop.finetune.running.training import Trained


def to_train(params: TrainingParams, directory: str) -> Policy:
    """A policy whose trainable weights are what the parameters say; those that change are float32 while they do.

    An adapter policy continues with its own adapter, or is merged first where all weights are to change.
    """
    if params.adapter == "full":
        policy = load(directory)
        return Policy(policy.model.requires_grad_(True).float(), policy.tokenizer)
    policy = fresh(directory)
    if parts(directory).adapter is not None:
        return policy
    torch.manual_seed(seed_for(params, params.round, "adapter"))
    return Policy(adapted(policy, params), policy.tokenizer)


def adapted(policy: Policy, params: TrainingParams, kind: str = "CAUSAL_LM") -> Any:
    """A new LoRA adapter on a policy's weights. Raises ``UserError`` for modules that it does not have."""
    from peft import LoraConfig, get_peft_model

    everywhere = params.lora_targets == ["all-linear"]
    config = LoraConfig(
        r=params.lora_rank,
        lora_alpha=params.lora_alpha,
        target_modules="all-linear" if everywhere else list(params.lora_targets),
        task_type=kind,
    )
    try:
        return get_peft_model(policy.model, config)
    except ValueError as error:
        raise UserError(
            f"lora_targets {', '.join(params.lora_targets)} cannot be adapted ({str(error).split('. ')[0][:160]}): "
            "name linear modules of the policy, such as q_proj and v_proj, or 'all-linear'."
        ) from None


def keep(params: TrainingParams, policy: Policy, directory: str, trained: Trained, output: Path) -> None:
    """Save what was trained of a policy, in float32 or in the precision that the policy in ``directory`` has."""
    about = json.loads((parts(directory).base / "config.json").read_text())
    before = about.get("dtype", about.get("torch_dtype")) or "float32"
    dtype = getattr(torch, before if params.weights == "as before" else params.weights)
    model, adapter = policy.model, hasattr(policy.model, "peft_config")
    if trained.weights is not None:
        weights = {name: value if adapter else value.to(dtype) for name, value in trained.weights.items()}
        save(policy, output, weights)
    elif adapter and params.keep == "adapter":
        save(policy, output)
    else:
        whole = model.merge_and_unload() if adapter else model
        save(Policy(whole.to(dtype), policy.tokenizer), output)
