"""A loop that tells of its rounds: what it tells from the registry, once, and what halts it."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop import notifications
from selfloop.errors import HaltedError
from selfloop.lineage.registry import Registry
from selfloop.modes.inprocess import run
from selfloop.recipe import find_recipe

from ..webhook import Webhook
from .test_rounds import ALWAYS, NAME, RECIPE, ran

pytestmark = pytest.mark.slow

HALT = {"gate": {"guards": "distinct,warn=2,halt=1.5"}}


def _facts(told: dict[str, Any]) -> dict[str, str]:
    fields = next(block["fields"] for block in told["blocks"] if "fields" in block)
    return dict(field["text"].strip("*").split("*\n", 1) for field in fields)


def test_each_round_of_a_run_is_told_with_its_version(
    client: MlflowClient, webhook: Webhook, small: dict[str, Any], tmp_path: Path
) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    assert webhook.headlines == [f"{NAME} round 1: promoted", f"{NAME} round 2: promoted"]
    assert [_facts(told)["Version"] for told in webhook.taken] == ["2, after 1", "3, after 2"]
    assert [_facts(told)["In force"] for told in webhook.taken] == ["version 2", "version 3"]
    assert "items" in _facts(webhook.taken[0])["Gain on the target"]
    assert [version.tag("notified") for version in Registry(NAME).versions().values()] == ["", "promoted", "promoted"]


def test_a_round_that_is_recorded_again_is_not_told_again(
    client: MlflowClient, webhook: Webhook, small: dict[str, Any], tmp_path: Path
) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    last = Registry(NAME).versions()[3]
    told = {"promoted": True, "verdict": "promoted", "reason": "again"}
    notifications.notify(NAME, 2, last.tag("digests").split(","), told)
    assert len(webhook.taken) == 2
    Registry(NAME).tag(3, {"notified": ""})
    notifications.notify(NAME, 2, last.tag("digests").split(","), told)
    assert len(webhook.taken) == 3


def test_a_halt_is_told_before_the_loop_stops(
    client: MlflowClient, webhook: Webhook, small: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(HaltedError):
        ran(small, tmp_path / "a", HALT)
    assert webhook.headlines == [f"{NAME} round 1: halted"]
    assert "distinct (red)" in _facts(webhook.taken[0])["Guards"]


def test_a_webhook_that_is_down_changes_nothing_of_the_run(
    client: MlflowClient, webhook: Webhook, small: dict[str, Any], tmp_path: Path
) -> None:
    webhook.answers += [404, 404]
    last = ran(small, tmp_path / "a", ALWAYS)
    assert webhook.taken == []
    assert Registry(NAME).versions()[3].tag("digest") == last.champion.metadata["digest"]


def test_without_a_registry_a_round_is_told_all_the_same(
    webhook: Webhook, small: dict[str, Any], tmp_path: Path
) -> None:
    recipe = find_recipe(RECIPE)
    run(recipe, recipe.resolve(small, ALWAYS, {"rounds": 1}), tmp_path / "run")
    assert webhook.headlines == [f"{NAME} round 1: promoted"]
    assert "Version" not in _facts(webhook.taken[0])
