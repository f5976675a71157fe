"""Adapter policies: trained, loaded, handed on, continued with, and refused on another base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kfp.dsl import Model
from selfloop.adapters import BASE, Parts
from selfloop.artifacts import manifest_of, seal, sidecar_of
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, check_source, fetch_policy
from selfloop.policy import fresh, load, parts, save
from selfloop.store import open_store

from .conftest import Finetuned, tried

pytestmark = pytest.mark.slow

LORA = {"adapter": "lora", "lora_rank": 2, "lora_alpha": 4, "lr": 1e-2}


def equal(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.allclose(left[n], right[n], atol=tolerance) for n in left)


@pytest.fixture
def adapter(trained: Path, finetuned: Finetuned) -> Path:
    return Path(finetuned(trained, "adapter", tried(), **LORA).path)


def test_an_adapter_policy_holds_its_adapter_and_the_digest_of_its_base(trained: Path, adapter: Path) -> None:
    about = json.loads((adapter / "adapter_config.json").read_text())
    assert json.loads((adapter / BASE).read_text()) == {"digest": manifest_of(trained).digest}
    assert parts(adapter) == Parts(trained, adapter)
    assert parts(trained) == Parts(trained, None)
    assert not (adapter / "model.safetensors").exists()
    assert about["r"] == 2
    sealed = "".join((adapter / name).read_text() for name in manifest_of(adapter).files if name.endswith(".json"))
    assert str(trained) not in sealed
    assert not equal(load(adapter).model, load(trained).model)


def test_equal_trainings_give_equal_adapters_wherever_the_base_lies(
    trained: Path, adapter: Path, tmp_path: Path, finetuned: Finetuned
) -> None:
    elsewhere = shutil.copytree(trained, tmp_path / "elsewhere")
    again = finetuned(elsewhere, "again", tried(), **LORA)
    assert again.metadata["digest"] == manifest_of(adapter).digest
    assert parts(again.path).base == elsewhere


def test_an_adapter_on_another_base_is_another_policy(trained: Path, plain: Path, finetuned: Finetuned) -> None:
    few = {"steps": 1, "lr": 1e-30}
    made = [finetuned(base, base.parent.name, tried(), **(LORA | few)).metadata["digest"] for base in (trained, plain)]
    assert made[0] != made[1]


def test_an_adapter_that_is_merged_is_the_policy_that_the_adapter_makes(
    trained: Path, adapter: Path, finetuned: Finetuned
) -> None:
    merged = finetuned(trained, "merged", tried(), keep="merged", **LORA)
    assert parts(merged.path).adapter is None
    assert equal(load(merged.path).model, load(adapter).model, 1e-6)


def test_training_continues_with_the_adapter_that_is_there(trained: Path, adapter: Path, finetuned: Finetuned) -> None:
    further = finetuned(adapter, "further", tried(), **(LORA | {"lora_rank": 8}))
    assert json.loads(Path(further.path, "adapter_config.json").read_text())["r"] == 2
    assert parts(further.path).base == trained
    assert further.metadata["digest"] != manifest_of(adapter).digest


def test_all_weights_of_an_adapter_policy_can_be_trained(adapter: Path, finetuned: Finetuned) -> None:
    whole = finetuned(adapter, "whole", tried())
    assert parts(whole.path).adapter is None
    assert not equal(load(whole.path).model, load(adapter).model)


@pytest.mark.parametrize("method", ["dpo", "kto", "nft"])
def test_each_method_trains_adapters(plain: Path, finetuned: Finetuned, method: str) -> None:
    made = finetuned(plain, method, tried(), method=method, **LORA)
    assert parts(made.path).base == plain
    names = set(manifest_of(made.path).files)
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json"} <= names
    assert not any("ref" in name for name in names)
    assert not equal(load(made.path).model, load(plain).model)


def test_an_adapter_policy_is_fetched_with_the_place_of_its_base(trained: Path, adapter: Path, tmp_path: Path) -> None:
    fetched = Model(uri=str(tmp_path / "fetched"))
    check_source(str(adapter))
    fetch_policy.into(fetch_policy.out(policy=fetched), FetchParams(source=str(adapter)))
    assert fetched.metadata["digest"] == manifest_of(adapter).digest
    assert parts(fetched.path).base == trained
    assert equal(load(fetched.path).model, load(adapter).model)


def test_what_is_saved_of_an_adapter_policy_is_what_was_loaded(adapter: Path, tmp_path: Path) -> None:
    save(fresh(adapter), tmp_path / "again")
    assert seal(tmp_path / "again", "Model").digest == manifest_of(adapter).digest


def test_a_base_that_moved_is_found_in_the_store(
    trained: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put(trained)
    (adapter / "sidecar.json").write_text("{}")
    with pytest.raises(UserError, match=r"which is not to be found \(no place is noted\): set SELFLOOP_STORE"):
        parts(adapter)
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))
    assert equal(load(parts(adapter).base).model, load(trained).model)
    assert "base" not in sidecar_of(adapter)


def test_a_base_that_is_not_the_same_any_more_is_refused(
    trained: Path, plain: Path, adapter: Path, tmp_path: Path
) -> None:
    (adapter / "sidecar.json").write_text(json.dumps({"base": str(plain)}))
    with pytest.raises(UserError, match=f"{plain} is not there"):
        check_source(str(adapter))


def test_an_adapter_of_another_shape_is_refused(trained: Path, adapter: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    policy = fresh(trained)
    config = policy.model.config
    config.hidden_size, config.intermediate_size, config.head_dim = 32, 64, 16
    save(policy._replace(model=LlamaForCausalLM(config)), tmp_path / "wider")
    digest = seal(tmp_path / "wider", "Model").digest
    (adapter / BASE).write_text(json.dumps({"digest": digest}))
    (adapter / "sidecar.json").write_text(json.dumps({"base": str(tmp_path / "wider")}))
    with pytest.raises(UserError, match=r"is an adapter for another base than .*wider"):
        load(adapter)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("adapter_model.safetensors", "an adapter without weights"), ("base.json", "merge it into")],
)
def test_an_adapter_that_lacks_a_part_is_refused(adapter: Path, missing: str, message: str) -> None:
    (adapter / missing).unlink()
    with pytest.raises(UserError, match=message):
        check_source(str(adapter))


def test_modules_that_a_policy_does_not_have_are_refused(trained: Path, finetuned: Finetuned) -> None:
    with pytest.raises(UserError, match=r"lora_targets attention_magic cannot be adapted .*: name linear modules"):
        finetuned(trained, "none", tried(), lora_targets=["attention_magic"], **LORA)


def test_a_loop_continues_from_adapters(small: dict[str, Any], tmp_path: Path) -> None:
    from selfloop.modes.inprocess import run
    from selfloop.recipe import find_recipe

    recipe = find_recipe("length-generalization")
    settings = recipe.resolve(small | {"finetune": {"steps": 3, "adapter": "lora", "lora_rank": 2}})
    run(recipe, settings, tmp_path / "run")
    made = sorted((tmp_path / "run").glob("round-*/finetune_policy-*/candidate"))
    assert len(made) == 2
    [base] = (tmp_path / "run").glob("round-*/pretrain_policy-*/policy")
    assert {manifest_of(parts(place).base).digest for place in made} == {manifest_of(base).digest}
