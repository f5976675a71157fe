"""On-policy training: by our own loop where that is about three times as fast, by TRL's trainers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from selfloop.errors import UserError
from selfloop.finetune.running.weights import keep, to_train
from selfloop.finetune.running.checkpoints import latest
from selfloop.finetune.online.small_trainer import Kernel
from selfloop.finetune.running.launch import Job, Made, is_first
from selfloop.finetune.online.sampling import AsksAsWeDo, refuse_scheme
from selfloop.finetune.online.collector import Course, Practice, Rewards, rates
from selfloop.finetune.online.reinforcement import ReinforceParams
from selfloop.finetune.running.speed import speed
from selfloop.finetune.running.training import Guarded, Plan, Trained, fit, processes
from selfloop.finetune.online.losses import VARIANTS
from selfloop.generate.draw import Drawn
from selfloop.policy import SMALL, Policy
from selfloop.records import Rollout, Task
from selfloop.seeds import seed_for


class Practising(Guarded, AsksAsWeDo):
    """A trainer of TRL's that tries what a course says, by our protocols where they have turns, with our advantages.

    Where several processes train, each rewards and remembers its own share of a draw.
    """

    practice: Practice
    params: ReinforceParams
    _asked: Sequence[Task] = ()
    _drawn: Sequence[Drawn] = ()

    def _generate_and_score_completions(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        params, first = self.params, self.accelerator.process_index * len(inputs)
        self._draw, mine = self.state.global_step // params.updates, slice(first, first + len(inputs))
        tasks = self.practice.tasks(self._draw, params.groups)
        self._asked = [task for task in tasks for _ in range(params.group_size)][mine]
        prompts = [{"prompt": task.prompt} for task in self._asked]
        made: dict[str, Any] = super()._generate_and_score_completions(prompts)  # type: ignore[misc]
        advantages, rate = self._weighed(tasks)
        upper = VARIANTS[params.algorithm].upper(rate, params.clip).repeat_interleave(params.group_size)
        if params.algorithm != "rloo":  # its own take the divergence off the rewards
            made["advantages"] = advantages.flatten()[mine].to(made["advantages"])
        return made | {"upper": upper[mine].to(made["advantages"])}

    def _weighed(self: Any, tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Advantages (groups, attempts) and vote rates (groups) of the whole draw; the course learns of them."""
        rewards = self._rewards.view(len(tasks), -1).cpu()
        rate = rates(tasks, rewards)
        advantages = VARIANTS[self.params.algorithm].advantages(rewards, rate, self.params.trust)
        self.practice.course.learnt(self._draw, tasks, rewards.numpy(), advantages.numpy())
        return advantages, rate

    def _calculate_rewards(self: Any, *given: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*given)  # type: ignore[misc]
        self._rewards = rewards[:, 0]
        return rewards

    def _compute_loss(self: Any, model: Any, inputs: dict[str, Any]) -> Tensor:
        upper = inputs.pop("upper")
        if self.params.algorithm == "adpo":  # a clamp wants both bounds as tensors, or neither
            self.epsilon_high = upper[:, None]
            self.epsilon_low = torch.full_like(self.epsilon_high, self.params.clip)
        loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[misc]
        return loss

    def rolled_out(self: Any) -> dict[str, Any]:
        """Attempts that go by a protocol with turns, as TRL takes them."""
        self._drawn = self.practice.drawn(self._draw, self._asked, self.accelerator.process_index)
        return {
            "prompt_ids": [each.prompt for each in self._drawn],
            "completion_ids": [each.completion for each in self._drawn],
            "env_mask": [[int(own) for own in each.own] for each in self._drawn],
            "logprobs": None,
        }

    def rewarded(self: Any, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> Sequence[float]:
        """The rewards of this process's share of the draw."""
        rollouts = [each.rollout for each in self._drawn] or [
            Rollout(task.id, task.level, attempt, task.prompt, text, self._ended(own), len(own))
            for attempt, (task, text, own) in enumerate(zip(self._asked, texts, ids, strict=True))
        ]
        practice: Practice = self.practice
        return practice.rewarded(self._draw, list(dict.fromkeys(self._asked)), rollouts)

    def _ended(self: Any, tokens: Sequence[int]) -> bool:
        return bool(tokens) and tokens[-1] in self.eos_token_ids


class GRPO(Practising, GRPOTrainer):
    """TRL's ``GRPOTrainer`` (Shao et al., arXiv:2402.03300)."""


class RLOO(Practising, RLOOTrainer):
    """TRL's ``RLOOTrainer`` (Ahmadian et al., arXiv:2402.14740)."""


class Remembers(TrainerCallback):
    """Lets a checkpoint hold what the practice has to remember."""

    def __init__(self, practice: Practice) -> None:
        self._practice = practice

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write it beside the weights."""
        if state.is_world_process_zero:
            self._practice.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def reinforced(params: ReinforceParams, job: Job, course: Course, rewards: Rewards, tasks: Sequence[Task]) -> Made:
    """Train on a course of these tasks; save the candidate, and the attempts of the last draws (``rollouts``)."""
    made = to_train(params, job.inputs["policy"])
    plan = Plan.of(params, seed_for(params, params.round, "reinforce"), job.place, params.steps)
    practice = Practice(params, made, course, rewards)
    if takes_own(params, made):
        kernel = Kernel(params, made, plan, practice)
        trained, tokens = kernel.train(), kernel.tokens
    else:
        trained, tokens = by_trl(params, made, plan, practice)
    if is_first():
        keep(params, made, job.inputs["policy"], trained, job.output)
        practice.write(job.output / "rollouts", tasks)
    about = {"steps": trained.steps, "loss": trained.loss, "method": params.algorithm, "rewards": practice.by_draw}
    return Made(about, speed(tokens, trained.seconds, made.model.num_parameters(), processes()))


def takes_own(params: ReinforceParams, policy: Policy) -> bool:
    """Whether our own loop trains this policy. Raises ``UserError`` where neither can."""
    alone, scheme = processes() == 1, hasattr(policy.model.config, "position_restarts")
    able = alone and not (params.algorithm == "rloo" and params.kl_beta) and params.engine != "vllm"
    if params.trainer == "own" and not able:
        raise UserError(
            "trainer 'own' is one process's, has no kl_beta with 'rloo', and draws with transformers: choose 'trl', or "
            "change what it cannot."
        )
    if params.trainer == "own" or (
        params.trainer == "auto" and able and (scheme or policy.model.num_parameters() < SMALL)
    ):
        return True
    refuse_scheme(policy)
    if params.algorithm == "rloo" and params.protocol != "single":
        raise UserError("TRL's RLOO has attempts of one turn only: choose another algorithm, or the protocol 'single'.")
    return False


def by_trl(params: ReinforceParams, policy: Policy, plan: Plan, practice: Practice) -> tuple[Trained, int]:
    """The training by TRL, and the tokens that it saw. It has checkpoints only between draws: its draw is not kept."""
    plan = replace(plan, checkpoint_every=-(-plan.checkpoint_every // params.updates) * params.updates)
    kind, config = (RLOO, RLOOConfig) if params.algorithm == "rloo" else (GRPO, GRPOConfig)
    given: dict[str, Any] = {"epsilon": params.clip, "beta": params.kl_beta, "num_generations": params.group_size}
    given["steps_per_generation"] = params.updates * params.accumulate
    more: dict[str, Any] = {}
    if params.algorithm != "rloo":
        given["loss_type"] = "dr_grpo" if params.algorithm == "dr-grpo" else "grpo"
    if params.protocol != "single":
        more["rollout_func"] = lambda prompts, trainer: trainer.rolled_out()

    def verifier(*, completions: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any) -> Sequence[float]:
        return trainer.rewarded(completions, completion_ids)  # type: ignore[no-any-return]

    trainer: Any = kind(
        model=policy.model.train(),
        reward_funcs=verifier,
        args=config(**plan.arguments() | params.drawing() | given),
        train_dataset=datasets.Dataset.from_dict({"prompt": [""] * params.groups}),  # the course says what is tried
        processing_class=policy.tokenizer,
        callbacks=[Remembers(practice)],
        **more,
    )
    trainer.policy, trainer.practice, trainer.params = policy, practice, params
    found = latest(plan.place)
    if found is not None:
        practice.restore(found[0])
    trained = fit(trainer, plan, practice)
    return trained, trainer.state.num_input_tokens_seen
