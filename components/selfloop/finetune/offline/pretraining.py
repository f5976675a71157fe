"""``pretrain_policy``: a small policy from nothing, on the easiest levels of an environment."""

from collections.abc import Container
from typing import NamedTuple

from kfp.dsl import Dataset, Model
from pydantic import Field

from selfloop import flavour
from selfloop.artifacts import SIDECAR, write_json
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.finetune.running.checkpoints import scratch
from selfloop.policy import Policy, restart_ids, save, scratch_tokenizer, settle_threads
from selfloop.records import Example, rows
from selfloop.resources import Resources
from selfloop.roles import MARKS
from selfloop.seeds import STREAM, seed_for
from selfloop.split import first_prompt
from selfloop.stages import Params, stage


class PretrainParams(Params):
    """A Llama of any size, AdamW, warm-up, a constant rate, and a decay once the data is mastered."""

    inherits = frozenset({"environment", "seed"})

    environment: str = Field("addition", description="The taskset whose alphabet and position scheme the policy has.")
    hidden_size: int = Field(64, ge=8, description="Width of the residual stream.")
    layers: int = Field(2, ge=1, description="Transformer layers.")
    heads: int = Field(4, ge=1, description="Attention heads.")
    intermediate_size: int = Field(256, ge=8, description="Width of the MLP.")
    rope_theta: float = Field(100.0, gt=0, description="Base of the rotary position embedding.")
    steps: int = Field(3000, ge=1, description="Optimizer steps at most.")
    batch_size: int = Field(64, ge=1, description="Texts in a step.")
    lr: float = Field(2e-3, gt=0, description="Learning rate after the warm-up.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW.")
    warmup_steps: int = Field(100, ge=0, description="Steps over which the rate rises to lr.")
    decay_steps: int = Field(200, ge=1, description="Steps over which the rate falls to a twentieth at the end.")
    mastered: float = Field(0.99, gt=0, le=1, description="Accuracy on every level at which the decay begins.")
    check_every: int = Field(100, ge=1, description="Steps between two looks at the accuracy.")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints, which a killed training resumes.")
    seed: int = Field(0, ge=0, description="Seed of the weights and of the order of the texts.")
    stream: str = Field("", description=STREAM)


class Schedule:
    """Warm-up, constant, and a linear decay to a twentieth from the step at which it is told to begin."""

    def __init__(self, warmup: int, decay: int, steps: int) -> None:
        self._warmup, self._decay, self.decay_from = warmup, decay, max(steps - decay, 0)

    def __call__(self, step: int) -> float:
        """The factor on the rate at a step."""
        rise = min(1.0, (step + 1) / max(self._warmup, 1))
        fall = max(0.0, min(1.0, (step - self.decay_from) / self._decay))
        return rise * (1 - 0.95 * fall)

    @property
    def ends(self) -> int:
        """The step at which the decay is over."""
        return self.decay_from + self._decay


class PretrainedPolicy(NamedTuple):
    """The policy made from scratch."""

    policy: Model


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def pretrain_policy(out: PretrainedPolicy, params: PretrainParams, examples: Dataset, held_out: Dataset) -> None:
    """Train a small policy from scratch until it has mastered the levels of its examples."""
    import numpy as np

    from selfloop.finetune.offline.encoding import Encoded
    from selfloop.finetune.offline.supervised import solved_by_level, train
    from selfloop.finetune.running.speed import speed
    from selfloop.finetune.running.training import Plan, finished

    known, unseen = list(rows(examples.path, Example)), list(rows(held_out.path, Example))
    for table, of_it in ((examples, known), (held_out, unseen)):
        if not of_it:
            raise UserError(f"{table.path} holds no examples: a policy cannot be trained from scratch without.")
    made = new_policy(params, {example.role for example in known})
    order = np.random.default_rng(seed_for(params, "order")).integers(len(known), size=params.steps * params.batch_size)
    test = Encoded(made, unseen, range(len(unseen)))
    schedule = Schedule(params.warmup_steps, params.decay_steps, params.steps)
    seen: dict[int, float] = {}

    def after_step(step: int) -> bool:
        if step % params.check_every == 0 and step < schedule.decay_from:
            seen.update(solved_by_level(made, test, [e.level for e in unseen]))
            if min(seen.values()) >= params.mastered:
                schedule.decay_from = step
        return step >= schedule.ends

    plan = Plan(
        steps=params.steps,
        batch_size=params.batch_size,
        lr=params.lr,
        schedule=schedule,
        weight_decay=params.weight_decay,
        seed=seed_for(params, "pretrain"),
        place=scratch(out.policy.path, "pretrain", params, {"examples": examples.path, "held_out": held_out.path}),
        checkpoint_every=params.checkpoint_every,
    )
    texts = Encoded(made, known, order)
    trained = train(made, texts, plan, after_step)
    save(made, out.policy.path)
    tokens = texts.count(trained.first * plan.batch_size, trained.steps * plan.batch_size)
    write_json(out.policy.path, speed(tokens, trained.seconds, made.model.num_parameters(), 1), SIDECAR)
    finished(plan)
    out.policy.metadata.update(steps=trained.steps, loss=trained.loss)


def new_policy(params: PretrainParams, shown: Container[str] = ()) -> Policy:
    """A policy that knows nothing, with tokens for its environment's texts and the marks of the roles it is shown."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    environment = find_environment(params.environment)
    if environment.alphabet is None:
        raise UserError(f"Environment '{params.environment}' has no alphabet to train a policy on from scratch.")
    if params.hidden_size % params.heads:
        raise UserError(f"hidden_size {params.hidden_size} does not divide into {params.heads} heads: change either.")
    marks = [mark for role, mark in MARKS.items() if role in shown]
    tokenizer = scratch_tokenizer(environment.alphabet, list(dict.fromkeys([*environment.special_tokens, *marks])))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=params.hidden_size,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        intermediate_size=params.intermediate_size,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": params.rope_theta},
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    if environment.restarts is not None:
        config.position_restarts = restart_ids(environment.restarts, tokenizer)
    setattr(config, flavour.PROMPT, first_prompt(environment))
    torch.manual_seed(seed_for(params, "weights"))
    model = LlamaForCausalLM(config)
    settle_threads(model)
    return Policy(model, tokenizer)
