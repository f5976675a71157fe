"""What the tests of verifiers share: batches in memory, and tiny policies that were taught what to answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfloop.environments import find_environment
from selfloop.policy import Policy, scratch_tokenizer
from selfloop.records import Rollout, Task, Verdict, to_batch
from selfloop.verify import Context, Verifier, VerifyParams, judge


def a_task(id: str, prompt: str = "1+2=", answer: str = "3", **given: Any) -> Task:
    return Task(id, 1, "", prompt, answer, **given)


def attempts(task: Task, *completions: str, **given: Any) -> list[Rollout]:
    """Finished attempts at one task."""
    return [
        Rollout(task.id, task.level, number, task.prompt, text, True, len(text) + 1, **given)
        for number, text in enumerate(completions)
    ]


def said(
    tasks: Sequence[Task],
    rollouts: Sequence[Rollout],
    verifier: Verifier | str = "exact",
    model: Policy | Path | None = None,
    **params: Any,
) -> list[Verdict]:
    return judge(rollouts, tasks, VerifyParams(verifier=verifier, **params), model)


def in_memory(tasks: Sequence[Task], rollouts: Sequence[Rollout], **params: Any) -> tuple[Any, Any, Context]:
    """What a verifier is called with."""
    known = {task.id: task for task in tasks}
    batch = to_batch(Rollout, rollouts)
    context = Context(VerifyParams(**params), find_environment("addition"), [batch])
    return batch, to_batch(Task, [known[rollout.task] for rollout in rollouts]), context


def trained_on(pairs: Sequence[tuple[str, str]], steps: int = 300, marks: Sequence[str] = ()) -> Policy:
    """A tiny policy that learned by heart what to answer to each prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    tokenizer = scratch_tokenizer("".join(sorted({*"".join(map("".join, pairs))})), marks)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=48,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=1,
            )
        )
    texts = [tokenizer(prompt + answer + "<eos>", add_special_tokens=False)["input_ids"] for prompt, answer in pairs]
    batch = tokenizer.pad({"input_ids": texts}, return_tensors="pt")
    targets = batch["input_ids"].clone()
    for row, (_, answer) in enumerate(pairs):
        targets[row, : -(len(answer) + 1)] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(steps):
        loss = model(**batch, labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.01:
            break
    return Policy(model.eval(), tokenizer)
