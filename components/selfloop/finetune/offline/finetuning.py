"""``finetune_policy``: a copy of a policy, trained on a mixture of examples by a method.

Held-out items are removed from the examples before anything is drawn from them, and counted. What a method cannot use
is left: text to train away from by ``sft``, examples without a worse completion by ``dpo``, groups that are all good or
all bad by ``nft``. The training starts from ``policy``, whatever that is: restarting from the base policy or continuing
from the champion is the recipe's choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field

from selfloop.artifacts import write_json
from selfloop.errors import UserError
from selfloop.finetune.offline.methods import GivenExamples, Method
from selfloop.finetune.offline.methods.sft import Sft
from selfloop.finetune.offline.mixture import SOURCES, MixtureParams, earlier, mixture, usable_rows
from selfloop.finetune.offline.replays import Pool
from selfloop.finetune.running.dispatch import run_training
from selfloop.finetune.running.launch import Job, TrainingResult, is_first
from selfloop.finetune.running.moments import write_moments
from selfloop.finetune.running.state import STATE, earlier_moments, handed_on, stored
from selfloop.guards.contamination import clean, held_out, of_prompts
from selfloop.memory import entry, remembered
from selfloop.records import count
from selfloop.resources import Resources
from selfloop.seeds import seed_for
from selfloop.stages import stage


class FinetuneParams(MixtureParams):
    """The method, the mixture that it learns from, and what is done where there is none."""

    method: Method = Field(Sft(), description="How the weights change.")
    optimizer: Literal["anew", "continued"] = Field(
        "anew",
        description="What it knows of each weight at first: nothing, or what it did when the last round ended.",
    )
    when_nothing: Literal["stop", "keep policy"] = Field(
        "stop", description="Where there is nothing to train on: stop, or hand the policy on as it is."
    )
    ngram: int = Field(13, ge=2, description="Words in a row that no example may share with a held-out item.")


class FinetunedPolicy(NamedTuple):
    """The policy trained, and what the method remembers."""

    candidate: Model
    state: Artifact


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def finetune_policy(
    out: FinetunedPolicy,
    params: FinetuneParams,
    policy: Model,
    newest: Dataset,
    replay_pool: Dataset,
    seed_data: Dataset,
    eval_items: Dataset,
    state: Artifact | None = None,
) -> None:
    """Train a copy of the policy on this round's examples, mixed with the replay pool and the seed data.

    Without ``state`` the method remembers nothing of earlier rounds.
    """
    inputs: dict[str, Artifact] = {"policy": policy, "newest": newest, "replay_pool": replay_pool}
    inputs |= {"seed_data": seed_data, "eval_items": eval_items}
    inputs |= {STATE: state} if state is not None else {}
    run_training(work, params, inputs, out.candidate, {STATE: out.state})


def work(params: FinetuneParams, job: Job) -> TrainingResult:
    """Draw the mixture, train on it, save the candidate."""
    sources = {name: job.inputs[name] for name in SOURCES}
    judged_by = held_out(job.inputs["eval_items"], params.ngram)
    uncontaminated = {name: clean(path, judged_by) for name, path in sources.items()}
    totals = {name: count(path) for name, path in sources.items()}
    removed = {name: totals[name] - len(rows) for name, rows in uncontaminated.items()}
    prompts = of_prompts(sources["newest"], uncontaminated["newest"])
    about = {"examples": totals, "contaminated": removed, "prompts": prompts, "method": str(params.method)}
    usable = {name: rows[usable_rows(params.method, sources[name])[rows]] for name, rows in uncontaminated.items()}
    if params.replay_share:
        usable["replay_pool"] = params.replay(pool_of(params, job), usable["replay_pool"])
    shares = {name: share * (len(usable[name]) > 0) for name, share in params.shares.items()}
    if any(shares.values()):
        drawn = mixture(params, sources, usable, shares)
        made = trained_on(params, job, *drawn, partial(earlier, params, sources, usable))
        return made._replace(metadata=about | made.metadata)
    if params.when_nothing == "stop":
        raise nothing(params, removed, totals)
    return TrainingResult(about | handed_on(job), {})


def pool_of(params: FinetuneParams, job: Job) -> Pool:
    """The replay pool as the training begins."""
    from selfloop.policy import load

    seed = seed_for(params, params.round, "replay")
    return Pool(job.inputs["replay_pool"], params.round, lambda: load(job.inputs["policy"]), seed)


def trained_on(
    params: FinetuneParams, job: Job, examples: list[Any], order: Any, earlier: Callable[[int], list[Any]]
) -> TrainingResult:
    """Train on examples in an order; save the candidate, and what the method remembers."""
    from selfloop.finetune.running.speed import speed
    from selfloop.finetune.running.training import Plan, processes
    from selfloop.finetune.running.weights import keep, to_train

    method = params.method
    method.refuse(examples)
    policy = to_train(params, job.inputs["policy"])
    steps = math.ceil(len(order) / params.batch_size)
    moments = earlier_moments(job) if params.optimizer == "continued" else None
    plan = Plan.of(params, seed_for(params, params.round, "finetune"), job.place, steps, moments)
    before = method.for_round(remembered("method", method, method.keeps, stored(job)))
    (trained, data), state = method.train(GivenExamples(params, policy, examples, order, plan, earlier), before)
    if is_first():
        keep(params, policy, job.inputs["policy"], trained, job.output)
        write_json(job.output / STATE, {"method": entry(method, state)})
        if trained.moments is not None:
            write_moments(job.output / STATE, trained.moments)
    tokens = data.count(trained.first * params.batch_size, trained.steps * params.batch_size)
    rate = speed(tokens, trained.seconds, policy.model.num_parameters(), processes())
    return TrainingResult(
        {"steps": trained.steps, "loss": trained.loss}, rate | {"cut": data.cut, "left_out": data.left_out}
    )


def nothing(params: FinetuneParams, removed: Mapping[str, int], totals: Mapping[str, int]) -> UserError:
    """Why there is nothing to train on, and what to do."""
    held = [name for name, share in params.shares.items() if share and totals[name]]
    if held and all(removed[name] == totals[name] for name in held):
        return UserError("Every example is a held-out item: propose tasks that the policies are not judged on.")
    if held:
        return UserError(
            f"None of the examples can be trained on with method '{params.method}', which needs {params.method.needs}: "
            "choose a filter that keeps such, or another method."
        )
    return UserError("There is nothing to train on: give a share above 0 to a source that holds examples.")
