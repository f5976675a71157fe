"""Reward models, reinforcement with our verifiers, and distillation, on TRL's trainers."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.artifacts import manifest_of, sidecar_of
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.finetune import (
    DistillParams,
    PretrainParams,
    ReinforceParams,
    RewardParams,
    distill_policy,
    pretrain_policy,
    reinforce_policy,
    train_reward,
)
from selfloop.finetune.online.rewards.verified import Verified
from selfloop.policy import check_policy, fresh, load, save
from selfloop.propose import BaseParams, draw_base
from selfloop.records import Example, Rollout, Task
from selfloop.stages import validated
from selfloop.verify import VerifyParams, judge

from ..conftest import sealed_table
from .conftest import Finetuned, tried

pytestmark = pytest.mark.slow

TASKS = list(Addition().tasks(1, 8, 3))
SMALL = {"steps": 3, "batch_size": 8, "max_tokens": 4, "lr": 1e-3}


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Dataset]:
    return {
        "tasks": sealed_table(tmp_path / "tasks", Task, TASKS),
        "eval_items": sealed_table(tmp_path / "eval_items", Task, []),
        "pairs": sealed_table(tmp_path / "pairs", Example, [e for e in tried([1, 2], 8) if e.rejected]),
    }


def rewarded(policy: Path, tables: dict[str, Dataset], place: Path, **params: Any) -> Model:
    made = Model(uri=str(place))
    given = {"steps": 3, "batch_size": 8} | params
    inputs = {"pairs": tables["pairs"], "eval_items": tables["eval_items"]}
    train_reward.into(
        train_reward.out(reward=made), RewardParams.model_validate(given), policy=Model(uri=str(policy)), **inputs
    )
    return made


def reinforced(policy: Path, tables: dict[str, Dataset], place: Path, **params: Any) -> Model:
    made = Model(uri=str(place))
    inputs: dict[str, Any] = {name: tables[name] for name in ("tasks", "eval_items")}
    inputs["asked"] = params.pop("asked", None)
    given = SMALL | {"group_size": 4} | params
    rollouts = Dataset(uri=f"{place}-rollouts")
    reinforce_policy.into(
        reinforce_policy.out(candidate=made, rollouts=rollouts, state=Artifact(uri=f"{place}-state")),
        ReinforceParams.model_validate(given),
        policy=Model(uri=str(policy)),
        **inputs,
    )
    return made


def distilled(policy: Path, teacher: Path, tables: dict[str, Dataset], place: Path, **params: Any) -> Model:
    made = Model(uri=str(place))
    inputs = {"tasks": tables["tasks"], "eval_items": tables["eval_items"]}
    distill_policy.into(
        distill_policy.out(candidate=made),
        DistillParams.model_validate(SMALL | params),
        policy=Model(uri=str(policy)),
        teacher=Model(uri=str(teacher)),
        **inputs,
    )
    return made


def test_a_reward_model_tells_the_better_completion(plain: Path, tables: dict[str, Dataset], tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    made = rewarded(plain, tables, tmp_path / "reward", steps=40, lr=1e-2, weight_decay=0.0)
    check_policy(made.path)
    assert [name for name in manifest_of(made.path).files if name.endswith(".safetensors")] == ["model.safetensors"]
    model = AutoModelForSequenceClassification.from_pretrained(made.path)
    assert model.config.num_labels == 1
    policy, pairs = fresh(plain), [e for e in tried([1, 2], 8) if e.rejected]
    with torch.no_grad():
        scores = [
            model(torch.tensor([policy.encode([e.prompt])[0] + policy.tokenizer(text + "<eos>")["input_ids"]])).logits
            for e in pairs
            for text in (e.completion, e.rejected)
        ]
    better = [float(good) > float(bad) for good, bad in zip(scores[::2], scores[1::2], strict=True)]
    assert sum(better) >= 0.8 * len(better)
    assert made.metadata["pairs"] == len(pairs)


def test_a_reward_model_is_the_same_each_time_and_can_be_trained_by_an_adapter(
    plain: Path, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    made = [rewarded(plain, tables, tmp_path / name).metadata["digest"] for name in ("a", "b")]
    assert made[0] == made[1]
    lora = rewarded(plain, tables, tmp_path / "lora", adapter="lora", keep="merged", lora_rank=2)
    assert "model.safetensors" in manifest_of(lora.path).files
    assert lora.metadata["digest"] != made[0]
    with pytest.raises(UserError, match="a reward model is kept whole: set keep to 'merged'"):
        validated(RewardParams, {"adapter": "lora"}, "train_reward")


def test_a_reward_model_needs_pairs(plain: Path, trained: Path, tables: dict[str, Dataset], tmp_path: Path) -> None:
    none = tables | {"pairs": sealed_table(tmp_path / "none", Example, tried(rejected=""))}
    with pytest.raises(UserError, match="There are no pairs to train a reward model on"):
        rewarded(plain, none, tmp_path / "reward")
    with pytest.raises(UserError, match="A reward model cannot keep this policy's position scheme"):
        rewarded(trained, tables, tmp_path / "scheme")
    kept = rewarded(plain, none, tmp_path / "kept", when_nothing="keep policy")
    assert kept.metadata["steps"] == 0
    reinforced(trained, tables, tmp_path / "policy", reward="verified,verifier=reward-model", asked=kept)


def test_a_shaped_reward_puts_what_is_wrong_below_what_is_right(
    plain: Path, trained: Path, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    learned = rewarded(plain, tables, tmp_path / "reward")
    made = [
        Rollout(task.id, task.level, n, task.prompt, text, n < 3, 1)
        for task in TASKS[:4]
        for n, text in enumerate((task.answer, "0", task.answer + "0", task.answer))
    ]
    plainly, checked = (
        judge(made, TASKS[:4], VerifyParams(environment="addition", verifier=name), Path(learned.path))
        for name in ("reward-model", "shaped,alpha=1")
    )
    for reward, verdict in zip(plainly, checked, strict=True):
        assert verdict.score == pytest.approx(reward.score + bool(verdict.ok) - 1)
        assert (verdict.score > 0) is verdict.ok
    assert [verdict.ok for verdict in checked] == [True, False, False, False] * 4


REWARD = """
import pyarrow as pa


