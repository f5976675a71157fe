import json
import shutil
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selfloop import lineage
from selfloop.adapters import Parts, parts
from selfloop.artifacts import manifest_of, read_json
from selfloop.cli.run import as_toml
from selfloop.errors import UserError
from selfloop.lineage.retention import collect, plan
from selfloop.modes.inprocess import run
from selfloop.policy import load
from selfloop.recipe import find_recipe
from selfloop.records import Example, rows

from .conftest import whole_run

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "environments" / "data" / "gsm8k"
TINY: dict[str, Any] = {
    "rounds": 2,
    "seed": 12,
    "base": {"levels": 1, "per_level": 100, "held_out_per_level": 16},
    "pretrain": {"steps": 150, "hidden_size": 16, "heads": 2, "intermediate_size": 32, "decay_steps": 50, "lr": 1e-2},
    "draw": {"levels": [1], "per_level": 60, "items_per_level": 12},
    "finetune": {"steps": 3, "batch_size": 16},
    "measure": {"levels": [1], "per_level": 16},
    "gate": {"guards": [], "confirm": 1, "tolerance": 0.5},
}
"""A whole run of two rounds in seconds: the machinery, not the learning."""


ran = partial(whole_run, "expert-iteration", TINY)


def test_what_the_verifier_calls_right_is_trained_on_and_nothing_else(tmp_path: Path) -> None:
    last, measured, rounds = ran(tmp_path)
    assert 0 <= measured["accuracy"] <= 1
    assert [round["tasks"] for round in rounds] == [60, 60]
    kept = list(rows(last.replay_pool.path, Example))
    assert len(kept) == sum(sum(round["kept"].values()) for round in rounds) > 0
    assert all(example.good for example in kept)


@pytest.mark.parametrize(
    ("method", "select", "wrong", "pairs"),
    [("nft", ["all"], True, False), ("kto", ["all"], True, False), ("dpo", ["best-worst"], False, True)],
)
def test_wrong_attempts_and_pairs_are_learnt_from_where_the_method_can(
    method: str, select: list[str], wrong: bool, pairs: bool, tmp_path: Path
) -> None:
    last, _, rounds = ran(tmp_path, {"finetune": {"method": method}, "filter": {"select": select}, "rounds": 1})
    kept = list(rows(last.replay_pool.path, Example))
    assert any(not example.good for example in kept) == wrong
    assert all(example.rejected for example in kept) == pairs
    candidate = next(tmp_path.glob("round-01/finetune*/candidate"))
    assert manifest_of(candidate).metadata["method"] == method
    assert manifest_of(candidate).metadata["steps"] == 3
    assert rounds[0]["decision"]["verdict"] in ("promoted", "rejected")


def test_each_round_can_begin_anew_from_the_base_policy(tmp_path: Path) -> None:
    last, _, _ = ran(tmp_path, {"restart": "base", "gate": {"require": "nothing"}})
    second = next(tmp_path.glob("round-02/finetune*/candidate"))
    assert manifest_of(second).inputs["policy"] == last.origin.metadata["digest"]
    assert manifest_of(last.champion.path).digest == manifest_of(second).digest != last.origin.metadata["digest"]


def test_the_control_believes_everything(tmp_path: Path) -> None:
    recipe = find_recipe("expert-iteration")
    _, _, rounds = ran(tmp_path, dict(recipe.control), {"rounds": 1})
    audit = rounds[0]["audit"]
    assert audit["false_positive"] > 0
    assert audit["false_negative"] == audit["true_negative"] == 0 or audit["precision"] < 1


