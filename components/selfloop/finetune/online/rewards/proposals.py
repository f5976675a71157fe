"""``reinforce_proposer``: a policy that learns to propose tasks at the edge of what a solver can do.

It writes at its environment's invitation; the frozen solver attempts each task that comes of it, and how much its
attempts agree, how many tools they call and how much the batch repeats itself make the reward (Agent0,
arXiv:2511.16043; R-Zero; see ``propose.rewards``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from kfp.dsl import Dataset, Model
from pydantic import Field

from selfloop.environments import Environment, find_environment
from selfloop.finetune.running.launch import Job, Made, done
from selfloop.finetune.online.reinforcement import ReinforceParams
from selfloop.generate.protocols import final
from selfloop.propose.learned import invited
from selfloop.propose.rewards import Proposal, Weights, find_reward, repetition, votes
from selfloop.records import Rollout, Task
from selfloop.resources import Resources
from selfloop.seeds import seed_for
from selfloop.stage import stage

if TYPE_CHECKING:
    from selfloop.finetune.online.collector import Probe, Table
    from selfloop.generate.engines import Engine


class ReinforceProposerParams(ReinforceParams):
    """The training of the proposer; ``protocol``, ``turns`` and ``tools`` are those of the solver's attempts."""

    environment: str = Field("arithmetic", description="The taskset whose tasks are proposed.")
    writes: str = Field("single", description="The protocol by which the proposer itself writes.")
    reward: str = Field("paper", description="A proposal's reward: paper, code, r-zero, or module:function.")
    votes: int = Field(10, ge=2, description="The solver's attempts at each proposal.")
    vote_tokens: int = Field(512, ge=1, description="Tokens of a turn of these at most; a task may allow fewer.")
    vote_temperature: float = Field(1.0, gt=0, description="Temperature of these.")
    weigh_uncertainty: float = Field(1.0, ge=0, description="paper: what the uncertainty weighs.")
    weigh_tools: float = Field(0.6, ge=0, description="paper: what tool use weighs.")
    weigh_repetition: float = Field(1.0, ge=0, description="What the share of a proposal's cluster weighs.")
    each_call: float = Field(0.05, ge=0, description="What a tool call adds, before it is weighed.")
    most_calls: int = Field(4, ge=0, description="Tool calls that add anything, at most.")
    near: float = Field(0.5, ge=0, le=1, description="Distance 1 - BLEU up to which proposals are one cluster.")


class ReinforcedProposer(NamedTuple):
    """The proposer trained, and what it wrote."""

    candidate: Model
    rollouts: Dataset


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def reinforce_proposer(out: ReinforcedProposer, params: ReinforceProposerParams, policy: Model, solver: Model) -> None:
    """Reinforce proposals that the solver neither always nor never solves, that differ, and that need tools."""
    done(work, params, {"policy": policy, "solver": solver}, out.candidate, {"rollouts": out.rollouts})


def work(params: ReinforceProposerParams, job: Job) -> Made:
    """Train the proposer against the solver as it is."""
    from selfloop.artifacts import manifest_of
    from selfloop.finetune.online.trl_trainer import reinforced
    from selfloop.generate.engines.transformers import Transformers
    from selfloop.policy import load

    environment = find_environment(params.environment)
    prompt = invited(environment, params.environment)
    tasks = [Task(f"invitation-{n}", 0, "", prompt, "") for n in range(params.groups)]
    solver = job.inputs["solver"]
    engine = Transformers(load(solver, manifest_of(solver).digest), params.batch_size * params.votes)
    rewards = Voted(params, environment, engine)
    course = Invitations(tasks, rewards)
    made = reinforced(params.model_copy(update={"protocol": params.writes}), job, course, rewards, tasks)
    return made._replace(metadata=made.metadata | {"proposals": [each._asdict() for each in rewards.by_draw]})


class Told(NamedTuple):
    """What the proposals of a draw came to: the share that are tasks, of these the share that differ, the mean vote
    rate, the mean level, and the mean number of tool calls in an attempt.
    """

    valid: float
    distinct: float
    rate: float
    level: float
    calls: float


