"""What on-policy training tries: the tasks of each draw, the attempts at them, and what these are worth.

A draw is what is tried at once: a group of attempts at each of a few tasks. It depends on its number and on the policy
alone, so that a training that was killed goes on as if it had not been.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from selfloop.artifacts import read_json, write_json
from selfloop.generate.draw import Drawn, Window
from selfloop.generate.engines.transformers import Transformers
from selfloop.policy import Policy
from selfloop.records import Rollout, Task, rows, writing
from selfloop.seeds import seed_for, seed_of
from selfloop.verify import VerifyParams, judge

if TYPE_CHECKING:
    from selfloop.finetune.online.reinforcement import ReinforceParams

    Table = np.ndarray[Any, Any]

PRACTICE, ATTEMPTS = "practice.json", "attempts"

Rewards = Callable[[int, Sequence[Task], Sequence[Rollout]], Sequence[float]]
"""The reward of each attempt of a draw, given its number and the tasks; a group's attempts stand together."""
Probe = Callable[[int, Sequence[Task]], Sequence[float]]
"""The reward of an attempt at each of some tasks, of the policy as it is at a draw."""


class Course(Protocol):
    """Which tasks are tried, one a group, and what is learnt of them."""

    def tasks(self, draw: int, groups: int, probe: Probe) -> list[Task]:
        """The tasks of a draw; ``probe`` tells what attempts at others would be worth now."""
        ...

    def learnt(self, draw: int, tasks: Sequence[Task], rewards: Table, advantages: Table) -> None:
        """Take note of what came of a draw: rewards and advantages (groups, attempts)."""
        ...

    def state(self) -> Any:
        """What it has to remember, as JSON."""
        ...

    def restore(self, state: Any) -> None:
        """Go on from what was remembered."""
        ...


class InTurn:
    """Every task once, in an order of its own, then again in another one."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        self._tasks, self._seed = tasks, seed

    def tasks(self, draw: int, groups: int, probe: Probe) -> list[Task]:
        """The next tasks."""
        numbers = range(draw * groups, (draw + 1) * groups)
        return [self._tasks[place] for place in turns(numbers, len(self._tasks), self._seed)]

    def learnt(self, draw: int, tasks: Sequence[Task], rewards: Table, advantages: Table) -> None:
        """Nothing changes the order."""

    def state(self) -> Any:
        """Nothing: the number of the draw says all."""
        return None

    def restore(self, state: Any) -> None:
        """Nothing to restore."""


def turns(numbers: Iterable[int], length: int, seed: int) -> list[int]:
    """Which of ``length`` things are taken at some numbers: each once, in a new random order every time around."""
    return [order(length, seed, number // length)[number % length] for number in numbers]


@lru_cache(maxsize=2)
def order(length: int, seed: int, around: int) -> list[int]:
    """A random order of ``length`` things, the same for a seed and a time around."""
    made: list[int] = np.random.default_rng(seed_of(seed, "around", around)).permutation(length).tolist()
    return made


class Verified:
    """Rewards attempts with a verifier's scores."""

    def __init__(self, params: ReinforceParams) -> None:
        self._params = VerifyParams(environment=params.environment, verifier=params.verifier)

    def __call__(self, draw: int, tasks: Sequence[Task], rollouts: Sequence[Rollout]) -> Sequence[float]:
        """The scores of a draw's attempts."""
        return [verdict.score for verdict in judge(rollouts, tasks, self._params)]


class Tried(NamedTuple):
    """A draw: its tasks, the attempts at them in order, rewards (groups, attempts) and vote rates (groups)."""

    tasks: list[Task]
    attempts: list[Drawn]
    rewards: torch.Tensor
    rates: torch.Tensor


