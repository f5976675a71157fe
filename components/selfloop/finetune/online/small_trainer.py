"""A loop of our own for on-policy steps of small policies, where a trainer's overhead is most of a step.

It draws with the loop's own engine, and takes a step as TRL's ``GRPOTrainer`` and ``RLOOTrainer`` do: the tests hold
its losses to theirs, and ``tests/benchmarks/on_policy.py`` measures its speed.
"""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selfloop import progress
from selfloop.finetune.online.algorithms import RewardedGroups
from selfloop.finetune.online.algorithms.self_imitation import SelfImitation
from selfloop.finetune.online.collector import RolloutCollector
from selfloop.finetune.online.imitation import Imitation
from selfloop.finetune.online.losses import Scored, averaged, divergence, loss
from selfloop.finetune.online.packed_batch import Batch, batched, logprobs
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.running.checkpoints import latest, mark, step_of
from selfloop.finetune.running.training import (
    Plan,
    Trained,
    adamw,
    check_gradient,
    check_weights,
    diverged,
    memory_watched,
)
from selfloop.generate.engines.llama import is_plain
from selfloop.policy import Policy
from selfloop.seeds import seed_of

KEPT_CHECKPOINTS = 2
STATE, WEIGHTS = "state.pt", "model.safetensors"


class SmallTrainer:
    """A training at work: the policy that changes, its optimizer, and the draw that its steps share."""

    def __init__(self, params: ReinforceParams, policy: Policy, plan: Plan, collector: RolloutCollector) -> None:
        self._params, self._policy, self._plan, self._collector = params, policy, plan, collector
        self._weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
        self._optimizer = adamw(self._weights, plan)
        self._reference = Policy(copy.deepcopy(policy.model).eval(), policy.tokenizer) if params.kl_beta else None
        for weight in self._weights:
            weight.grad = torch.zeros_like(weight)
        if plan.gradient_checkpointing:
            policy.model.gradient_checkpointing_enable()
        self._imitation = imitation_of(params, plan.seed)
        self._total = 0.0
        self._parts: list[tuple[Batch, Scored]] = []
        self.tokens = 0

    def train(self) -> Trained:
        """All steps of the plan, from the last whole checkpoint on."""
        first = self._resumed()
        began = time.perf_counter()
        self._policy.model.train(not is_plain(self._policy.model))  # which is the same in both modes
        with memory_watched(self._plan, self._collector):
            for step in range(first, self._plan.steps):
                self._step(step)
                progress.report(step + 1, self._plan.steps, "steps")
                if (step + 1) % self._plan.checkpoint_every == 0 and step + 1 < self._plan.steps:
                    self._checkpoint(step + 1)
        check_weights(self._plan, self._collector, self._plan.steps, self._weights)
        self._policy.model.eval()
        return Trained(self._total / self._plan.steps, self._plan.steps, first, time.perf_counter() - began)

    def _step(self, step: int) -> None:
        if step % self._params.updates == 0:
            self._draw(step // self._params.updates)
        batch, scored = self._parts[step % self._params.updates]
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.lr * self._plan.schedule(step)
        value = 0.0
        for rows in self._moving(scored, -(-len(batch.tokens) // self._plan.accumulate)):
            made = self._loss(batch.rows(rows), Scored(*(each[rows] for each in scored)))
            made = made * (len(rows) / len(batch.tokens))
            made.backward()  # type: ignore[no-untyped-call]
            value += float(made.detach())
        if not math.isfinite(value):
            raise diverged(self._plan, self._collector, step, f"The loss of step {{}} is {value}")
        norm = torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        check_gradient(self._plan, self._collector, step, float(norm))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)  # a step without a gradient is a step, too
        self._total += value

    def _moving(self, scored: Scored, size: int) -> list[Tensor]:
        """The rows that move the policy, in parts: without an advantage only the divergence from a reference does."""
        everything = torch.ones_like(scored.advantages, dtype=torch.bool)
        rows = (everything if self._reference else scored.advantages != 0).nonzero()[:, 0]
        return [rows[first : first + size] for first in range(0, len(rows), size)]

    def _draw(self, draw: int) -> None:
        """Try tasks, and share the attempts out among the steps to come."""
        params = self._params
        if draw:  # a policy of no numbers writes what is worth nothing, of which no loss tells
            check_weights(self._plan, self._collector, draw * params.updates, self._weights)
        tried = self._collector.collect(draw, params.groups)
        rollouts = [each.rollout for each in tried.attempts]
        groups = RewardedGroups(tried.rewards, tried.rates, rollouts)
        advantages = self._collector.advantages(tried.tasks, groups)
        again = self._imitation.chosen(draw, len(tried.attempts)) if self._imitation else []
        whole = batched(self._policy, [*tried.attempts, *(past for past, _ in again)])
        self.tokens += int(whole.mask.sum())
        upper = params.algorithm.upper(tried.rates, params.clip).repeat_interleave(advantages.shape[1])
        old = self._old(whole) if self._holds_old else torch.empty_like(whole.own)
        device, gains, uppers = whole.tokens.device, whole.own.new_zeros(len(whole.own)), upper.new_full
        gains[: advantages.numel()] = advantages.flatten().to(device)
        upper = torch.cat([upper, uppers((len(again),), params.clip)])
        scored = Scored(old, old, whole.own, gains, upper.to(device))
        if self._imitation:
            scored = self._imitation.joined(draw, scored, again)
            self._imitation.learn(draw, tried.attempts, groups, advantages, old)
        parts = shares(len(whole.tokens), params.updates)
        self._parts = [(whole.rows(part), Scored(*(each[part] for each in scored))) for part in parts]

    @property
    def _holds_old(self) -> bool:
        """Whether a step needs the probabilities that attempts were drawn with, which are not those of now."""
        return self._params.updates > 1 or self._imitation is not None

    def _old(self, batch: Batch) -> Tensor:
        parts = shares(len(batch.tokens), self._params.updates * self._plan.accumulate)
        with torch.no_grad():
            return torch.cat([self._logprobs(self._policy, batch.rows(part)) for part in parts])

    def _logprobs(self, policy: Policy, batch: Batch) -> Tensor:
        with torch.autocast(policy.model.device.type, torch.bfloat16, enabled=self._plan.bf16):
            return logprobs(policy, batch, self._params.temperature)

    def _loss(self, batch: Batch, scored: Scored) -> Tensor:
        params, now = self._params, self._logprobs(self._policy, batch)
        old = scored.old if self._holds_old else now.detach()
        made = loss(params.algorithm, scored._replace(logprobs=now, old=old), params.clip, params.max_tokens)
        if self._reference is None:
            return made
        with torch.no_grad():
            reference = self._logprobs(self._reference, batch)
        apart = divergence(now, reference, old)
        return made + params.kl_beta * averaged(params.algorithm, apart, batch.own, params.max_tokens)

    def _checkpoint(self, step: int) -> None:
        from safetensors.torch import save_file

        check_weights(self._plan, self._collector, step, self._weights)
        place = self._plan.place / f"checkpoint-{step}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        save_file({str(n): weight.detach().contiguous() for n, weight in enumerate(self._weights)}, place / WEIGHTS)
        parts = [[*batch, *scored] for batch, scored in self._parts]
        kept = {"optimizer": self._optimizer.state_dict(), "parts": parts, "tokens": self.tokens}
        torch.save(kept | ({"imitation": self._imitation.to_state()} if self._imitation else {}), place / STATE)
        self._collector.save(place)
        mark(place, {"total": self._total})
        for old in sorted(self._plan.place.glob("checkpoint-*"), key=step_of)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def _resumed(self) -> int:
        """Continue from the last whole checkpoint. Returns the number of the first step."""
        from safetensors.torch import load_file

        found = latest(self._plan.place)
        if found is None:
            return 0
        place, so_far = found
        kept: dict[str, Any] = torch.load(place / STATE, weights_only=True)
        with torch.no_grad():
            for name, values in load_file(place / WEIGHTS).items():
                self._weights[int(name)].copy_(values)
        self._optimizer.load_state_dict(kept["optimizer"])
        self._parts = [(Batch(*values[:4]), Scored(*values[4:])) for values in kept["parts"]]
        self.tokens, self._total = kept["tokens"], so_far["total"]
        if self._imitation:
            self._imitation.restore(kept["imitation"])
        self._collector.restore(place)
        return step_of(place)


def imitation_of(params: ReinforceParams, seed: int) -> Imitation | None:
    """What keeps good attempts, where the algorithm wants them again."""
    if not isinstance(params.algorithm, SelfImitation):
        return None
    before = max(params.round - 1, 0) * -(-params.steps // params.updates)
    return Imitation(params.algorithm, before, lambda draw: seed_of(seed, "imitation", draw))


def shares(rows: int, parts: int) -> Sequence[Tensor]:
    """The numbers of rows in equal parts."""
    return torch.arange(rows).chunk(parts)
