"""Verifiers that give scores: a reward model, a weighted mean, unit tests."""

import shutil
from math import exp
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Dataset, Model
from selfloop.artifacts import seal
from selfloop.environments import find_environment
from selfloop.environments.code import metadata
from selfloop.errors import UserError
from selfloop.policy import scratch_tokenizer
from selfloop.records import Rollout, Task, Verdict, rows
from selfloop.verify import Verifier, VerifyParams, judge_rollouts
from selfloop.verify.verifiers.reward_model import RewardModel
from selfloop.verify.verifiers.shaped import shaped

from ..conftest import sealed_table
from .conftest import a_task, attempts, said

TASK = a_task("t")


@pytest.fixture(scope="module")
def rewarding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reward model that learned to like threes and to dislike fours."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    place = tmp_path_factory.mktemp("reward")
    tokenizer = scratch_tokenizer("0123456789+=")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(
            LlamaConfig(vocab_size=len(tokenizer), num_labels=1, pad_token_id=0, eos_token_id=1, **size)
        )
    texts = ["1+2=3", "1+2=4", "1+2=33", "1+2=44"]
    batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt", add_special_tokens=False)
    likes = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.nn.functional.binary_cross_entropy_with_logits(logits, likes).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_a_reward_model_scores_each_rollout_whatever_is_scored_beside_it(rewarding: Path) -> None:
    texts = ["3", "4", "33", "44"]
    made = said([TASK], attempts(TASK, *texts), RewardModel(model=str(rewarding)))
    assert [(v.ok, v.reason) for v in made] == [(True, "rewarded"), (False, "not rewarded")] * 2
    assert all(0 <= v.score <= 1 for v in made)
    alone = [said([TASK], attempts(TASK, text), RewardModel(model=str(rewarding))) for text in texts]
    assert [v.score for v in made] == pytest.approx([v.score for [v] in alone], abs=1e-5)


def test_a_reward_model_that_the_loop_made_is_handed_to_the_verifier(rewarding: Path, tmp_path: Path) -> None:
    shutil.copytree(rewarding, tmp_path / "model")
    seal(tmp_path / "model", "Model")
    rollouts = attempts(TASK, "3", "4")
    verdicts, audit = (Dataset(uri=str(tmp_path / name)) for name in ("verdicts", "audit"))
    judge_rollouts.into(
        judge_rollouts.out(verdicts=verdicts, audit=audit),
        VerifyParams(verifier="weighted,weights=reward-model:1"),
        model=Model(uri=str(tmp_path / "model")),
        tasks=sealed_table(tmp_path / "tasks", Task, [TASK]),
        rollouts=sealed_table(tmp_path / "rollouts", Rollout, rollouts),
    )
    named = said([TASK], rollouts, RewardModel(model=str(rewarding)))
    assert [v.score for v in rows(verdicts.path, Verdict)] == [v.score for v in named]


def test_what_is_no_reward_model_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no reward model: it must be a sequence classifier with one output"):
        said([TASK], attempts(TASK, "3"), RewardModel(model=str(trained)))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="holds its weights as a pickle"):
        said([TASK], attempts(TASK, "3"), RewardModel(model=str(tmp_path)))


def test_a_weighted_mean_of_scores_with_a_threshold() -> None:
    rollouts = attempts(TASK, "3", "3", "3", "4", self_certainty=0.5)
    made = said([TASK], rollouts, "weighted,weights=exact:1+majority:3,threshold=0.75")
    assert [v.score for v in made] == [0.8125, 0.8125, 0.8125, 0.1875]
    assert [(v.ok, v.reason) for v in made[2:]] == [(True, "weighed good"), (False, "weighed not good")]
    unsure = said([TASK], rollouts, "weighted,weights=self-certainty:2")
    assert [(v.ok, v.score, v.reason) for v in unsure] == [(None, 0.5, "no opinion")] * 4


