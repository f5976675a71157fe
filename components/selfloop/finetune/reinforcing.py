"""TRL's on-policy trainers, and the loop's verifiers as their reward."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from selfloop.finetune.on_policy import AsksAsWeDo
from selfloop.finetune.reinforce import ReinforceParams
from selfloop.finetune.training import Guarded
from selfloop.policy import Policy
from selfloop.records import Rollout, Task
from selfloop.verify import VerifyParams, judge


class GRPO(Guarded, AsksAsWeDo, GRPOTrainer):
    """TRL's ``GRPOTrainer`` (Shao et al., arXiv:2402.03300)."""


class RLOO(Guarded, AsksAsWeDo, RLOOTrainer):
    """TRL's ``RLOOTrainer`` (Ahmadian et al., arXiv:2402.14740)."""


TRAINERS: dict[str, tuple[Any, Any]] = {"grpo": (GRPO, GRPOConfig), "rloo": (RLOO, RLOOConfig)}


class Rewarded:
    """Rewards completions with a verifier's scores, and remembers the last ones for whoever asks what was seen."""

    __name__ = "verifier"

    def __init__(self, params: ReinforceParams, tasks: Sequence[Task], policy: Policy) -> None:
        self._verify = VerifyParams(environment=params.environment, verifier=params.verifier)
        declared = policy.model.generation_config.eos_token_id
        self._ends = {policy.tokenizer.eos_token_id, *(declared if isinstance(declared, list) else [declared])}
        self._tasks = tasks
        self._last: list[dict[str, Any]] = []
        self.by_step: list[float] = []

    def __call__(
        self, *, completions: Sequence[str], completion_ids: Sequence[Sequence[int]], number: Sequence[int], **_: Any
    ) -> list[float]:
        """The score of each completion; the completions of a task stand together."""
        asked = [self._tasks[index] for index in number]
        attempts: dict[str, int] = {}
        rollouts = []
        for task, text, ids in zip(asked, completions, completion_ids, strict=True):
            attempts[task.id] = attempts.get(task.id, -1) + 1
            ended = bool(ids) and ids[-1] in self._ends
            rollouts.append(Rollout(task.id, task.level, attempts[task.id], task.prompt, text, ended, len(ids)))
        tasks_of_these = list(dict.fromkeys(asked))
        scores = [verdict.score for verdict in judge(rollouts, tasks_of_these, self._verify)]
        self._last = [rollout._asdict() | {"score": score} for rollout, score in zip(rollouts, scores, strict=True)]
        self.by_step.append(fmean(scores))
        return scores

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """The last attempts and their scores."""
        return self._last
