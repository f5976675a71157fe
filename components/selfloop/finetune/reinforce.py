"""``reinforce_policy``: on-policy GRPO or RLOO on TRL's trainers, rewarded by the loop's own verifier.

It starts from ``policy``, whatever that is, and holds to it by ``kl_beta``. A task whose group is all right or all
wrong moves nothing. Tasks that are held-out items are taken out first, and counted.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from kfp.dsl import Dataset, Input, Model, Output
from pydantic import Field, model_validator

from selfloop.finetune.launch import Job, Made, done, is_first
from selfloop.finetune.on_policy import OnPolicyParams, asked, refuse_scheme, uncontaminated
from selfloop.policy import seed_of
from selfloop.records import count
from selfloop.resources import Resources
from selfloop.stage import stage


class ReinforceParams(OnPolicyParams):
    """A step takes batch_size / group_size tasks, and group_size completions of each."""

    algorithm: Literal["grpo", "rloo"] = Field("grpo", description="How advantages are made of a group's rewards.")
    group_size: int = Field(8, ge=2, description="Completions drawn per task.")
    kl_beta: float = Field(0.0, ge=0, description="How closely the policy is held to where it starts.")
    clip: float = Field(0.2, gt=0, description="How far a token's ratio may move before it stops counting.")
    environment: str = Field("addition", description="The taskset that made the tasks.")
    verifier: str = Field("exact", description="The verifier whose score is the reward, or a module:function.")

    @model_validator(mode="after")
    def _groups_are_whole(self) -> Self:
        if self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} holds no whole groups of {self.group_size}: give a multiple of it."
            )
        return self


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def reinforce_policy(
    params: ReinforceParams,
    policy: Input[Model],
    tasks: Input[Dataset],
    items: Input[Dataset],
    candidate: Output[Model],
) -> None:
    """Let a policy try tasks while it trains, and reinforce what the verifier rewards."""
    done(work, params, {"policy": policy, "tasks": tasks, "items": items}, candidate)


def work(params: ReinforceParams, job: Job) -> Made:
    """Train on the tasks that are no held-out items, and save the candidate."""
    from selfloop.finetune.adapting import keep, to_train
    from selfloop.finetune.reinforcing import TRAINERS, Rewarded
    from selfloop.finetune.speed import speed
    from selfloop.finetune.training import Plan, fit, processes

    tasks, removed = uncontaminated(job.inputs["tasks"], job.inputs["items"], params.ngram)
    made = to_train(params, job.inputs["policy"])
    refuse_scheme(made)
    plan = Plan.of(params, seed_of(params.seed, params.round, "reinforce"), job.place, params.steps)
    rewarded = Rewarded(params, tasks, made)
    kind, config = TRAINERS[params.algorithm]
    trainer = kind(
        model=made.model.train(),
        reward_funcs=rewarded,
        args=config(
            **plan.arguments(),
            **params.drawing(),
            num_generations=params.group_size,
            beta=params.kl_beta,
            epsilon=params.clip,
        ),
        train_dataset=asked(tasks),
        processing_class=made.tokenizer,
    )
    trainer.policy = made
    trained = fit(trainer, plan, rewarded)
    if is_first():
        keep(params, made, job.inputs["policy"], trained, job.output)
    about: dict[str, Any] = {"examples": {"newest": count(job.inputs["tasks"])}, "contaminated": {"newest": removed}}
    about |= {"steps": trained.steps, "loss": trained.loss, "method": params.algorithm, "rewards": rewarded.by_step}
    rate = speed(trainer.state.num_input_tokens_seen, trained.seconds, made.model.num_parameters(), processes())
    return Made(about, rate)
