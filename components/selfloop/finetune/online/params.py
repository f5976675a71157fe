"""What an on-policy training is told: its three strategies, how attempts go, and what takes the steps."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from selfloop.finetune.online.algorithms import Algorithm
from selfloop.finetune.online.algorithms.grpo import Grpo
from selfloop.finetune.online.algorithms.self_imitation import SelfImitation
from selfloop.finetune.online.rewards import Reward
from selfloop.finetune.online.rewards.verified import Verified
from selfloop.finetune.online.sampling import OnPolicyParams
from selfloop.generate.params import GenerateParams
from selfloop.generate.protocols import Protocol
from selfloop.generate.protocols.single import Single
from selfloop.propose.curricula import Curriculum
from selfloop.propose.curricula.in_turn import InTurn

ROLLOUTS = "rollouts"
"""What a training leaves beside its policy and its state: the attempts that it was trained on."""


class ReinforceParams(OnPolicyParams):
    """A step takes batch_size / group_size tasks, and group_size completions of each."""

    inherits = frozenset({"environment"})

    curriculum: Curriculum = Field(InTurn(), description="Which tasks are tried.")
    reward: Reward = Field(Verified(), description="What attempts are worth.")
    algorithm: Algorithm = Field(Grpo(), description="How advantages are made of rewards.")
    group_size: int = Field(8, ge=1, description="Completions drawn per task.")
    updates: int = Field(1, ge=1, description="Steps that share one draw, a part of its groups each.")
    kl_beta: float = Field(0.0, ge=0, description="How closely the policy is held to where it starts.")
    clip: float = Field(0.2, gt=0, description="How far a token's ratio may move before it stops counting.")
    protocol: Protocol = Field(Single(), description="How an attempt goes: NAME,key=value, or one of your own.")
    environment: str = Field("addition", description="The taskset that made the tasks.")
    trainer: Literal["auto", "own", "trl"] = Field(
        "auto", description="What takes the steps: TRL, or a loop of our own, which auto takes for small policies."
    )
    when_empty: Literal["stop", "continue"] = Field(
        "stop", description="Where there are no tasks: stop, or hand the policy on as it is."
    )
    keep_draws: int = Field(20, ge=1, description="The last draws, whose attempts are handed on.")

    @property
    def groups(self) -> int:
        """The tasks that are tried in a draw."""
        return self.batch_size * self.updates // self.group_size

    @property
    def asks_in(self) -> str:
        """The role that its reward asks the policy in."""
        return self.reward.asks_in()

    def decoding(self, **given: Any) -> GenerateParams:
        """How attempts are made in training: by this protocol, every one drawn, with what the reward reads noted of
        each, and otherwise as given.
        """
        return GenerateParams(
            protocol=self.protocol,
            greedy_first=False,
            score=self.reward.notes(),
            round=self.round,
            **given,
        )

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> Self:
        if self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} holds no whole groups of {self.group_size}: give a multiple of it."
            )
        if isinstance(self.algorithm, SelfImitation) and self.updates > 1:
            raise ValueError(f"algorithm '{self.algorithm}' takes a draw in one step: leave updates at 1.")
        if self.algorithm.compares and self.group_size < 2:
            raise ValueError(f"algorithm '{self.algorithm}' compares attempts at a task: give a group_size above 1.")
        return self
