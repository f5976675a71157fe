"""A version made again from the registry alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.lineage.registry import Registry
from selfloop.modes.reproducing import Reproduction, reproduce

from .test_rounds import ALWAYS, NAME, ran

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("client")
def test_every_version_is_made_again_from_the_registry_alone(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    shutil.rmtree(tmp_path / "a")
    for number in ("1", "3"):
        made = reproduce(NAME, number, tmp_path / f"again-{number}")
        assert made.same, made.digests
        assert made.agrees
        assert not made.changed
    assert made.gain is not None
    assert made.gain[0] == made.gain[1]


def test_other_settings_make_another_version_and_that_is_said(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(small, tmp_path / "a", ALWAYS, {"rounds": 1})
    registry = Registry(NAME)
    was = record.read(registry.versions()[2].tag("record"))
    [module] = was.brought
    other = {"software": was.software | {"torch": "1.0"}, "brought": {module: "0" * 64, "gone.py": "1" * 64}}
    forged = was.model_copy(update={"settings": was.settings | {"finetune": {"steps": 6}}, **other})
    registry.tag(2, {"record": record.write(forged)})
    made = reproduce(NAME, "2", tmp_path / "again")
    assert not made.same
    assert made.changed["torch"][0] == "1.0"
    assert module == "selfloop_recipes.length_generalization"
    assert made.changed[module] == ("0" * 12, was.brought[module][:12])
    assert made.changed["gone.py"] == ("1" * 12, "none")


@pytest.mark.parametrize(("now", "agrees"), [(0.05, True), (0.02, True), (0.1, False)])
def test_where_digests_differ_the_gates_interval_decides(now: float, agrees: bool) -> None:
    made = Reproduction(3, {"champion": ("a", "b")}, (0.04, now), (0.01, 0.07), {})
    assert not made.same
    assert made.agrees is agrees


@pytest.mark.usefixtures("client")
def test_a_version_whose_files_are_gone_is_refused_by_name(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS, {"rounds": 1})
    base = Registry(NAME).versions()[1]
    shutil.rmtree(base.source)
    with pytest.raises(UserError, match=base.tag("digest")[:12]):
        reproduce(NAME, "2", tmp_path / "again")
