"""A training on a policy's own attempts, from what its strategies remember to what they remember then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from selfloop.artifacts import manifest_of, write_json
from selfloop.errors import UserError
from selfloop.finetune.online.algorithms.rloo import Rloo
from selfloop.finetune.online.algorithms.self_imitation import SelfImitation
from selfloop.finetune.online.collector import RolloutCollector, StrategyStates
from selfloop.finetune.online.params import ROLLOUTS, ReinforceParams
from selfloop.finetune.online.rewards import Reward, RewardContext
from selfloop.finetune.online.sampling import CleanTasks, refuse_scheme
from selfloop.finetune.online.small_trainer import SmallTrainer
from selfloop.finetune.running.launch import Job, TrainingResult, is_first
from selfloop.finetune.running.speed import speed
from selfloop.finetune.running.state import STATE
from selfloop.finetune.running.training import Plan, processes
from selfloop.finetune.running.weights import keep, to_train
from selfloop.generate.protocols.single import Single
from selfloop.policy import SMALL, Policy, load
from selfloop.propose.curricula import TaskPool
from selfloop.seeds import seed_for


def train_on_policy(params: ReinforceParams, job: Job, clean: CleanTasks, kept: Mapping[str, Any]) -> TrainingResult:
    """Train on these tasks; save the candidate, the attempts of the last draws, and what the strategies remember.

    ``kept`` is what they remember of earlier rounds, by slot.
    """
    policy = to_train(params, job.inputs["policy"])
    plan = Plan.of(params, seed_for(params, params.round, "reinforce"), job.place, params.steps)
    pool = TaskPool(clean.tasks, clean.levels, lambda purpose: seed_for(params, params.round, purpose))
    states = StrategyStates.of_round(params, pool, kept)
    collector = RolloutCollector(params, policy, pool, states, context_of(params, job, policy))
    if takes_own(params, policy):
        trainer = SmallTrainer(params, policy, plan, collector)
        trained, tokens = trainer.train(), trainer.tokens
    else:
        from selfloop.finetune.online.trl_trainer import train_by_trl

        trained, tokens = train_by_trl(params, policy, plan, collector)
    if is_first():
        keep(params, policy, job.inputs["policy"], trained, job.output)
        collector.write(job.output / ROLLOUTS, clean.tasks)
        write_json(job.output / STATE, states.ended())
    about = {"steps": trained.steps, "loss": trained.loss, "method": str(params.algorithm)}
    about |= {"rewards": collector.by_draw, "informative": fmean(collector.informative)} | params.reward.summary_of(
        states.reward
    )
    return TrainingResult(about, speed(tokens, trained.seconds, policy.model.num_parameters(), processes()))


def context_of(params: ReinforceParams, job: Job, policy: Policy) -> RewardContext:
    """What the reward may know, and the policy that it asks."""
    asked = asked_by(params.reward, job, policy)
    return RewardContext(params.environment, params, params.round, params.batch_size * params.reward.at_once(), asked)


def asked_by(reward: Reward, job: Job, policy: Policy) -> Policy | Path | None:
    """Whom a reward asks. Raises ``UserError`` for one that wants a reward model and is given none."""
    whom, start = reward.whom(), job.inputs["policy"]
    if whom == "nobody":
        return None
    if whom == "policy":
        return policy
    if whom == "reward-model" and "asked" not in job.inputs:
        raise UserError(f"The reward '{reward}' asks a reward model: give reinforce_policy one, or name it.")
    place = start if whom == "start" else job.inputs.get("asked", start)
    return Path(place) if whom == "reward-model" else load(place, manifest_of(place).digest)


def takes_own(params: ReinforceParams, policy: Policy) -> bool:
    """Whether our own loop trains this policy. Raises ``UserError`` where neither can."""
    alone, scheme = processes() == 1, hasattr(policy.model.config, "position_restarts")
    of_sequences = params.algorithm.ratio == "sequence"
    able = alone and not (of_sequences and params.kl_beta) and params.engine != "vllm"
    if params.trainer == "own" and not able:
        raise UserError(
            f"trainer 'own' is one process's, has no kl_beta with '{params.algorithm}', and draws with transformers: "
            "choose 'trl', or change what it cannot."
        )
    if params.trainer == "own" or (
        params.trainer == "auto" and able and (scheme or policy.model.num_parameters() < SMALL)
    ):
        return True
    refuse_scheme(policy)
    refuse_by_trl(params)
    return False


def refuse_by_trl(params: ReinforceParams) -> None:
    """Refuse what TRL's trainers cannot do."""
    if params.algorithm.ratio == "sequence" and not isinstance(params.protocol, Single):
        raise UserError("TRL's RLOO has attempts of one turn only: choose another algorithm, or the protocol 'single'.")
    if params.algorithm.ratio == "sequence" and params.kl_beta and not isinstance(params.algorithm, Rloo):
        raise UserError(
            f"TRL's RLOO makes its own advantages where kl_beta is above 0: choose 'rloo' instead of "
            f"'{params.algorithm}', or no kl_beta."
        )
    if params.reward.notes() != "nothing" and isinstance(params.protocol, Single):
        raise UserError(
            f"TRL notes no probabilities of the attempts that it draws, which the reward '{params.reward}' reads: "
            "choose trainer 'own', or another reward."
        )
    if isinstance(params.algorithm, SelfImitation):
        raise UserError("TRL's trainers see an attempt once: choose trainer 'own', or another algorithm.")
    if params.group_size < 2:
        raise UserError("TRL's trainers have groups of 2 attempts and more: raise group_size.")
