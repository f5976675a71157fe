"""TRL's on-policy trainers, and the loop's verifiers as their reward."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from selfloop.finetune.on_policy import AsksAsWeDo
from selfloop.finetune.reinforce import ReinforceParams
from selfloop.finetune.training import Guarded
from selfloop.records import Rollout, Task, writing
from selfloop.verify import VerifyParams, judged


class GRPO(Guarded, AsksAsWeDo, GRPOTrainer):
    """TRL's ``GRPOTrainer`` (Shao et al., arXiv:2402.03300)."""


class RLOO(Guarded, AsksAsWeDo, RLOOTrainer):
    """TRL's ``RLOOTrainer`` (Ahmadian et al., arXiv:2402.14740)."""


TRAINERS: dict[str, tuple[Any, Any]] = {"grpo": (GRPO, GRPOConfig), "rloo": (RLOO, RLOOConfig)}


class Rewarded:
    """Rewards completions with a verifier's scores, and remembers the last ones for whoever asks what was seen."""

    __name__ = "verifier"

    def __init__(self, params: ReinforceParams, tasks: Sequence[Task], eos: int) -> None:
        self._verify = VerifyParams(environment=params.environment, verifier=params.verifier)
        self._tasks, self._eos = tasks, eos
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
            ended = bool(ids) and ids[-1] == self._eos
            rollouts.append(Rollout(task.id, task.level, attempts[task.id], task.prompt, text, ended, len(ids)))
        scores = self._judged(rollouts, list(dict.fromkeys(asked)))
        self._last = [rollout._asdict() | {"score": score} for rollout, score in zip(rollouts, scores, strict=True)]
        self.by_step.append(fmean(scores))
        return scores

    def _judged(self, rollouts: Sequence[Rollout], tasks: Sequence[Task]) -> list[float]:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            with writing(place / "rollouts", Rollout) as table:
                table.write(rollouts)
            with writing(place / "tasks", Task) as table:
                table.write(tasks)
            batches = judged(self._verify, place / "tasks", place / "rollouts")
            return [float(score) for batch in batches for score in batch["score"].to_pylist()]

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """The last attempts and their scores."""
        return self._last
