from pathlib import Path
from typing import Any

import pytest
from selfloop.artifacts import manifest_of, read_json
from selfloop.errors import UserError
from selfloop.inprocess import run
from selfloop.recipe import find_recipe
from selfloop.records import Example, rows

TINY: dict[str, Any] = {
    "rounds": 2,
    "seed": 12,
    "base": {"levels": 1, "per_level": 100, "held_out_per_level": 16},
    "pretrain": {"steps": 150, "hidden_size": 16, "heads": 2, "intermediate_size": 32, "decay_steps": 50, "lr": 1e-2},
    "draw": {"levels": [1], "per_level": 60, "items_per_level": 24},
    "finetune": {"steps": 3, "batch_size": 16},
    "measure": {"levels": [1], "per_level": 16},
    "gate": {"guards": []},
}
"""A whole run of two rounds in seconds: the machinery, not the learning."""


def ran(place: Path, *overrides: dict[str, Any]) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    recipe = find_recipe("expert-iteration")
    last, measured = run(recipe, recipe.resolve(TINY, *overrides), place)
    return last, dict(measured), read_json(last.history.path)["rounds"]


def test_what_the_verifier_calls_right_is_trained_on_and_nothing_else(tmp_path: Path) -> None:
    last, measured, rounds = ran(tmp_path)
    assert 0 <= measured["accuracy"] <= 1
    assert [told["tasks"] for told in rounds] == [60, 60]
    kept = list(rows(last.kept.path, Example))
    assert len(kept) == sum(sum(told["kept"].values()) for told in rounds) > 0
    assert all(example.good for example in kept)


@pytest.mark.parametrize(("update", "wrong", "pairs"), [("nft", True, False), ("dpo", False, True)])
def test_the_update_decides_what_is_kept_and_how_it_is_trained_on(
    update: str, wrong: bool, pairs: bool, tmp_path: Path
) -> None:
    last, _, rounds = ran(tmp_path, {"update": update, "rounds": 1})
    kept = list(rows(last.kept.path, Example))
    assert any(not example.good for example in kept) == wrong
    assert all(example.rejected for example in kept) == pairs
    candidate = next(tmp_path.glob("round-01/finetune*/candidate"))
    assert manifest_of(candidate).metadata["method"] == update
    assert manifest_of(candidate).metadata["steps"] == 3
    assert rounds[0]["decision"]["verdict"] in ("promoted", "rejected")


def test_each_round_can_begin_anew_from_the_base_policy(tmp_path: Path) -> None:
    last, _, _ = ran(tmp_path, {"restart": "base", "gate": {"require": "nothing"}})
    second = next(tmp_path.glob("round-02/finetune*/candidate"))
    assert manifest_of(second).inputs["policy"] == last.beginning.metadata["digest"]
    assert manifest_of(last.champion.path).digest == manifest_of(second).digest != last.beginning.metadata["digest"]


def test_the_control_believes_everything(tmp_path: Path) -> None:
    recipe = find_recipe("expert-iteration")
    _, _, rounds = ran(tmp_path, dict(recipe.control), {"rounds": 1})
    audit = rounds[0]["audit"]
    assert audit["false_positive"] > 0
    assert audit["false_negative"] == audit["true_negative"] == 0 or audit["precision"] < 1


def test_an_unknown_update_is_refused() -> None:
    with pytest.raises(UserError, match="update"):
        find_recipe("expert-iteration").resolve({"update": "ppo"})
