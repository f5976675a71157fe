import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from kfp.dsl import Dataset, Model
from selfloop import progress
from selfloop.environments import Restarts
from selfloop.environments.addition import Addition
from selfloop.environments.reverse import Reverse
from selfloop.errors import UserError
from selfloop.generate import GenerateParams, draw, generate_rollouts
from selfloop.policy import Policy, fresh, load, position_ids, restart_ids, scratch_tokenizer
from selfloop.records import Rollout, Task, rows

from ..byte_policy import byte_policy
from ..conftest import sealed_table


@pytest.fixture
def policy(trained: Path) -> Policy:
    return load(trained, "the trained policy")


@pytest.fixture(scope="session")
def plain() -> Policy:
    """A policy with random weights that counts positions as its library does, as policies of the Hub do."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = scratch_tokenizer(str(Reverse.alphabet))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Policy(LlamaForCausalLM(config).eval(), tokenizer)


def sums(levels: range, count: int, attempts: int = 1) -> list[Task]:
    made = [task for level in levels for task in Addition().tasks(level, count, seed=level)]
    return [task._replace(attempts=attempts) for task in made]


def drawn(policy: Policy, tasks: list[Task], **params: Any) -> list[Rollout]:
    return [rollout for window in draw(policy, tasks, GenerateParams(**params)) for rollout in window]


def decoded_alone(policy: Policy, task: Task) -> str:
    """What transformers makes of one prompt, without padding, greedily."""
    prompt = policy.tokenizer(task.prompt, return_tensors="pt")
    positions = position_ids(policy, prompt["input_ids"], prompt["attention_mask"])
    extra = {} if positions is None else {"position_ids": positions}
    [tokens] = policy.model.generate(**prompt, **extra, max_new_tokens=task.max_tokens, do_sample=False)
    text: str = policy.tokenizer.decode(tokens[prompt["input_ids"].shape[1] :])
    return text.partition(policy.tokenizer.eos_token)[0]


def read_anew(policy: Policy, task: Task) -> str:
    """What a policy writes that reads the whole text anew for each token, greedily."""
    tokens, written = policy.encode([task.prompt])[0], ""
    for _ in range(task.max_tokens):
        row = torch.tensor([tokens])
        positions = position_ids(policy, row, torch.ones_like(row))
        tokens.append(int(policy.model(input_ids=row, position_ids=positions).logits[0, -1].argmax()))
        if tokens[-1] == policy.tokenizer.eos_token_id:
            break
        written += policy.tokenizer.decode(tokens[-1:])
    return written


@pytest.mark.parametrize(("batch_size", "window"), [(1, 7), (2, 1), (100, 8), (100, 100)])
def test_rollouts_stand_in_the_order_of_tasks_and_attempts(policy: Policy, batch_size: int, window: int) -> None:
    tasks = [
        task._replace(attempts=number % 4, max_tokens=2) for number, task in enumerate(sums(range(3, 0, -1), count=10))
    ]
    made = drawn(policy, tasks, batch_size=batch_size, window=window)
    assert [(r.task, r.level, r.attempt, r.prompt) for r in made] == [
        (task.id, task.level, attempt, task.prompt) for task in tasks for attempt in range(task.attempts)
    ]


def test_the_first_attempt_is_what_transformers_decodes_greedily(policy: Policy) -> None:
    tasks = sums(range(1, 7), count=4, attempts=2)
    made = [rollout for rollout in drawn(policy, tasks) if rollout.attempt == 0]
    assert [rollout.completion for rollout in made] == [decoded_alone(policy, task) for task in tasks]


def test_the_first_attempt_of_a_policy_that_counts_plainly_is_what_transformers_decodes(plain: Policy) -> None:
    tasks = [task._replace(max_tokens=9) for level in range(1, 7) for task in Reverse().tasks(level, 3, seed=level)]
    assert [rollout.completion for rollout in drawn(plain, tasks)] == [decoded_alone(plain, task) for task in tasks]


def test_positions_restart_at_and_after_what_a_policy_writes_itself(plain: Policy) -> None:
    wanders = Policy(copy.deepcopy(plain.model), plain.tokenizer)
    wanders.model.config.position_restarts = restart_ids(Restarts(at="0123", after="4567"), plain.tokenizer)
    tasks = [task._replace(max_tokens=12) for level in range(1, 7) for task in Reverse().tasks(level, 3, seed=level)]
    made = [rollout.completion for rollout in drawn(wanders, tasks)]
    assert made == [read_anew(wanders, task) for task in tasks]
    assert any(set(text[:-1]) & set("01234567") for text in made)


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_greedy_attempts_do_not_depend_on_the_size_of_batches(policy: Policy, plain: Policy, batch_size: int) -> None:
    # Batches change the order of sums, which moves logits by some 1e-6; here the best token leads by 1e-3 or more.
    words = [task for level in range(1, 7) for task in Reverse().tasks(level, 3, seed=level)]
    for known, tasks in ((policy, sums(range(1, 7), count=3)), (plain, words)):
        limited = [task._replace(max_tokens=1 + number % 7) for number, task in enumerate(tasks)]
        made = (drawn(known, limited, batch_size=size, score="nothing") for size in (batch_size, 512))
        assert next(made) == next(made)


def test_the_same_seed_gives_the_same_attempts_and_another_seed_or_round_gives_others(policy: Policy) -> None:
    tasks = sums(range(2, 5), count=4, attempts=3)
    first = drawn(policy, tasks, seed=1, round=1)
    assert drawn(policy, tasks, seed=1, round=1) == first
    for other in (drawn(policy, tasks, seed=2, round=1), drawn(policy, tasks, seed=1, round=2)):
        assert [r for r in other if r.attempt == 0] == [r for r in first if r.attempt == 0]
        assert [r for r in other if r.attempt > 0] != [r for r in first if r.attempt > 0]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_attempts_at_a_task_are_different_ones(plain: Policy, batch_size: int) -> None:
    [task] = Reverse().tasks(7, 1, seed=0)
    attempts = 32
    made = drawn(plain, [task._replace(attempts=attempts)], temperature=9.0, batch_size=batch_size)
    assert len({rollout.completion for rollout in made}) > 0.9 * attempts


def test_a_cold_policy_samples_its_greedy_attempt(policy: Policy) -> None:
    made = drawn(policy, sums(range(1, 4), count=3, attempts=2), temperature=1e-4)
    assert [r.completion for r in made if r.attempt == 1] == [r.completion for r in made if r.attempt == 0]


def test_a_task_is_tried_at_a_temperature_of_its_own(plain: Policy) -> None:
    tasks = [task._replace(attempts=6, max_tokens=8) for task in Reverse().tasks(7, 3, seed=0)]
    cold = [task._replace(temperature=1e-4) for task in tasks]
    made = drawn(plain, [cold[0], tasks[1], cold[2]], temperature=9.0)
    assert [len({r.completion for r in made if r.task == task.id}) for task in tasks] == [1, 6, 1]
    hot = [r.completion for r in drawn(plain, tasks, temperature=9.0) if r.task == tasks[1].id]
    assert [r.completion for r in made if r.task == tasks[1].id] == hot


def test_a_temperature_of_nought_is_refused(plain: Policy) -> None:
    [task] = Reverse().tasks(7, 1, seed=0)
    with pytest.raises(UserError, match=rf"task '{task.id}' has the temperature 0.0: give it one above 0"):
        drawn(plain, [task._replace(temperature=0.0)])


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_every_attempt_is_drawn_where_the_first_is_not_greedy(plain: Policy, batch_size: int) -> None:
    words = Reverse().tasks(7, 8, seed=0)
    made = drawn(plain, words, temperature=9.0, greedy_first=False, batch_size=batch_size)
    greedy = drawn(plain, words)
    assert [(r.task, r.attempt) for r in made] == [(r.task, r.attempt) for r in greedy]
    assert all(one.completion != other.completion for one, other in zip(made, greedy, strict=True))
    several = drawn(plain, [words[0]._replace(attempts=9)], temperature=9.0, greedy_first=False, batch_size=batch_size)
    assert len({r.completion for r in several}) == 9


def test_a_drawn_first_attempt_follows_the_seed(policy: Policy) -> None:
    tasks = sums(range(3, 5), count=8)
    first = drawn(policy, tasks, greedy_first=False, seed=1)
    assert drawn(policy, tasks, greedy_first=False, seed=1) == first
    assert drawn(policy, tasks, greedy_first=False, seed=2) != first


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
@pytest.mark.parametrize("by", ["task", "params"])
def test_a_completion_has_as_many_tokens_as_are_allowed_and_is_unfinished_where_it_was_cut(
    policy: Policy, limit: int, by: str
) -> None:
    tasks = [task for task in sums(range(2, 3), count=16) if len(decoded_alone(policy, task)) == 3]
    assert tasks  # the policy mostly writes an answer of three digits
    if by == "task":
        longer = sums(range(5, 6), count=1)  # stands in the same batch and may have more
        made = drawn(policy, [*(task._replace(max_tokens=limit) for task in tasks), *longer])[:-1]
    else:
        made = drawn(policy, tasks, max_tokens=limit)
    for rollout, task in zip(made, tasks, strict=True):
        assert rollout.completion == decoded_alone(policy, task)[:limit]
        assert rollout.finished == (limit == 4)
        assert rollout.tokens == limit


def test_drawing_leaves_the_configuration_and_the_random_state_alone(policy: Policy) -> None:
    configuration, state = policy.model.generation_config.to_dict(), torch.get_rng_state()
    drawn(policy, sums(range(1, 3), count=2, attempts=3))
    assert policy.model.generation_config.to_dict() == configuration
    assert torch.equal(torch.get_rng_state(), state)


def test_the_sampling_that_a_policy_brings_along_does_not_count(policy: Policy, trained: Path) -> None:
    tasks, opinionated = sums(range(1, 5), count=3, attempts=3), fresh(trained)
    opinionated.model.generation_config.update(do_sample=True, temperature=0.1, top_k=1, top_p=0.1)
    assert drawn(opinionated, tasks) == drawn(policy, tasks)


def test_the_stage_writes_every_rollout_and_reports_them(trained: Path, tmp_path: Path) -> None:
    tasks, seen = sums(range(1, 3), count=3, attempts=2), []
    rollouts = Dataset(uri=str(tmp_path / "rollouts"))
    with progress.watched_by(lambda *moved: seen.append(moved)):
        generate_rollouts.into(
            generate_rollouts.out(rollouts=rollouts),
            GenerateParams(seed=3),
            policy=Model(uri=str(trained)),
            tasks=sealed_table(tmp_path / "tasks", Task, tasks),
        )
    assert list(rows(rollouts.path, Rollout)) == drawn(load(trained), tasks, seed=3)
    assert seen[-1] == (12, 12, "rollouts")


RECURRENT: dict[str, dict[str, Any]] = {
    "qwen3_next": {
        "num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 8, "linear_num_value_heads": 4,
        "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    },
    "mamba": {"state_size": 4},
    "mamba2": {"hidden_size": 16, "num_heads": 4, "head_dim": 8, "state_size": 4, "n_groups": 1},
    "lfm2": {"num_hidden_layers": 2, "num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
}  # fmt: skip
"""Kinds of models with states that are no keys and values, and one without, with small sizes of theirs."""


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_policy_of_any_kind_writes_in_a_batch_what_it_writes_alone(tmp_path: Path, kind: str) -> None:
    policy = load(byte_policy(tmp_path, kind=kind, **RECURRENT[kind]))
    tasks = [Task(str(n), 1, "", f"{10**n}+1=", "", attempts=3, max_tokens=10 - n) for n in (0, 1, 1, 3)]
    together = drawn(policy, tasks, temperature=3.0)
    alone = [one for task in tasks for one in drawn(policy, [task], batch_size=1, temperature=3.0)]
    assert [one.completion for one in together] == [one.completion for one in alone]
    for one in together[::3]:
        prompt = policy.tokenizer(one.prompt, return_tensors="pt")
        limit = next(task.max_tokens for task in tasks if task.id == one.task)
        [tokens] = policy.model.generate(**prompt, max_new_tokens=limit, do_sample=False)
        text = policy.tokenizer.decode(tokens[prompt["input_ids"].shape[1] :])
        assert text.removesuffix("<eos>") == one.completion


def test_a_policy_that_the_library_itself_cannot_draw_with_is_refused(tmp_path: Path) -> None:
    policy = load(byte_policy(tmp_path, kind="xlstm", num_heads=2, num_blocks=2))
    with pytest.raises(
        UserError, match=r"cannot draw with a policy of the type 'xlstm' \(ValueError: .*\): set engine"
    ):
        drawn(policy, [Task("a", 1, "", "1+2=", "", max_tokens=2)])


def test_a_policy_that_keeps_its_state_in_a_way_of_its_own_is_refused(tmp_path: Path) -> None:
    policy = load(byte_policy(tmp_path, kind="rwkv", attention_hidden_size=16, num_hidden_layers=2))
    with pytest.raises(UserError, match="cannot draw with a policy of the type 'rwkv', whose state it cannot part"):
        drawn(policy, [Task("a", 1, "", "1+2=", "", max_tokens=2)])


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (
            "What is 12+30?",
            r"A prompt of 14 tokens and an answer of up to 64 .* 16 tokens: set max_tokens to at most 2\.",
        ),
        ("What is 1200+3000?", r"A prompt of 18 tokens .* the policy's context of 16 tokens: give shorter prompts\."),
    ],
)
def test_what_is_longer_than_the_policy_s_context_is_refused_in_a_sentence(
    tmp_path: Path, prompt: str, sentence: str
) -> None:
    policy = load(byte_policy(tmp_path, kind="gpt2", n_positions=16))
    with pytest.raises(UserError, match=sentence):
        drawn(policy, [Task("a", 1, "", prompt, "", max_tokens=64)])
    assert len(drawn(policy, [Task("a", 1, "", "What is 12+30?", "", max_tokens=2)])) == 1