class Practice:
    """Tries tasks with a policy, and remembers the attempts of the last draws for whoever judges the training."""

    def __init__(self, params: ReinforceParams, policy: Policy, course: Course, rewards: Rewards) -> None:
        self._params, self._policy, self._rewards = params, policy, rewards
        self._decoding = params.decoding(
            engine="transformers", temperature=params.temperature, top_p=params.top_p, max_tokens=params.max_tokens
        )
        self.course = course
        self._engine = Transformers(policy, self._decoding.batch_size)
        self.by_draw: list[float] = []
        self._kept: list[list[Rollout]] = []

    def drawn(self, draw: int, asked: Sequence[Task], part: int = 0) -> list[Drawn]:
        """An attempt at each of these, of the policy as it is, in their order."""
        numbers, model = Counter(asked), self._policy.model
        tasks = [task._replace(attempts=number) for task, number in numbers.items()]
        seed = seed_for(self._params, "practice", draw, part)
        decoding = self._decoding.model_copy(update={"seed": seed})
        if training := model.training:
            model.eval()
        attempts = Window(self._engine, tasks, decoding, lambda rollout: None).drawn()
        if training:
            model.train()
        left = iter(attempts)
        at = {task: iter(list(islice(left, number))) for task, number in numbers.items()}
        return [next(at[task]) for task in asked]

    def tasks(self, draw: int, groups: int) -> list[Task]:
        """The tasks of a draw."""
        return self.course.tasks(draw, groups, self._probe)

    def _probe(self, draw: int, tasks: Sequence[Task]) -> Sequence[float]:
        return self._rewards(draw, tasks, [each.rollout for each in self.drawn(draw, tasks)])

    def tried(self, draw: int, groups: int) -> Tried:
        """One draw, rewarded."""
        tasks = self.tasks(draw, groups)
        attempts = self.drawn(draw, [task for task in tasks for _ in range(self._params.group_size)])
        given = self.rewarded(draw, tasks, [each.rollout for each in attempts])
        rewards = torch.tensor(given, dtype=torch.float32).view(groups, -1)
        return Tried(tasks, attempts, rewards, rates(tasks, rewards))

    def rewarded(self, draw: int, tasks: Sequence[Task], rollouts: Sequence[Rollout]) -> Sequence[float]:
        """The rewards of a draw's attempts, which are remembered."""
        given = self._rewards(draw, tasks, rollouts)
        self.by_draw.append(fmean(given))
        self._kept = [*self._kept, list(rollouts)][-self._params.keep_draws :]
        return given

    def seen(self, first: int, last: int) -> list[dict[str, Any]]:
        """The attempts of the last draw."""
        return [rollout._asdict() for rollout in self._kept[-1]] if self._kept else []

    def write(self, directory: Path, tasks: Sequence[Task]) -> None:
        """Write the attempts that are remembered in the order of their tasks, numbered anew."""
        by_task: dict[str, list[Rollout]] = {task.id: [] for task in tasks}
        for rollouts in self._kept:
            for rollout in rollouts:
                by_task[rollout.task].append(rollout)
        with writing(directory, Rollout) as table:
            for attempts in by_task.values():
                table.write([each._replace(attempt=number) for number, each in enumerate(attempts)])

    def save(self, place: Path) -> None:
        """Keep what it has to remember in a checkpoint."""
        about = {"course": self.course.state(), "by_draw": self.by_draw, "draws": list(map(len, self._kept))}
        write_json(place, about, PRACTICE)
        with writing(place / ATTEMPTS, Rollout) as table:
            for rollouts in self._kept:
                table.write(rollouts)

    def restore(self, place: Path) -> None:
        """Go on from a checkpoint."""
        about, attempts = read_json(place, PRACTICE), rows(place / ATTEMPTS, Rollout)
        self.course.restore(about["course"])
        self.by_draw = about["by_draw"]
        self._kept = [list(islice(attempts, number)) for number in about["draws"]]


def rates(tasks: Sequence[Task], rewards: torch.Tensor) -> torch.Tensor:
    """The vote rate of each task, as it was when its pseudo-label was made; else its group's mean reward."""
    known = [json.loads(task.metadata).get("rate") for task in tasks]
    means = rewards.mean(dim=1).tolist()
    return torch.tensor([mean if rate is None else rate for rate, mean in zip(known, means, strict=True)])
