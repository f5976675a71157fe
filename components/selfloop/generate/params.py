"""The parameters of decoding: those that every stage that asks a policy has, and those of ``generate_rollouts``."""

from __future__ import annotations

import typing
from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from selfloop.generate.engines import EngineName, Form, Sampling, Score
from selfloop.generate.protocols import Protocol
from selfloop.generate.protocols.single import Single
from selfloop.records import Task
from selfloop.seeds import STREAM
from selfloop.stages import Params


class DecodingParams(Params):
    """How a policy is asked, and what asks it."""

    inherits = frozenset({"engine"})

    engine: EngineName = Field(
        "auto", description="What decodes; auto is vllm where it is installed and a GPU is there, else transformers."
    )
    protocol: Protocol = Field(Single(), description="How an attempt goes: NAME,key=value, or one of your own.")
    temperature: float = Field(1.0, gt=0, description="Temperature of the attempts that are not greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Tokens are drawn from the likeliest that come to this share.")
    top_k: int = Field(1_000_000, ge=1, description="Tokens are drawn from so many of the likeliest at most.")
    min_p: float = Field(0.0, ge=0, lt=1, description="A token must be this likely, relative to the likeliest.")
    repetition_penalty: float = Field(1.0, gt=0, description="Tokens that were there already are made less likely.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a turn at most; a task may allow fewer.")
    stop: list[str] = Field([], description="Texts at which a completion ends; they are cut off.")
    form: Literal["free", "regex", "choice", "json"] = Field("free", description="What a completion must look like.")
    pattern: str = Field(".*", description="regex: the regular expression.")
    choices: list[str] = Field([], description="choice: the completions that there are.")
    json_schema: str = Field("{}", description="json: the JSON schema.")
    score: Score = Field(
        "logprob", description="What is noted of each attempt: nothing, log-probability, or certainty too."
    )
    batch_size: int = Field(512, ge=1, description="Attempts decoded at once.")
    window: int = Field(1024, ge=1, description="Tasks drawn together: the unit of work and of what a kill may cost.")
    tensor_parallel: int = Field(1, ge=1, description="vllm: GPUs that share one copy of the policy.")
    memory: float = Field(0.9, gt=0, le=1, description="vllm: share of the GPU's memory that it takes.")
    context: int = Field(4096, ge=1, description="vllm: tokens of a prompt and its completion at most.")

    @model_validator(mode="after")
    def _refuse_what_a_round_would_trip_over(self) -> typing.Self:
        if self.form == "choice" and not self.choices:
            raise PydanticCustomError("choices", "The form 'choice' needs choices: set them")
        if "" in self.stop:
            raise PydanticCustomError("stop", "An empty stop text would end every completion: leave it out")
        return self

    def sampling(self, greedy: bool) -> Sampling:
        """How the tokens of an attempt are chosen."""
        return Sampling(
            greedy=greedy,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            stop=tuple(self.stop),
            form=self._form(),
            score=self.score,
        )

    def _form(self) -> Form:
        given = {
            "free": Form(),
            "regex": Form("regex", pattern=self.pattern),
            "choice": Form("choice", choices=tuple(self.choices)),
            "json": Form("json", schema=self.json_schema),
        }
        return given[self.form]


class GenerateParams(DecodingParams):
    """A task's first attempt is greedy, unless all shall be drawn; those that its proposer allows beyond are drawn."""

    inherits = frozenset({"seed", "round"})

    seed: int = Field(0, ge=0, description="Seed of the sampling.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")
    greedy_first: bool = Field(True, description="The first attempt is greedy; all are drawn where it is not.")
    attempts: Literal["task", "fixed"] = Field("task", description="Attempts at a task: as it allows, or 'samples'.")
    samples: int = Field(8, ge=1, description="Attempts at each task where they are fixed.")
    keep_tokens: bool = Field(False, description="Keep the tokens of each attempt, and their log-probabilities.")
    workers: int = Field(1, ge=1, description="Processes on this machine that share the windows.")
    shards: int = Field(1, ge=1, description="Calls of this stage, such as pods, that share the windows.")
    shard: int = Field(0, ge=0, description="Which of these this one is, from 0.")

    @model_validator(mode="after")
    def _shard_is_one_of_them(self) -> typing.Self:
        if self.shard >= self.shards:
            raise PydanticCustomError("shard", "The shard must be below the number of shards, which count from 0")
        return self

    @classmethod
    def asking_as(cls, params: DecodingParams, **given: typing.Any) -> typing.Self:
        """Attempts that ask a policy as these parameters do, and are otherwise as given."""
        return cls(**{name: getattr(params, name) for name in DecodingParams.model_fields}, **given)

    def attempts_at(self, task: Task) -> int:
        """How many attempts there are at a task."""
        return self.samples if self.attempts == "fixed" else task.attempts
