"""``generate_rollouts``: attempts of a policy at tasks, window by window, shared by processes, kept through a kill."""

from __future__ import annotations

from typing import NamedTuple

from kfp.dsl import Dataset, Model

from selfloop import artifacts
from selfloop.generate.forks import Source
from selfloop.generate.params import GenerateParams
from selfloop.generate.windows import Kept, Tally, key_of, make, of_shard, to_make
from selfloop.metering import drew
from selfloop.records import Rollout, read, writing
from selfloop.resources import Resources
from selfloop.stages import Params, stage


class JoinParams(Params):
    """Parts of what one generation made."""


class JoinedRollouts(NamedTuple):
    """The rollouts of all shards."""

    joined: Dataset


@stage()
def join_rollouts(out: JoinedRollouts, params: JoinParams, parts: list[Dataset]) -> None:
    """Put the rollouts that the shards of a generation drew behind each other."""
    with writing(out.joined.path, Rollout) as table:
        for part in parts:
            for batch in read(part.path, Rollout):
                table.write(batch)


class GeneratedRollouts(NamedTuple):
    """The attempts at the tasks."""

    rollouts: Dataset


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"), joined_by=join_rollouts)
def generate_rollouts(out: GeneratedRollouts, params: GenerateParams, policy: Model, tasks: Dataset) -> None:
    """Draw the attempts that each task allows from the policy."""
    inputs = {"policy": policy.metadata["digest"], "tasks": tasks.metadata["digest"]}
    kept, mine = Kept(out.rollouts.path, key_of(params, inputs)), of_shard(tasks.path, params)
    found = {number for number in mine if kept.has(number)}
    total = sum(params.attempts_at(task) for _, window in to_make(tasks.path, params, mine) for task in window)
    done, tokens = kept.counts(found)
    drew(tokens)  # by a run that was killed, for this table
    tally, missing = Tally(total, "rollouts", done, tokens), set(mine) - found
    make(params, Source(policy.path, inputs["policy"]), to_make(tasks.path, params, missing), kept, tally)
    with writing(out.rollouts.path, Rollout) as table:
        for number in mine:
            for batch in kept.read(number):
                table.write(batch)
    artifacts.write_json(out.rollouts.path, {"windows_found": len(found)}, artifacts.SIDECAR)
    kept.remove()
