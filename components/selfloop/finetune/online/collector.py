"""What on-policy training tries: the tasks of each draw, the attempts at them, and what these are worth.

A draw is what is tried at once: a group of attempts at each of a few tasks. It depends on its number, on the policy and
on what the strategies remember, so that a training that was killed continues as if it had not been.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError
from selfloop.finetune.online.algorithms import RewardedGroups
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.rewards import Attempts, RewardContext
from selfloop.generate.draw import TokenizedRollout, Window
from selfloop.generate.engines.transformers import Transformers
from selfloop.memory import entry, remembered
from selfloop.policy import Policy
from selfloop.propose.curricula import DrawFeedback, TaskPool
from selfloop.records import Rollout, Task, rows, writing
from selfloop.seeds import seed_for
from selfloop.strategies import Strategy

COLLECTED, ATTEMPTS = "collected.json", "attempts"


@dataclass
class StrategyStates:
    """What the strategies of a training remember, at any time."""

    params: ReinforceParams
    curriculum: Any
    reward: Any
    algorithm: Any

    @classmethod
    def of_round(cls, params: ReinforceParams, pool: TaskPool, kept: Mapping[str, Any]) -> StrategyStates:
        """What they remember as a training begins, of what is kept of earlier rounds."""
        curriculum, reward, algorithm = params.curriculum, params.reward, params.algorithm
        before = partial(remembered, kept=kept)
        return cls(
            params,
            curriculum.for_round(before("curriculum", curriculum, curriculum.keeps), pool),
            reward.for_round(before("reward", reward, reward.keeps)),
            algorithm.for_round(before("algorithm", algorithm, algorithm.keeps)),
        )

    def ended(self) -> dict[str, Any]:
        """What they remember of the training that is over, as JSON."""
        self.curriculum = self.params.curriculum.ended(self.curriculum)
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """What they remember now."""
        return {slot: entry(strategy, getattr(self, slot)) for slot, strategy in self._strategies.items()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Continue from what they remembered."""
        for slot, strategy in self._strategies.items():
            setattr(self, slot, remembered(slot, strategy, type(getattr(self, slot)), kept))

    @property
    def _strategies(self) -> dict[str, Strategy]:
        return {slot: getattr(self.params, slot) for slot in ("curriculum", "reward", "algorithm")}


class RolloutBatch(NamedTuple):
    """A draw: its tasks, the attempts at them in order, rewards (groups, attempts) and vote rates (groups).

    Where a protocol asks several roles, an attempt is as many rollouts, one behind the other.
    """

    tasks: list[Task]
    attempts: list[TokenizedRollout]
    rewards: torch.Tensor
    rates: torch.Tensor


