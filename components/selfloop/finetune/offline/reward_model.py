"""``train_reward``: a reward model from pairs of a better and a worse completion, on TRL's ``RewardTrainer``.

What comes out is a sequence classifier with one output on the policy's body: safetensors, configuration, tokenizer. Its
reward of a text stands on the last token of prompt and completion with their end, encoded as the policy is asked.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

from kfp.dsl import Dataset, Model
from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.finetune.running.dispatch import run_training
from selfloop.finetune.running.launch import Job, TrainingResult, is_first
from selfloop.guards.contamination import clean, held_out
from selfloop.policy import Policy, load, save
from selfloop.records import Example, count, take
from selfloop.resources import Resources
from selfloop.seeds import seed_for
from selfloop.stages import stage


class RewardParams(TrainingParams):
    """How a reward model is trained; each pair is seen once before any is seen again."""

    when_nothing: Literal["stop", "keep policy"] = Field(
        "stop", description="Where there are no pairs: stop, or hand on the policy's body under a head that is new."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.adapter == "lora" and self.keep == "adapter":
            raise ValueError("a reward model is kept whole: set keep to 'merged'.")
        return self


class RewardModel(NamedTuple):
    """The reward model."""

    reward: Model


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def train_reward(out: RewardModel, params: RewardParams, policy: Model, pairs: Dataset, eval_items: Dataset) -> None:
    """Train a reward model on pairs of completions, beginning with a policy's weights."""
    run_training(work, params, {"policy": policy, "pairs": pairs, "eval_items": eval_items}, out.reward)


def work(params: RewardParams, job: Job) -> TrainingResult:
    """Train on the pairs that are no held-out items, and save the model."""
    import numpy as np
    import torch
    from trl import RewardConfig

    from selfloop.finetune.offline.encoding import Encoded
    from selfloop.finetune.offline.methods.preference import Dpo
    from selfloop.finetune.offline.mixture import usable_rows
    from selfloop.finetune.offline.reward_trainer import Reward
    from selfloop.finetune.offline.trl_data import collator, places, rejected_sides
    from selfloop.finetune.running.speed import speed
    from selfloop.finetune.running.training import Plan, fit, processes
    from selfloop.finetune.running.weights import adapted

    usable = clean(job.inputs["pairs"], held_out(job.inputs["eval_items"]))
    about: dict[str, Any] = {
        "pairs": count(job.inputs["pairs"]),
        "contaminated": count(job.inputs["pairs"]) - len(usable),
    }
    pairs = take(job.inputs["pairs"], Example, usable[usable_rows(Dpo(), job.inputs["pairs"])[usable]])
    if not pairs and params.when_nothing == "stop":
        raise UserError(
            "There are no pairs to train a reward model on: choose a filter that keeps a better and a worse one."
        )
    policy = classifier(job.inputs["policy"], seed_for(params, params.round, "head"))
    if not pairs:
        if is_first():
            save(policy, job.output)
        return TrainingResult(about | {"steps": 0, "loss": None}, {})
    rng = np.random.default_rng(seed_for(params, params.round, "pairs"))
    rounds = -(-params.steps * params.batch_size // len(pairs))
    order = np.concatenate([rng.permutation(len(pairs)) for _ in range(rounds)])[: params.steps * params.batch_size]
    data = Encoded(policy, [*pairs, *rejected_sides(pairs)], order, params.max_length, paired=True)

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        batch = data.batch(np.concatenate([rows, rows + len(pairs)]))
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    plan = Plan.of(params, seed_for(params, params.round, "reward"), job.place, params.steps)
    model = adapted(policy, params, "SEQ_CLS") if params.adapter == "lora" else policy.model
    trainer = Reward(
        model=model.train(),
        args=RewardConfig(**plan.arguments(), max_length=None),
        data_collator=collator(data, collate),
        train_dataset=places(data),
        processing_class=policy.tokenizer,
    )
    trained = fit(trainer, plan, data)
    if is_first():
        whole = model.merge_and_unload() if params.adapter == "lora" else model
        save(Policy(whole, policy.tokenizer), job.output, trained.weights)
    about |= {"steps": trained.steps, "loss": trained.loss}
    seen = data.order[trained.first * params.batch_size : trained.steps * params.batch_size]
    tokens = int(data.lengths[seen].sum() + data.lengths[seen + len(pairs)].sum())
    return TrainingResult(about, speed(tokens, trained.seconds, policy.model.num_parameters(), processes()))


def classifier(directory: str, seed: int) -> Policy:
    """A policy's body with a new head of one output, in place of the one that tells the next token."""
    import torch
    from transformers import AutoModelForSequenceClassification

    policy = load(directory)
    if hasattr(policy.model.config, "position_restarts"):
        raise UserError("A reward model cannot keep this policy's position scheme: begin with another policy.")
    torch.manual_seed(seed)
    config = policy.model.config
    config.num_labels, config.pad_token_id = 1, policy.tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_config(config)
    body = model.base_model_prefix
    getattr(model, body).load_state_dict(getattr(policy.model, body).state_dict())
    return Policy(model.float().to(policy.model.device), policy.tokenizer)