@pytest.mark.parametrize(("method", "says"), [("nft", "put 'all' for 'correct'"), ("dpo", "put 'best-worst' or")])
def test_a_method_that_cannot_learn_from_what_is_kept_is_refused_before_anything_runs(method: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        find_recipe("expert-iteration").resolve({"finetune": {"method": method}})


def test_a_resolved_configuration_is_the_same_run() -> None:
    recipe = find_recipe("expert-iteration")
    settings = recipe.resolve({"finetune": {"method": "nft"}, "filter": {"select": ["all"]}})
    again = recipe.resolve(tomllib.loads(as_toml(settings)))
    assert again.for_round(1).model_dump() == settings.for_round(1).model_dump()


TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    """A policy as the Hub has them: sub-word tokens, a chat template, tied weights; it has learnt nothing yet."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    inner.train_from_iterator([path.read_text() for path in DATA.rglob("*.jsonl")], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|endoftext|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, tie_word_embeddings=True, eos_token_id=1, **size)
    )
    model.save_pretrained(tmp_path / "chatty")
    tokenizer.save_pretrained(tmp_path / "chatty")
    return tmp_path / "chatty"


HUB = {
    "environment": f"gsm8k:{DATA}",
    "rounds": 2,
    "base": {"levels": 1, "per_level": 1, "held_out_per_level": 1},
    "draw": {"levels": [1], "per_level": 3, "items_per_level": 3, "attempts": 2},
    "generate": {"max_tokens": 24},
    "evaluate": {"samples": 2, "max_tokens": 8},
    "measure": {"levels": [1], "per_level": 1, "samples": 2, "max_tokens": 8},
    "finetune": {"newest_share": 1.0, "replay_share": 0.0, "seed_share": 0.0, "adapter": "lora", "lora_rank": 2},
}


@pytest.fixture
def hub(tmp_path: Path) -> dict[str, Any]:
    """These settings, with word problems of which every part of the split has some."""
    place = Path(shutil.copytree(DATA / "main", tmp_path / "gsm8k"))
    sums = [(n, f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n} apples.\n#### {2 * n}") for n in range(30)]
    rows = [{"question": f"How many apples are {n} and {n} more?", "answer": answer} for n, answer in sums]
    with (place / "test-00000-of-00001.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return HUB | {"environment": f"gsm8k:{place}"}


def test_a_policy_of_the_hub_goes_round_on_word_problems(chatty: Path, hub: dict[str, Any], tmp_path: Path) -> None:
    believing = {"verify": {"verifier": "accept-all"}, "gate": {"require": "nothing"}}
    last, _, rounds = ran(tmp_path / "run", hub, believing, {"policy": str(chatty), "generate": {"max_tokens": 512}})
    asked = rounds[0]["samples"][0]["prompt"]
    assert "<|user|>" not in asked, "tables hold what is asked, the template is the policy's"
    adapters = sorted((tmp_path / "run").glob("round-0*/finetune*/candidate/adapter_model.safetensors"))
    assert len(adapters) == 2, "the second round continues with the first one's adapter"
    assert manifest_of(last.champion.path).digest == manifest_of(adapters[1].parent).digest


def test_a_round_in_which_nothing_is_right_says_so_and_the_loop_continues(
    chatty: Path, hub: dict[str, Any], tmp_path: Path
) -> None:
    keep = {"finetune": {"when_nothing": "keep policy"}, "policy": str(chatty)}
    last, _, rounds = ran(tmp_path / "run", hub, keep, {"gate": {"require": "nothing"}})
    assert [round["empty"][:28] for round in rounds] == ["Nothing kept: of 6 rollouts "] * 2
    assert last.champion.metadata["digest"] == last.origin.metadata["digest"]


def test_a_verifier_that_asks_a_policy_asks_the_champion(chatty: Path, hub: dict[str, Any], tmp_path: Path) -> None:
    judged = {"verify": {"verifier": "judge"}, "gate": {"require": "nothing"}}
    with pytest.raises(UserError, match=r"Not one of the \d+ answers that the verifier .judge. got"):
        ran(tmp_path / "run", hub, {"policy": str(chatty)}, judged)


def test_an_adapter_in_force_outlives_the_run_that_made_it(
    chatty: Path, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    believing = {"verify": {"verifier": "accept-all"}, "gate": {"require": "nothing"}, "generate": {"max_tokens": 512}}
    recipe = find_recipe("expert-iteration")
    settings = recipe.resolve(TINY, hub, believing, {"policy": str(chatty)})
    with lineage.tracked_run("adapters", settings.overrides(), tmp_path / "note", tmp_path / "mlflow"):
        last, _ = run(recipe, settings, tmp_path / "run")
    digest = last.champion.metadata["digest"]
    shutil.rmtree(tmp_path / "run")
    collect(settings.loop, plan(settings.loop, 0), 0)
    place = lineage.policy_of(f"models:/{settings.loop}@champion")
    assert manifest_of(place).digest == digest
    assert parts(place) == Parts(place.with_name(read_json(place, "base.json")["digest"]), place)
    assert load(place).model.num_parameters() > 0