class RolloutCollector:
    """Tries tasks with a policy, and remembers the attempts of the last draws for whoever judges the training."""

    def __init__(
        self, params: ReinforceParams, policy: Policy, pool: TaskPool, states: StrategyStates, context: RewardContext
    ) -> None:
        self._params, self._policy, self._pool, self._context = params, policy, pool, context
        self._decoding = params.decoding(
            engine="transformers", temperature=params.temperature, top_p=params.top_p, max_tokens=params.max_tokens
        )
        self._engine = Transformers(policy, self._decoding.batch_size)
        self.states = states
        self.by_draw: list[float] = []
        self.informative: list[float] = []
        """By draw, the share of groups that have an advantage: all others teach nothing."""
        self._kept: list[list[Rollout]] = []

    def drawn(self, draw: int, asked: Sequence[Task], part: int = 0) -> list[TokenizedRollout]:
        """An attempt at each of these, of the policy as it is, in their order, each with all its roles.

        All are drawn at the temperature that the loss knows of, also where a task has one of its own.
        """
        numbers = Counter(asked)
        tasks = [task._replace(attempts=number, temperature=None) for task, number in numbers.items()]
        seed = seed_for(self._params, "practice", draw, part)
        decoding = self._decoding.model_copy(update={"seed": seed})
        with evaluating(self._policy):
            rollouts = Window(self._engine, tasks, decoding).tokenized()
        left = iter(whole_attempts(rollouts))
        at = {task: iter(list(islice(left, number))) for task, number in numbers.items()}
        return [rollout for task in asked for rollout in next(at[task])]

    def tasks(self, draw: int, groups: int) -> list[Task]:
        """The tasks of a draw."""
        probe, states = partial(self._probe, draw), self.states
        chosen, states.curriculum = self._params.curriculum.choose(states.curriculum, self._pool, draw, groups, probe)
        return chosen

    def _probe(self, draw: int, tasks: Sequence[Task]) -> Sequence[float]:
        given, _ = self._rewards(draw, tasks, [each.rollout for each in self.drawn(draw, tasks)])
        roles = len(given) // len(tasks)
        return [fmean(given[first : first + roles]) for first in range(0, len(given), roles)]

    def _rewards(self, draw: int, tasks: Sequence[Task], rollouts: Sequence[Rollout]) -> tuple[Sequence[float], Any]:
        """Rewards, and what the reward remembers then. Raises ``UserError`` for a number that is none."""
        reward, attempts = self._params.reward, Attempts(draw, tasks, rollouts, self._context)
        with evaluating(self._policy):  # which the reward may ask
            given, state = reward.rewards(attempts, self.states.reward)
        odd = next((value for value in given if not math.isfinite(value)), None)
        if odd is not None or len(given) != len(rollouts):
            what = f"{odd} to an attempt" if odd is not None else f"{len(given)} rewards to {len(rollouts)} attempts"
            raise UserError(f"The reward '{reward}' gave {what}: let it give each a finite number.")
        return given, state

    def collect(self, draw: int, groups: int) -> RolloutBatch:
        """One draw, rewarded."""
        tasks = self.tasks(draw, groups)
        attempts = self.drawn(draw, [task for task in tasks for _ in range(self._params.group_size)])
        given = self.rewarded(draw, tasks, [each.rollout for each in attempts])
        rewards = torch.tensor(given, dtype=torch.float32).view(groups, -1)
        return RolloutBatch(tasks, attempts, rewards, rates(tasks, rewards))

    def rewarded(self, draw: int, tasks: Sequence[Task], rollouts: Sequence[Rollout]) -> Sequence[float]:
        """The rewards of a draw's attempts, which are remembered."""
        given, self.states.reward = self._rewards(draw, tasks, rollouts)
        self.by_draw.append(fmean(given))
        self._kept = [*self._kept, list(rollouts)][-self._params.keep_draws :]
        return given

    def advantages(self, tasks: Sequence[Task], groups: RewardedGroups) -> torch.Tensor:
        """The advantages (groups, attempts) of a draw; the algorithm and the curriculum learn of it."""
        algorithm, states = self._params.algorithm, self.states
        made, states.algorithm = algorithm.advantages(groups, states.algorithm)
        if made.shape != groups.rewards.shape or not bool(torch.isfinite(made).all()):
            raise UserError(f"The algorithm '{algorithm}' gave no finite advantage for each attempt: let it give one.")
        self.informative.append(float((made != 0).any(dim=1).float().mean()))
        feedback = DrawFeedback(tasks, groups.rewards.numpy(), made.numpy())
        states.curriculum = self._params.curriculum.learn(states.curriculum, feedback)
        return made

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """The attempts of the last draw."""
        return [rollout._asdict() for rollout in self._kept[-1]] if self._kept else []

    def write(self, directory: Path, tasks: Sequence[Task]) -> None:
        """Write the attempts that are remembered in the order of their tasks, numbered anew."""
        by_task: dict[str, list[list[Rollout]]] = {task.id: [] for task in tasks}
        for rollouts in self._kept:
            for _, attempt in groupby(rollouts, lambda rollout: (rollout.task, rollout.attempt)):
                roles = list(attempt)
                by_task[roles[0].task].append(roles)
        with writing(directory, Rollout) as table:
            for attempts in by_task.values():
                table.write([numbered(each, number) for number, roles in enumerate(attempts) for each in roles])

    def save(self, place: Path) -> None:
        """Keep what it has to remember in a checkpoint."""
        about = {"states": self.states.to_json(), "by_draw": self.by_draw, "informative": self.informative}
        about |= {"draws": list(map(len, self._kept))}
        write_json(place, about, COLLECTED)
        with writing(place / ATTEMPTS, Rollout) as table:
            for rollouts in self._kept:
                table.write(rollouts)

    def restore(self, place: Path) -> None:
        """Continue from a checkpoint."""
        about, attempts = read_json(place, COLLECTED), rows(place / ATTEMPTS, Rollout)
        self.states.restore(about["states"])
        self.by_draw, self.informative = about["by_draw"], about["informative"]
        self._kept = [list(islice(attempts, number)) for number in about["draws"]]


@contextmanager
def evaluating(policy: Policy) -> Iterator[None]:
    """Let a policy that trains be asked as it is: without dropout and the like."""
    model = policy.model
    if training := model.training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def whole_attempts(rollouts: Sequence[TokenizedRollout]) -> list[list[TokenizedRollout]]:
    """Rollouts by attempt, one for each role. Raises ``UserError`` where attempts have different roles."""
    attempts = [list(each) for _, each in groupby(rollouts, lambda each: (each.rollout.task, each.rollout.attempt))]
    roles = {tuple(each.rollout.role for each in attempt) for attempt in attempts}
    if len(roles) > 1:
        one, other, *_ = (" and ".join(each) for each in sorted(roles))
        raise UserError(
            f"The protocol asked for {one} in one attempt and for {other} in another: let it ask the same roles in the "
            "same order, so that their rewards can be compared."
        )
    return attempts


def numbered(rollout: Rollout, number: int) -> Rollout:
    """A rollout as that of a task's attempt of this number."""
    episode = f"{rollout.task}-{number}" if rollout.episode else ""
    return rollout._replace(attempt=number, episode=episode)


def rates(tasks: Sequence[Task], rewards: torch.Tensor) -> torch.Tensor:
    """The vote rate of each task, as it was when its pseudo-label was made; else its group's mean reward."""
    known = [json.loads(task.metadata).get("rate") for task in tasks]
    means = rewards.mean(dim=1).tolist()
    return torch.tensor([mean if rate is None else rate for rate, mean in zip(known, means, strict=True)])
