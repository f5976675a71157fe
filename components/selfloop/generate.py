"""``generate_rollouts``: attempts of a policy at tasks, in batches of prompts of one length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kfp.dsl import Dataset, Input, Model, Output
from pydantic import Field

from selfloop import progress
from selfloop.policy import Policy, load, position_ids, seed_of
from selfloop.records import Rollout, Task, batched, rows, writing
from selfloop.stage import Params, Resources, stage


class GenerateParams(Params):
    """A task's first attempt is greedy, unless all shall be drawn; those that its proposer allows beyond are drawn."""

    temperature: float = Field(1.0, gt=0, description="Temperature of the attempts that are not greedy.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a completion at most; a task may allow fewer.")
    batch_size: int = Field(512, ge=1, description="Attempts decoded at once.")
    seed: int = Field(0, ge=0, description="Seed of the sampling.")
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")
    greedy_first: bool = Field(True, description="The first attempt is greedy; all are drawn where it is not.")


WINDOW_BATCHES = 16


class Attempt(NamedTuple):
    """One completion to draw: the task, which attempt at it, whether it is greedy, and its prompt's tokens."""

    task: Task
    number: int
    greedy: bool
    prompt: list[int]


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def generate_rollouts(
    params: GenerateParams, policy: Input[Model], tasks: Input[Dataset], rollouts: Output[Dataset]
) -> None:
    """Draw the attempts that each task allows from the policy."""
    loaded = load(policy.path, policy.metadata["digest"])
    total = sum(task.attempts for task in rows(tasks.path, Task))
    with writing(rollouts.path, Rollout) as table:
        for drawn in draw(loaded, rows(tasks.path, Task), params):
            table.write(drawn)
            progress.report(table.rows, total, "rollouts")


def draw(policy: Policy, tasks: Iterable[Task], params: GenerateParams) -> Iterator[list[Rollout]]:
    """Rollouts in the order of the tasks and their attempts, in windows that fit into memory."""
    attempts = (
        Attempt(task, number, params.greedy_first and number == 0, [])
        for task in tasks
        for number in range(task.attempts)
    )
    for index, window in enumerate(batched(attempts, params.batch_size * WINDOW_BATCHES)):
        encoded = policy.encode([a.task.prompt for a in window])
        window = [a._replace(prompt=prompt) for a, prompt in zip(window, encoded, strict=True)]
        done: dict[tuple[str, int], Rollout] = {}
        for number, batch in enumerate(_batches(window, params.batch_size)):
            seed = seed_of(params.seed, params.round, "generate", index, number)
            done.update({(r.task, r.attempt): r for r in _decode(policy, batch, params, seed)})
        yield [done[a.task.id, a.number] for a in window]


def _batches(window: Sequence[Attempt], size: int) -> Iterator[list[Attempt]]:
    """Batches of either greedy or sampled attempts, of equal prompt lengths as far as that leaves them well filled."""
    batch: list[Attempt] = []
    for attempt in sorted(window, key=lambda a: (not a.greedy, len(a.prompt))):
        if batch:
            other_kind = attempt.greedy != batch[-1].greedy
            longer = len(attempt.prompt) != len(batch[-1].prompt) and len(batch) >= size // 4
            if other_kind or longer or len(batch) == size:
                yield batch
                batch = []
        batch.append(attempt)
    if batch:
        yield batch


def _decode(policy: Policy, batch: list[Attempt], params: GenerateParams, seed: int) -> Iterator[Rollout]:
    import torch
    from transformers import GenerationConfig

    prompts = policy.tokenizer.pad({"input_ids": [a.prompt for a in batch]}, padding_side="left", return_tensors="pt")
    prompts = prompts.to(policy.model.device)
    positions = position_ids(policy, prompts["input_ids"], prompts["attention_mask"])
    allowed = [min(a.task.max_tokens, params.max_tokens) for a in batch]
    config = GenerationConfig(
        max_new_tokens=max(allowed),
        do_sample=not batch[0].greedy,
        pad_token_id=policy.tokenizer.pad_token_id,
        eos_token_id=policy.model.generation_config.eos_token_id,
        **({} if batch[0].greedy else {"temperature": params.temperature, "top_k": 0, "top_p": 1.0}),
    )
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(seed)
        extra = {} if positions is None else {"position_ids": positions}
        drawn = policy.model.generate(**prompts, **extra, generation_config=config)
    ends = torch.as_tensor(config.eos_token_id)
    tokens = drawn[:, prompts["input_ids"].shape[1] :].cpu()
    ended = torch.isin(tokens, ends)
    lengths = torch.where(ended.any(1), ended.int().argmax(1), tokens.shape[1]).minimum(torch.tensor(allowed))
    texts = policy.tokenizer.batch_decode([row[:n] for row, n in zip(tokens.tolist(), lengths.tolist(), strict=True)])
    for attempt, text, length, limit, end in zip(batch, texts, lengths.tolist(), allowed, ended.any(1), strict=True):
        finished = bool(end) and length < limit
        task = attempt.task
        yield Rollout(task.id, task.level, attempt.number, task.prompt, text, finished, length + finished)
