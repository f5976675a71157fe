"""``reinforce_policy``: on-policy training (``variants``), rewarded by the loop's own verifier.

It starts from ``policy``, whatever that is, and holds to it by ``kl_beta``. A task whose group is all right or all
wrong moves nothing. Tasks that are held-out items are taken out first, and counted; where none is left, the policy is
handed on as it is, if so configured.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

from kfp.dsl import Dataset, Model
from pydantic import Field, model_validator

from selfloop.finetune.running.launch import Job, Made, done, is_first
from selfloop.finetune.online.sampling import OnPolicyParams, uncontaminated
from selfloop.generate.params import GenerateParams, refuse_unknown
from selfloop.records import Rollout, writing
from selfloop.resources import Resources
from selfloop.seeds import seed_for
from selfloop.stage import stage


class ReinforceParams(OnPolicyParams):
    """A step takes batch_size / group_size tasks, and group_size completions of each."""

    algorithm: Literal["grpo", "dr-grpo", "rloo", "adpo"] = Field(
        "grpo", description="How advantages are made of a group's rewards."
    )
    group_size: int = Field(8, ge=2, description="Completions drawn per task.")
    updates: int = Field(1, ge=1, description="Steps that share one draw, a part of its groups each.")
    kl_beta: float = Field(0.0, ge=0, description="How closely the policy is held to where it starts.")
    clip: float = Field(0.2, gt=0, description="How far a token's ratio may move before it stops counting.")
    trust: float = Field(0.5, ge=0, le=1, description="adpo: what an advantage is multiplied by where votes are split.")
    protocol: str = Field("single", description="How an attempt goes: single, correct, tools, or module:function.")
    turns: int = Field(4, ge=1, description="Turns of an attempt at most; the protocol 'single' has one.")
    tools: list[str] = Field(["calc"], description="tools: those that the policy may call: calc, python, module:name.")
    environment: str = Field("addition", description="The taskset that made the tasks.")
    verifier: str = Field("exact", description="The verifier whose score is the reward, or a module:function.")
    trainer: Literal["auto", "own", "trl"] = Field(
        "auto", description="What takes the steps: TRL, or a loop of our own, which auto takes for small policies."
    )
    when_empty: Literal["stop", "go on"] = Field(
        "stop", description="reinforce_policy: where there are no tasks, stop, or hand the policy on as it is."
    )
    keep_draws: int = Field(20, ge=1, description="The last draws, whose attempts are handed on.")

    @property
    def groups(self) -> int:
        """The tasks that are tried in a draw."""
        return self.batch_size * self.updates // self.group_size

    def decoding(self, **given: Any) -> GenerateParams:
        """How attempts are made in training: by this protocol, every one drawn, none scored, and otherwise as given."""
        return GenerateParams(
            protocol=self.protocol,
            turns=self.turns,
            tools=self.tools,
            greedy_first=False,
            score="nothing",
            round=self.round,
            **given,
        )

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> Self:
        refuse_unknown(self.protocol, self.tools)
        if self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} holds no whole groups of {self.group_size}: give a multiple of it."
            )
        return self


class ReinforcedPolicy(NamedTuple):
    """The policy trained, and what it attempted."""

    candidate: Model
    rollouts: Dataset


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def reinforce_policy(
    out: ReinforcedPolicy, params: ReinforceParams, policy: Model, tasks: Dataset, items: Dataset
) -> None:
    """Let a policy try tasks while it trains, and reinforce what the verifier rewards."""
    done(work, params, {"policy": policy, "tasks": tasks, "items": items}, out.candidate, {"rollouts": out.rollouts})


def work(params: ReinforceParams, job: Job) -> Made:
    """Train on the tasks that are no held-out items, each in its turn."""
    from selfloop.finetune.online.collector import InTurn, Verified
    from selfloop.finetune.online.trl_trainer import reinforced

    clean = uncontaminated(job.inputs["tasks"], job.inputs["items"], params.ngram)
    if not clean.tasks:
        if params.when_empty == "stop":
            raise clean.none_left()
        return Made(clean.counts() | handed_on(params, job), {})
    course = InTurn(clean.tasks, seed_for(params, params.round, "order"))
    made = reinforced(params, job, course, Verified(params), clean.tasks)
    return made._replace(metadata=clean.counts() | made.metadata)


def handed_on(params: ReinforceParams, job: Job) -> dict[str, Any]:
    """Hand the policy on as it is, which attempted nothing. Returns what the training came to."""
    from selfloop.policy import hand_on

    if is_first():
        hand_on(job.inputs["policy"], job.output)
        with writing(job.output / "rollouts", Rollout):
            pass
    return {"steps": 0, "loss": 0.0, "method": params.algorithm, "rewards": []}