@given(st.lists(st.sampled_from(["3", "4", "5"]), min_size=1, max_size=8), st.floats(0.01, 10), st.floats(0.01, 10))
@settings(max_examples=30, deadline=None)
def test_the_weighted_score_lies_between_those_it_weighs(texts: list[str], one: float, other: float) -> None:
    rollouts = attempts(TASK, *texts)
    parts = [[v.score for v in said([TASK], rollouts, name)] for name in ("exact", "majority")]
    made = said([TASK], rollouts, f"weighted,weights=exact:{one}+majority:{other}")
    for verdict, scores in zip(made, zip(*parts, strict=True), strict=True):
        assert min(scores) - 1e-9 <= verdict.score <= max(scores) + 1e-9


def test_every_verifier_of_the_table_is_found_by_its_name() -> None:
    assert list(Verifier.members()) == [
        "accept-all", "borda", "code", "cross-view", "exact", "fobar", "judge", "judge-pairwise", "label", "length",
        "majority", "math-verify", "paths", "probability", "reward-model", "rewarded", "round-trip", "self-certainty",
        "shaped", "weighted",
    ]  # fmt: skip


def test_the_probability_of_a_text_or_of_its_tokens_is_the_score() -> None:
    rollouts = attempts(task := a_task("t"), "3", "44", "5", logprob=-2.0)
    rollouts[2] = rollouts[2]._replace(finished=False)
    whole, by_token = (said([task], rollouts, f"probability,per={per}") for per in ("text", "token"))
    assert [v.score for v in whole] == pytest.approx([exp(-2), exp(-2), 0])
    assert [v.score for v in by_token] == pytest.approx([exp(-2 / 2), exp(-2 / 3), 0])
    assert {(v.ok, v.reason) for v in whole} == {(None, "probability")}
    with pytest.raises(UserError, match=r"task 't' carries no log-probability: set generate.score=logprob"):
        said([task], attempts(task, "3"), "probability")


def test_accept_all_believes_all_that_is_finished() -> None:
    rollouts = attempts(task := a_task("t"), "right", "wrong", "cut")
    rollouts[2] = rollouts[2]._replace(finished=False)
    made = said([task], rollouts, "accept-all")
    assert [(verdict.ok, verdict.reason) for verdict in made] == [
        (True, "accepted"), (True, "accepted"), (False, "no end token")
    ]  # fmt: skip


@pytest.mark.debian("bubblewrap")
def test_a_program_is_judged_by_the_tests_of_its_task() -> None:
    task = a_task("t", metadata=metadata(["assert solve(1) == 2", "assert solve(5) == 6"]))
    right, wrong = "def solve(v):\n    return v + 1", "def solve(v):\n    return 2"
    rollouts = attempts(task, right, wrong, right)
    rollouts[2] = rollouts[2]._replace(finished=False)
    made = said([task], rollouts, "code")
    assert [verdict.ok for verdict in made] == [True, False, False]
    assert made[2].reason == "no end token"


@pytest.mark.debian("bubblewrap")
def test_a_program_has_the_time_that_its_environment_gives(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Echo.", "tests": {"inputs": ["a"], "outputs": ["a"]}}\n')
    name = f"programs:{tmp_path}/p.jsonl?seconds=0.5"
    [task] = find_environment(name).tasks(1, 1, 0)
    made = said(
        [task], attempts(task, "print(input())", "import time\ntime.sleep(1)\nprint(input())"), "code", environment=name
    )
    assert [verdict.reason for verdict in made] == ["correct", "timeout"]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 4), st.booleans())
def test_a_shaped_score_keeps_the_order_of_rewards_and_what_is_right_on_top(
    one: float, other: float, alpha: float, ok: bool
) -> None:
    low, high = sorted([one, other])
    assert shaped(low, ok, alpha) <= shaped(high, ok, alpha)
    assert shaped(one, False, alpha) <= 0 <= shaped(other, True, alpha)
    assert shaped(one, ok, 1.0) == pytest.approx(one + ok - 1)