class Voted:
    """Rewards proposals by the votes of a solver."""

    def __init__(self, params: ReinforceProposerParams, environment: Environment, solver: Engine) -> None:
        self._params, self._environment, self._solver = params, environment, solver
        self._reward = find_reward(params.reward)
        self._weights = Weights(
            uncertainty=params.weigh_uncertainty,
            tool=params.weigh_tools,
            repetition=params.weigh_repetition,
            each_call=params.each_call,
            cap=params.most_calls,
        )
        self.by_draw: list[Told] = []

    def __call__(self, draw: int, tasks: Sequence[Task], rollouts: Sequence[Rollout]) -> Sequence[float]:
        """The rewards of a draw's proposals."""
        made = [self._task(rollout) for rollout in rollouts]
        known = {task.prompt: task for task in made if task is not None}
        solved = dict(zip(known, self._attempts(draw, list(known.values())), strict=True))
        both = list(zip(rollouts, made, strict=True))
        shares = repetition(
            [rollout.completion if task is None else task.prompt for rollout, task in both], self._params.near
        )
        proposals = [
            self._proposal(rollout, task, share, solved) for (rollout, task), share in zip(both, shares, strict=True)
        ]
        self.by_draw.append(told(made, proposals))
        return [self._reward(proposal, self._weights) for proposal in proposals]

    def _task(self, rollout: Rollout) -> Task | None:
        if not rollout.finished:
            return None
        try:
            return self._environment.proposed(rollout.completion, "")
        except ValueError:
            return None

    def _attempts(self, draw: int, tasks: Sequence[Task]) -> list[list[Rollout]]:
        """The solver's attempts at each of these tasks."""
        from selfloop.generate.draw import Window

        params = self._params
        decoding = params.decoding(
            temperature=params.vote_temperature,
            max_tokens=params.vote_tokens,
            attempts="fixed",
            samples=params.votes,
            seed=seed_for(params, "votes", draw),
        )
        named = [task._replace(id=f"{number}") for number, task in enumerate(tasks)]
        drawn = Window(self._solver, named, decoding, lambda rollout: None).rollouts()
        return [drawn[first : first + params.votes] for first in range(0, len(drawn), params.votes)]

    def _proposal(
        self, rollout: Rollout, task: Task | None, share: float, solved: dict[str, list[Rollout]]
    ) -> Proposal:
        if task is None:
            return Proposal(False, share=share)
        attempts = solved[task.prompt]
        said = [
            self._environment.answer_of(final(each.completion, each.observed)) if each.finished else None
            for each in attempts
        ]
        return Proposal(
            True,
            votes(said, "all"),
            share,
            fmean(each.turns - 1 for each in attempts),
            len(json.loads(rollout.observed)),
            json.loads(task.metadata).get("claimed"),
        )


def told(made: Sequence[Task | None], proposals: Sequence[Proposal]) -> Told:
    """What a draw's proposals came to."""
    tasks = [task for task in made if task is not None]
    good = [proposal for proposal in proposals if proposal.is_task]
    return Told(
        valid=len(tasks) / len(made),
        distinct=len({task.prompt for task in tasks}) / max(1, len(tasks)),
        rate=fmean(each.vote.rate for each in good) if good else 0.0,
        level=fmean(task.level for task in tasks) if tasks else 0.0,
        calls=fmean(each.calls for each in good) if good else 0.0,
    )


class Invitations:
    """The same invitations in every draw; remembers what the proposals came to, which a checkpoint has to hold."""

    def __init__(self, tasks: Sequence[Task], rewards: Voted) -> None:
        self._tasks, self._rewards = tasks, rewards

    def tasks(self, draw: int, groups: int, probe: Probe) -> list[Task]:
        """An invitation for each group."""
        return list(self._tasks[:groups])

    def learnt(self, draw: int, tasks: Sequence[Task], rewards: Table, advantages: Table) -> None:
        """Nothing changes what is asked."""

    def state(self) -> Any:
        """What the proposals of each draw came to."""
        return self._rewards.by_draw

    def restore(self, state: Any) -> None:
        """Go on from what was remembered."""
        self._rewards.by_draw = [Told(*each) for each in state]