def threes(rollouts, tasks, context):
    said = [text.count("3") / 4 for text in rollouts["completion"].to_pylist()]
    return pa.array([score > 0 for score in said]), pa.array(said), pa.array(["threes"] * len(said))
"""


@pytest.mark.parametrize("trainer", ["own", "trl"])
@pytest.mark.parametrize("algorithm", ["grpo", "dr-grpo", "rloo", "adpo"])
def test_what_a_verifier_rewards_is_reinforced(
    plain: Path,
    tables: dict[str, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    trainer: str,
) -> None:
    (tmp_path / "own_reward.py").write_text(REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    made = reinforced(
        plain,
        tables,
        tmp_path / algorithm,
        algorithm=algorithm,
        trainer=trainer,
        reward="verified,verifier=own_reward:threes",
        steps=20,
        lr=1e-2,
        batch_size=16,
        warmup_steps=1,
    )
    rewards = made.metadata["rewards"]
    assert len(rewards) == 20
    assert sum(rewards[-4:]) > sum(rewards[:4]) + 0.4
    assert made.metadata["examples"] == {"newest": 8}


def test_reinforcement_holds_to_where_it_starts_and_trains_adapters(
    plain: Path, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    made = reinforced(plain, tables, tmp_path / "held", kl_beta=0.1, adapter="lora", lora_rank=2, accumulate=2)
    assert "adapter_model.safetensors" in manifest_of(made.path).files
    assert made.metadata["steps"] == 3


@pytest.mark.parametrize("algorithm", ["grpo", "self-imitation,ramp=1"])
def test_a_reinforcement_that_broke_off_ends_with_equal_weights(
    plain: Path, tables: dict[str, Dataset], tmp_path: Path, algorithm: str
) -> None:
    class BrokenOffError(Exception):
        pass

    def break_off(done: int, total: int, unit: str) -> None:
        if done == 4:
            raise BrokenOffError

    given: dict[str, Any] = {"steps": 5, "checkpoint_every": 2, "algorithm": algorithm}
    whole = reinforced(plain, tables, tmp_path / "whole", **given)
    with pytest.raises(BrokenOffError), progress.watched_by(break_off):
        reinforced(plain, tables, tmp_path / "again", **given)
    seen: list[int] = []
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        resumed = reinforced(plain, tables, tmp_path / "again", **given)
    assert seen == [3, 4, 5]
    assert resumed.metadata["digest"] == whole.metadata["digest"]


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed policy that was shown how sums are judged, and says a mark."""
    root = tmp_path_factory.mktemp("judging")
    base = {name: Dataset(uri=str(root / name)) for name in ("examples", "held_out", "replay_pool")}
    draw_base.into(
        draw_base.out(**base, progress=Artifact(uri=str(root / "progress"))),
        BaseParams(levels=1, per_level=100, roles=["judge"], per_role=300, seed=1),
    )
    pretrain_policy.into(
        pretrain_policy.out(policy=Model(uri=str(root / "policy"))),
        PretrainParams(
            hidden_size=16, heads=2, intermediate_size=32, steps=60, lr=2e-2, warmup_steps=5, decay_steps=20
        ),
        examples=base["examples"],
        held_out=base["held_out"],
    )
    return root / "policy"


