"""What on-policy stages share: tasks that are no held-out items, and TRL trainers that ask as the policy is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from selfloop.errors import UserError
from selfloop.finetune.params import TrainingParams
from selfloop.generate.engines import EngineName, has_vllm
from selfloop.guards.contamination import contaminated, held_out
from selfloop.policy import Policy, check_room
from selfloop.records import Task, read, take

if TYPE_CHECKING:
    import datasets


class OnPolicyParams(TrainingParams):
    """How completions are drawn while training."""

    inherits = frozenset({"engine"})

    temperature: float = Field(1.0, gt=0, description="Temperature of the completions.")
    top_p: float = Field(1.0, gt=0, le=1, description="Share of the likeliest tokens to draw from.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a completion at most.")
    engine: EngineName = Field(
        "auto", description="What draws them; auto is vLLM beside the training where there is a GPU and vLLM."
    )
    gpu_share: float = Field(0.3, gt=0, lt=1, description="vllm: share of the GPU's memory for drawing.")
    ngram: int = Field(13, ge=2, description="Words in a row that no task may share with a held-out item.")

    def drawing(self) -> dict[str, Any]:
        """These parameters as TRL takes them. Raises ``UserError`` where vLLM is asked for and absent."""
        import torch

        able = has_vllm() and torch.cuda.is_available()
        if self.engine == "vllm" and not able:
            raise UserError(
                "engine 'vllm' needs vLLM and a GPU in the training's image: choose 'transformers' or install it."
            )
        made: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        made |= {"max_completion_length": self.max_tokens}
        if self.engine == "transformers" or not able:
            return made
        return made | {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": self.gpu_share}


class AsksAsWeDo:
    """A TRL trainer that turns prompts into tokens as ``generate_rollouts`` does, chat template included."""

    policy: Policy
    max_completion_length: int

    def _tokenize_prompts(self, prompts: Sequence[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        encoded = self.policy.encode(prompts)
        for prompt in encoded:
            self.policy.check_known(prompt)
            check_room(prompt, self.max_completion_length, self.policy.context)
        return encoded, None, {}


class CleanTasks(NamedTuple):
    """The tasks that are no held-out items, how many were, and the levels of them all."""

    tasks: list[Task]
    removed: int
    levels: list[int]

    def counts(self) -> dict[str, Any]:
        """How many tasks there were and were taken out, as a candidate tells it."""
        return {"examples": {"newest": len(self.tasks) + self.removed}, "contaminated": {"newest": self.removed}}

    def none_left(self) -> UserError:
        """Why there is no task to train on."""
        why = "Every task is a held-out item" if self.removed else "There are no tasks to train on"
        return UserError(f"{why}: propose tasks that the policies are not judged on.")


def uncontaminated(tasks: str, items: str, ngram: int) -> CleanTasks:
    """The tasks without those that are held-out items."""
    import numpy as np

    judged_by, masks, levels = held_out(items, ngram), [np.empty(0, bool)], set[int]()
    for batch in read(tasks, Task, ["prompt", "answer", "level"]):
        masks.append(contaminated(batch["prompt"], batch["answer"], judged_by))
        levels.update(batch["level"].to_pylist())
    mask = np.concatenate(masks)
    return CleanTasks(take(tasks, Task, np.flatnonzero(~mask)), int(mask.sum()), sorted(levels))


def refuse_scheme(policy: Policy) -> None:
    """Refuse a policy with a position scheme of its own, which TRL's trainers do not draw with."""
    if hasattr(policy.model.config, "position_restarts"):
        raise UserError(
            "TRL draws completions without this policy's position scheme (config.position_restarts): train it with "
            "finetune_policy on its own rollouts."
        )


def asked(tasks: Sequence[Task]) -> datasets.Dataset:
    """The data set of an on-policy trainer: the prompts."""
    import datasets

    return datasets.Dataset.from_dict({"prompt": [task.prompt for task in tasks]})
