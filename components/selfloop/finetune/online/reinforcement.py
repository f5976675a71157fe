"""``reinforce_policy``: a policy learns from its own attempts while it trains.

Three strategies say how: a ``curriculum`` which tasks are tried, a ``reward`` what attempts are worth, an ``algorithm``
what advantages come of that. What they remember goes in and out as ``state``.

The training starts from ``policy``, whatever that is, and holds to it by ``kl_beta``. A task whose group is all right
or all wrong moves nothing. Tasks that are held-out items are taken out first, and counted; where none is left, the
policy is handed on as it is, if so configured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kfp.dsl import Artifact, Dataset, Model

from selfloop.artifacts import write_json
from selfloop.errors import UserError
from selfloop.finetune.online.params import ROLLOUTS, ReinforceParams
from selfloop.finetune.online.sampling import CleanTasks, uncontaminated
from selfloop.finetune.running.dispatch import run_training
from selfloop.finetune.running.launch import Job, TrainingResult, is_first
from selfloop.finetune.running.state import STATE, handed_on, stored
from selfloop.records import Rollout, writing
from selfloop.resources import Resources
from selfloop.stages import Params, stage


class TrainingStateParams(Params):
    """Nothing: each strategy begins when it first trains."""


class TrainingState(NamedTuple):
    """What the strategies of a training remember."""

    state: Artifact


@stage()
def init_training_state(out: TrainingState, params: TrainingStateParams) -> None:
    """Begin what the strategies of a training remember from round to round: nothing yet."""
    write_json(out.state.path, {})


class ReinforcedPolicy(NamedTuple):
    """The policy trained, what it attempted, and what the strategies remember."""

    candidate: Model
    rollouts: Dataset
    state: Artifact


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def reinforce_policy(
    out: ReinforcedPolicy,
    params: ReinforceParams,
    policy: Model,
    tasks: Dataset | None = None,
    eval_items: Dataset | None = None,
    state: Artifact | None = None,
    asked: Model | None = None,
) -> None:
    """Let a policy try tasks while it trains, and reinforce what a reward says.

    A curriculum that makes its own tasks needs no ``tasks`` and ``eval_items``; without ``state`` nothing is remembered
    of earlier rounds; ``asked`` is whom a reward may ask: a policy (the one that starts where there is none), or a
    reward model.
    """
    given = {"policy": policy, "tasks": tasks, "eval_items": eval_items, "state": state, "asked": asked}
    inputs = {name: artifact for name, artifact in given.items() if artifact is not None}
    run_training(work, params, inputs, out.candidate, {ROLLOUTS: out.rollouts, STATE: out.state})


def work(params: ReinforceParams, job: Job) -> TrainingResult:
    """Train on the tasks that are no held-out items."""
    from selfloop.finetune.online.on_policy import train_on_policy

    own = params.curriculum.own_tasks(params.environment, params.groups)
    if own is not None:
        return train_on_policy(params, job, CleanTasks(list(own), 0, [0]), stored(job))
    missing = {"tasks", "eval_items"} - job.inputs.keys()
    if missing:
        raise UserError(
            f"The curriculum '{params.curriculum}' chooses among tasks that are no held-out items: give "
            f"reinforce_policy its {' and '.join(sorted(missing, reverse=True))}."
        )
    clean = uncontaminated(job.inputs["tasks"], job.inputs["eval_items"], params.ngram)
    if not clean.tasks:
        if params.when_empty == "stop":
            raise clean.none_left()
        return TrainingResult(clean.counts() | untrained(params, job), {})
    made = train_on_policy(params, job, clean, stored(job))
    return made._replace(metadata=clean.counts() | made.metadata)


def untrained(params: ReinforceParams, job: Job) -> dict[str, Any]:
    """Hand the policy on as it is, which attempted nothing. Returns what the training came to."""
    made = handed_on(job)
    if is_first():
        with writing(job.output / ROLLOUTS, Rollout):
            pass
    return made | {"method": str(params.algorithm), "rewards": []}