@pytest.mark.parametrize("whom", ["policy", "start"])
def test_a_training_that_asks_the_policy_itself_continues_as_if_it_had_not_broken_off(
    judging: Path, tables: dict[str, Dataset], tmp_path: Path, whom: str
) -> None:
    class BrokenOffError(Exception):
        pass

    def break_off(done: int, total: int, unit: str) -> None:
        if done == 4:
            raise BrokenOffError

    reward = f"verified,verifier=judge,verifier.samples=2,verifier.max_tokens=2,judged_by={whom}"
    given: dict[str, Any] = {"steps": 5, "checkpoint_every": 2, "reward": reward}
    whole = reinforced(judging, tables, tmp_path / "whole", **given)
    with pytest.raises(BrokenOffError), progress.watched_by(break_off):
        reinforced(judging, tables, tmp_path / "again", **given)
    resumed = reinforced(judging, tables, tmp_path / "again", **given)
    assert resumed.metadata["digest"] == whole.metadata["digest"]
    assert resumed.metadata["rewards"] == whole.metadata["rewards"]
    assert len(set(whole.metadata["rewards"])) > 1


@pytest.mark.parametrize("trainer", ["own", "trl"])
@pytest.mark.parametrize("steps", [1, 9])
def test_a_reinforcement_that_diverges_stops_and_leaves_no_candidate(
    plain: Path,
    tables: dict[str, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trainer: str,
    steps: int,
) -> None:
    (tmp_path / "own_reward.py").write_text(REWARD)
    monkeypatch.syspath_prepend(tmp_path)
    given = {"trainer": trainer, "reward": "verified,verifier=own_reward:threes", "lr": 1e39, "warmup_steps": 0}
    with pytest.raises(UserError, match=r"The weights after step 1 are no longer finite .*training stopped.*lower lr"):
        reinforced(plain, tables, tmp_path / "burst", steps=steps, **given)
    assert not (tmp_path / "burst" / "manifest.json").exists()


def test_held_out_items_are_no_tasks(plain: Path, tables: dict[str, Dataset], tmp_path: Path) -> None:
    some = tables | {"eval_items": sealed_table(tmp_path / "some", Task, TASKS[:5])}
    made = reinforced(plain, some, tmp_path / "a", steps=1)
    assert made.metadata["contaminated"] == {"newest": 5}
    everything = tables | {"eval_items": sealed_table(tmp_path / "all", Task, TASKS)}
    for train in (reinforced, lambda *given: distilled(plain, *given)):
        with pytest.raises(UserError, match="Every task is a held-out item"):
            train(plain, everything, tmp_path / "b")


def test_what_cannot_be_reinforced_is_refused(
    trained: Path, plain: Path, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="TRL draws completions without this policy's position scheme"):
        reinforced(trained, tables, tmp_path / "scheme", trainer="trl")
    with pytest.raises(UserError, match="batch_size 10 holds no whole groups of 4: give a multiple of it"):
        validated(ReinforceParams, {"batch_size": 10, "group_size": 4}, "reinforce_policy")
    with pytest.raises(UserError, match="There is no verifier 'exakt': did you mean 'exact'"):
        reinforced(plain, tables, tmp_path / "typo", reward="verified,verifier=exakt")


def test_a_verified_reward_asks_whom_its_verifier_wants(
    plain: Path, trained: Path, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    assert Verified().whom() == "nobody"
    assert Verified(verifier="judge").whom() == "start"
    assert Verified(verifier="judge", judged_by="policy").whom() == "policy"
    assert Verified(verifier="reward-model").whom() == "reward-model"
    with pytest.raises(UserError, match="asks a reward model: give reinforce_policy one, or name it"):
        reinforced(plain, tables, tmp_path / "none", reward="verified,verifier=reward-model")
    with pytest.raises(UserError, match=r"This policy has no token for 'Y', and is asked 'You mark an answer"):
        reinforced(plain, tables, tmp_path / "judged", reward="verified,verifier=judge,judged_by=policy")
    learned = rewarded(plain, tables, tmp_path / "reward")
    made = reinforced(trained, tables, tmp_path / "learned", reward="verified,verifier=reward-model", asked=learned)
    assert len(set(made.metadata["rewards"])) > 1


@pytest.mark.parametrize(
    "verifier",
    ["self-certainty", "borda", "probability", "weighted,verifier.weights=exact:1+probability:2"],
)
def test_what_a_verifier_reads_of_attempts_is_noted_where_they_train(
    trained: Path, plain: Path, tables: dict[str, Dataset], tmp_path: Path, verifier: str
) -> None:
    reward = f"verified,verifier={verifier}"
    made = reinforced(trained, tables, tmp_path / "made", reward=reward)
    assert len(made.metadata["rewards"]) == 3
    assert len(set(made.metadata["rewards"])) > 1
    with pytest.raises(
        UserError, match=r"TRL notes no probabilities of the attempts that it draws.*choose trainer 'own'"
    ):
        reinforced(plain, tables, tmp_path / "trl", reward=reward, trainer="trl")


def test_a_reward_model_is_no_policy_and_a_policy_no_reward_model(
    plain: Path, trained: Path, tables: dict[str, Dataset], tmp_path: Path
) -> None:
    learned = rewarded(plain, tables, tmp_path / "reward")
    with pytest.raises(UserError, match="is a reward model, which writes no text: give a policy that does"):
        reinforced(
            trained,
            tables,
            tmp_path / "judged",
            reward="verified,verifier=judge,judged_by=other",
            asked=learned,
        )
    policy = type(learned)(uri=str(plain))
    with pytest.raises(UserError, match="is no reward model: it must be a sequence classifier with one output"):
        reinforced(trained, tables, tmp_path / "scored", reward="verified,verifier=reward-model", asked=policy)


@pytest.mark.skipif(
    torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None, reason="vLLM and a GPU are here"
)
def test_vllm_is_refused_where_it_is_absent(plain: Path, tables: dict[str, Dataset], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="engine 'vllm' needs vLLM and a GPU in the training's image"):
        reinforced(plain, tables, tmp_path / "vllm", engine="vllm")


def test_a_student_comes_closer_to_its_teacher(
    plain: Path, tables: dict[str, Dataset], tmp_path: Path, finetuned: Finetuned
) -> None:
    teacher = Path(finetuned(plain, "teacher", [e for e in tried([1]) if e.good], steps=30, lr=1e-2).path)
    made = distilled(plain, teacher, tables, tmp_path / "student", steps=20, lr=5e-3, warmup_steps=1)

    def distance(policy: Path | str) -> float:
        ours, theirs = load(policy), load(teacher)
        batch = ours.tokenizer([task.prompt for task in TASKS], return_tensors="pt", padding=True)
        with torch.no_grad():
            told = [each.model(**batch).logits[:, -1].log_softmax(-1) for each in (ours, theirs)]
        return float((told[0].exp() * (told[0] - told[1])).sum(-1).mean())

    assert distance(made.path) < 0.7 * distance(plain)
    assert sidecar_of(made.path)["tokens_per_second"] > 0


def test_a_teacher_of_another_vocabulary_is_refused(plain: Path, tables: dict[str, Dataset], tmp_path: Path) -> None:
    from selfloop.artifacts import seal
    from selfloop.policy import Policy

    policy = fresh(plain)
    policy.tokenizer.add_tokens(["<more>"])
    policy.model.resize_token_embeddings(len(policy.tokenizer))
    save(Policy(policy.model, policy.tokenizer), tmp_path / "teacher")
    seal(tmp_path / "teacher", "Model")
    assert json.loads((tmp_path / "teacher" / "config.json").read_text())["vocab_size"] == len(policy.tokenizer)
    with pytest.raises(UserError, match="Teacher and student have different vocabularies"):
        distilled(plain, tmp_path / "teacher", tables, tmp_path / "student")
