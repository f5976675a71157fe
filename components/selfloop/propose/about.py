"""``ask_about``: tasks made of attempts, to judge them, to mend them, to say again what they were about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from kfp.dsl import Dataset
from pydantic import Field, field_validator

from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.records import Rollout, Task, Verdict, as_rows, batched, beside, read, rows, writing
from selfloop.roles import ATTEMPTS, BEHIND
from selfloop.seeds import STREAM
from selfloop.stages import Params, stage

Group = list[tuple[Rollout, bool | None]]


class AboutParams(Params):
    """What is asked about which attempts, and how often."""

    inherits = frozenset({"environment"})

    environment: str = Field("addition", description="The taskset that made the tasks.")
    role: str = Field("judge", description=f"What is asked: {', '.join(ATTEMPTS)}.")
    of: Literal["all", "good", "bad"] = Field("all", description="Which attempts: all, or those that the verdicts say.")
    most: int = Field(4, ge=1, description="What is asked about one task at most, each time about other attempts.")
    attempts: int = Field(4, ge=1, description="Answers that each may have.")
    stream: str = Field("", description=STREAM)

    @field_validator("role")
    @classmethod
    def _is_a_role(cls, role: str) -> str:
        if role not in ATTEMPTS:
            raise unknown("role", role, ATTEMPTS)
        return role


class AskedTasks(NamedTuple):
    """The tasks about attempts."""

    about: Dataset


@stage()
def ask_about(out: AskedTasks, params: AboutParams, tasks: Dataset, rollouts: Dataset, verdicts: Dataset) -> None:
    """Make tasks of attempts: what a policy is asked about them in a role, with the truth where it is known.

    Equal attempts are one; what a policy did not end is asked about as it stands.
    """
    environment = find_environment(params.environment)
    if params.role not in environment.roles:
        raise environment.without(params.role)
    with writing(out.about.path, Task) as table:
        known, task = rows(tasks.path, Task), None
        for group in _groups(rollouts.path, verdicts.path):
            named = group[0][0].task
            while task is None or task.id != named:
                task = next(known, None)
                if task is None:
                    raise UserError(f"A rollout names the task '{named}', which is not among its tasks.")
            table.write(about(environment, params, task, group))


def about(environment: Environment, params: AboutParams, task: Task, group: Group) -> list[Task]:
    """What is asked about one task's attempts, each beside what the verifier thinks of it."""
    wanted = params.of == "good"
    texts = list(dict.fromkeys(rollout.completion for rollout, ok in group if params.of == "all" or ok is wanted))
    size = ATTEMPTS[params.role]
    shown: Sequence[Sequence[str]] = list(batched(texts, size)) if size else [[]]
    whole = [each for each in shown if len(each) == size][: params.most]
    return [
        environment.asked(params.role, task, each)._replace(
            id=f"{task.id}{BEHIND}{params.role}-{number}", attempts=params.attempts, cluster=task.cluster or task.id
        )
        for number, each in enumerate(whole)
    ]


def _groups(rollouts: str, verdicts: str) -> Iterator[Group]:
    """The attempts at each task beside their verdicts."""
    for _, attempts in groupby(_judged(rollouts, verdicts), lambda each: each[0].task):
        yield list(attempts)


def _judged(rollouts: str, verdicts: str) -> Iterator[tuple[Rollout, bool | None]]:
    for attempts, judged in beside(read(rollouts, Rollout), read(verdicts, Verdict, ["task", "ok"])):
        if attempts["task"] != judged["task"]:
            raise UserError(f"The verdicts in {verdicts} are of other rollouts: verify these rollouts again.")
        yield from zip(as_rows(attempts, Rollout), judged["ok"].to_pylist(), strict=True)
