"""``repair_rollouts``: wrong attempts are put right, some of them or all, before anything is learnt of them.

Self-correcting self-consuming loops (Gillman et al., arXiv:2402.07087) train on (p + g c(p)) / (1 + g), where c puts
right what a policy of the density p writes, and leaves alone what is right. Here a wrong attempt is put right with the
chance g / (1 + g), the ``strength``, and what it is put right to is its task's demonstration, not the nearest text.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from kfp.dsl import Dataset
from pydantic import Field

from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.propose.base import shown
from selfloop.records import Rollout, Task, as_rows, read, rows, writing
from selfloop.seeds import seed_of
from selfloop.stages import Params, stage


class RepairParams(Params):
    """Which attempts are put right, and how many."""

    inherits = frozenset({"environment", "round"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    strength: float = Field(0.5, ge=0, le=1, description="Chance of such an attempt to be put right.")
    of: Literal["wrong", "all"] = Field("wrong", description="Which attempts: those that are wrong, or all.")
    round: int = Field(0, ge=0, description="The round; others are put right in each.")


class RepairedRollouts(NamedTuple):
    """The attempts, some of them put right."""

    repaired: Dataset


@stage()
def repair_rollouts(out: RepairedRollouts, params: RepairParams, tasks: Dataset, rollouts: Dataset) -> None:
    """Put attempts right, each with the same chance, as the environment demonstrates their tasks."""
    environment = find_environment(params.environment)
    if environment.runs_code:
        raise UserError(f"Attempts in '{params.environment}' are programs, which are not run here: choose another.")
    known = {task.id: task for task in rows(tasks.path, Task)}
    wrong = repaired = 0
    with writing(out.repaired.path, Rollout) as table:
        for batch in read(rollouts.path, Rollout):
            made = list[Rollout]()
            for attempt in as_rows(batch, Rollout):
                is_wrong = not is_right(environment, known[attempt.task], attempt)
                chosen = (is_wrong or params.of == "all") and is_drawn(attempt, params)
                wrong, repaired = wrong + is_wrong, repaired + chosen
                made.append(put_right(environment, known[attempt.task], attempt) if chosen else attempt)
            table.write(made)
    out.repaired.metadata.update(wrong=wrong, repaired=repaired)


def is_right(environment: Environment, task: Task, attempt: Rollout) -> bool:
    """Whether an attempt has an end, and is right."""
    return attempt.finished and environment.check(task, attempt.completion).ok


def is_drawn(attempt: Rollout, params: RepairParams) -> bool:
    """Whether an attempt is among those that are put right if they are wrong."""
    return seed_of("repair", params.round, attempt.task, attempt.attempt) % 10**6 < params.strength * 10**6


def put_right(environment: Environment, task: Task, attempt: Rollout) -> Rollout:
    """The demonstration in the place of an attempt; the policy's own probabilities are none of it."""
    right = shown(environment, task)
    return attempt._replace(
        completion=right.completion,
        segments=right.segments,
        finished=True,
        logprob=None,
        self_certainty=None,
        token_ids=None,
        logprobs=None,
    )
