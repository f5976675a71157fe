"""On-policy training by TRL's trainers, with our tasks, attempts, rewards and advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from selfloop.finetune.online.algorithms import RewardedGroups
from selfloop.finetune.online.collector import RolloutCollector, rates
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.sampling import AsksAsWeDo
from selfloop.finetune.running.checkpoints import latest
from selfloop.finetune.running.training import Guarded, Plan, Trained, check_weights, fit, processes
from selfloop.generate.draw import TokenizedRollout, one_role
from selfloop.generate.protocols.single import Single
from selfloop.metering import drew
from selfloop.policy import Policy
from selfloop.records import Rollout, Task


class Collecting(Guarded, AsksAsWeDo):
    """A trainer of TRL's with our tasks and advantages, and our protocols where they have turns.

    Where several processes train, each rewards and remembers its own share of a draw.
    """

    collector: RolloutCollector
    params: ReinforceParams
    _asked: Sequence[Task] = ()
    _drawn: Sequence[TokenizedRollout] = ()
    _rollouts: Sequence[Rollout] = ()

    def _generate_and_score_completions(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        params, first = self.params, self.accelerator.process_index * len(inputs)
        self._draw, mine = self.state.global_step // params.updates, slice(first, first + len(inputs))
        check_weights(self.plan, self.collector, self.state.global_step, self.model.parameters())
        tasks = self.collector.tasks(self._draw, params.groups)
        self._asked = [task for task in tasks for _ in range(params.group_size)][mine]
        prompts = [{"prompt": task.prompt} for task in self._asked]
        made: dict[str, Any] = super()._generate_and_score_completions(prompts)  # type: ignore[misc]
        advantages, rate = self._weighed(tasks)
        upper = params.algorithm.upper(rate, params.clip).repeat_interleave(params.group_size)
        if params.algorithm.ratio == "token" or not params.kl_beta:  # RLOO's own take the divergence off the rewards
            made["advantages"] = advantages.flatten()[mine].to(made["advantages"])
        return made | {"upper": upper[mine].to(made["advantages"])}

    def _weighed(self: Any, tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Advantages (groups, attempts) and vote rates (groups) of the whole draw."""
        rewards = self._rewards.view(len(tasks), -1).cpu()
        rate = rates(tasks, rewards)
        rollouts = self._rollouts if processes() == 1 else gather_object(list(self._rollouts))
        return self.collector.advantages(tasks, RewardedGroups(rewards, rate, rollouts)), rate

    def _calculate_rewards(self: Any, *given: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*given)  # type: ignore[misc]
        self._rewards = rewards[:, 0]
        return rewards

    def _compute_loss(self: Any, model: Any, inputs: dict[str, Any]) -> Tensor:
        upper = inputs.pop("upper")
        if self.params.algorithm.clips_by_group():  # a clamp wants both bounds as tensors, or neither
            self.epsilon_high = upper[:, None]
            self.epsilon_low = torch.full_like(self.epsilon_high, self.params.clip)
        loss: Tensor = super()._compute_loss(model, inputs)  # type: ignore[misc]
        return loss

    def rolled_out(self: Any) -> dict[str, Any]:
        """Attempts that go by a protocol with turns, as TRL takes them."""
        self._drawn = self.collector.drawn(self._draw, self._asked, self.accelerator.process_index)
        one_role([each.rollout for each in self._drawn])
        return {
            "prompt_ids": [each.prompt for each in self._drawn],
            "completion_ids": [each.completion for each in self._drawn],
            "env_mask": [[int(own) for own in each.own] for each in self._drawn],
            "logprobs": None,
        }

    def rewarded(self: Any, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> Sequence[float]:
        """The rewards of this process's share of the draw."""
        if not self._drawn:  # TRL drew them
            drew(sum(map(len, ids)))
        self._rollouts = [each.rollout for each in self._drawn] or [
            Rollout(task.id, task.level, attempt, task.prompt, text, self._ended(own), len(own))
            for attempt, (task, text, own) in enumerate(zip(self._asked, texts, ids, strict=True))
        ]
        collector: RolloutCollector = self.collector
        return collector.rewarded(self._draw, list(dict.fromkeys(self._asked)), self._rollouts)

    def _ended(self: Any, tokens: Sequence[int]) -> bool:
        return bool(tokens) and tokens[-1] in self.eos_token_ids


class GRPO(Collecting, GRPOTrainer):
    """TRL's ``GRPOTrainer`` (Shao et al., arXiv:2402.03300)."""


class RLOO(Collecting, RLOOTrainer):
    """TRL's ``RLOOTrainer`` (Ahmadian et al., arXiv:2402.14740)."""


class Remembers(TrainerCallback):
    """Lets a checkpoint hold what the collector has to remember."""

    def __init__(self, collector: RolloutCollector) -> None:
        self._collector = collector

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write it beside the weights."""
        if state.is_world_process_zero:
            self._collector.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def train_by_trl(
    params: ReinforceParams, policy: Policy, plan: Plan, collector: RolloutCollector
) -> tuple[Trained, int]:
    """The training by TRL, and the tokens that it saw. It has checkpoints only between draws: its draw is not kept."""
    plan = replace(plan, checkpoint_every=-(-plan.checkpoint_every // params.updates) * params.updates)
    of_sequences = params.algorithm.ratio == "sequence"
    kind, config = (RLOO, RLOOConfig) if of_sequences else (GRPO, GRPOConfig)
    given: dict[str, Any] = {"epsilon": params.clip, "beta": params.kl_beta, "num_generations": params.group_size}
    given["steps_per_generation"] = params.updates * params.accumulate
    more: dict[str, Any] = {}
    if not of_sequences:
        given["loss_type"] = "dr_grpo" if params.algorithm.mean == "constant" else "grpo"
    if not isinstance(params.protocol, Single):
        more["rollout_func"] = lambda prompts, trainer: trainer.rolled_out()

    def verifier(*, completions: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any) -> Sequence[float]:
        return trainer.rewarded(completions, completion_ids)  # type: ignore[no-any-return]

    trainer: Any = kind(
        model=policy.model.train(),
        reward_funcs=verifier,
        args=config(**plan.arguments() | params.drawing() | given),
        train_dataset=datasets.Dataset.from_dict({"prompt": [""] * params.groups}),  # the curriculum says what is tried
        processing_class=policy.tokenizer,
        callbacks=[Remembers(collector)],
        **more,
    )
    trainer.policy, trainer.collector, trainer.params = policy, collector, params
    found = latest(plan.place)
    if found is not None:
        collector.restore(found[0])
    trained = fit(trainer, plan, collector)
    return trained, trainer.state.num_input_tokens_seen
