"""What may be forgotten, and what never is."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop.artifacts import check
from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.lineage.decisions import promote
from selfloop.lineage.registry import Registry
from selfloop.lineage.retention import collect, plan
from selfloop.lineage.rounds import find_origin

from .test_rounds import ALWAYS, NAME, NEVER, ran

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("client")]


def _mixed(small: dict[str, Any], tmp_path: Path) -> Registry:
    """Versions 2 and 3 rejected after the base 1, then 4 promoted from it, 5 rejected."""
    ran(small, tmp_path / "a", NEVER)
    _, origin, first = find_origin(f"{NAME}@champion")
    ran(small, tmp_path / "b", ALWAYS, {"origin": origin, "first": first, "rounds": 1})
    _, origin, first = find_origin(f"{NAME}@champion")
    ran(small, tmp_path / "c", NEVER, {"origin": origin, "first": first, "rounds": 1})
    return Registry(NAME)


def test_champions_their_ancestors_and_the_last_ones_stay(small: dict[str, Any], tmp_path: Path) -> None:
    registry = _mixed(small, tmp_path)
    assert registry.aliases() == {"champion": 4, "previous": 1, "candidate": 5}
    goes = {last: [version.number for version in plan(NAME, last).versions] for last in range(11)}
    assert goes == {0: [2, 3], 1: [2, 3], 2: [2, 3], 3: [2], **{last: [] for last in range(4, 11)}}

    planned = plan(NAME, 0)
    assert planned.bytes > 0
    collect(NAME, planned, 0)
    for number in (1, 4, 5):
        made = record.read(registry.versions()[number].tag("record"))
        for reference in [*made.roles.values(), *made.champions.values(), *made.before.values(), *made.after.values()]:
            assert check(record.fetched(reference)).digest == reference.digest
    for number in (2, 3):
        version = registry.versions()[number]
        assert not Path(version.source).exists()
        assert record.read(version.tag("record")).roles, "what it was, is still known"
    assert plan(NAME, 0) == ([], {})
    with pytest.raises(UserError, match="The files of version 2 of length-generalization-addition were collected"):
        promote(NAME, "2", "x")


def test_what_was_promoted_after_the_plan_stays(small: dict[str, Any], tmp_path: Path) -> None:
    registry = _mixed(small, tmp_path)
    planned = plan(NAME, 0)
    promote(NAME, "3", "after all")
    collect(NAME, planned, 0)
    assert check(registry.find("champion").source)
    assert not registry.versions()[3].tag("collected")
    assert registry.versions()[2].tag("collected")


def test_somebody_elses_models_are_left_alone(client: MlflowClient, small: dict[str, Any], tmp_path: Path) -> None:
    _mixed(small, tmp_path)
    client.create_registered_model("my model (v2)")
    client.create_model_version("my model (v2)", source="s3://theirs/1")
    assert [version.number for version in plan(NAME, 0).versions] == [2, 3]


def test_what_another_loop_is_made_of_stays(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", NEVER)
    ran(small, tmp_path / "b", ALWAYS, {"model": "another"})  # the same seed: the same first candidate
    planned = plan(NAME, 0)
    shared = Registry(NAME).versions()[2]
    assert shared.source == Registry("another").versions()[2].source
    collect(NAME, planned, 0)
    assert check(shared.source)


def test_a_collection_that_was_killed_half_way_is_finished_by_the_next(small: dict[str, Any], tmp_path: Path) -> None:
    registry = _mixed(small, tmp_path)
    planned = plan(NAME, 0)
    registry.tag(2, {"collected": "true"})
    record.store().delete(next(iter(planned.keys)))
    left = plan(NAME, 0)
    assert left.keys.keys() == list(planned.keys)[1:] or set(left.keys) == set(list(planned.keys)[1:])
    collect(NAME, left, 0)
    assert plan(NAME, 0) == ([], {})


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match="--keep cannot be -1"):
        plan("x", -1)
