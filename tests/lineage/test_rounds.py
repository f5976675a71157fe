"""A run in the registry: versions with all that is known of them, the champion's moves, branches, forks, people."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop.artifacts import check, manifest_of
from selfloop.errors import UserError
from selfloop.lineage import record
from selfloop.lineage.decisions import rollback
from selfloop.lineage.registry import Registry
from selfloop.lineage.rounds import find_origin

from ..conftest import tracked_run

RECIPE, NAME = "length-generalization", "length-generalization-addition"
ALWAYS = {"gate": {"require": "nothing", "guards": []}}
NEVER = {"gate": {"margin": 1.0, "guards": []}}
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("client")]


ran = partial(tracked_run, RECIPE)


def in_force(registry: Registry) -> int:
    head = registry.settle()
    assert head is not None
    return head.version


def test_a_version_knows_where_it_came_from(client: MlflowClient, small: dict[str, Any], tmp_path: Path) -> None:
    last = ran(small, tmp_path / "a", ALWAYS)
    registry = Registry(NAME)
    base, first, second = registry.versions().values()
    assert [v.tag("verdict") for v in (base, first, second)] == ["start", "promoted", "promoted"]
    assert [v.parent for v in (base, first, second)] == [None, 1, 2]
    assert [v.tag("round") for v in (base, first, second)] == ["0", "1", "2"]
    assert in_force(registry) == 3
    assert registry.aliases() == {"champion": 3, "previous": 2, "candidate": 3}
    assert second.tag("digest") == manifest_of(last.champion.path).digest == check(second.source).digest

    made = record.read(second.tag("record"))
    assert made.settings["finetune"] == {"steps": 5}
    assert (made.seed, made.round, made.recipe) == (7, 2, "selfloop_recipes.length_generalization:recipe")
    assert made.champions["champion"].digest == first.tag("digest")
    assert set(made.trained_on["champion"]) == {"policy", "newest", "replay_pool", "seed_data", "eval_items"}
    assert second.tag("data.newest") == made.trained_on["champion"]["newest"]
    assert made.software["torch"]
    assert made.code == manifest_of(last.champion.path).code
    assert made.decision["suites"]["target"]["items"] > 0
    assert set(made.after) == {"progress", "seed_data", "replay_pool", "history", "anchor"}
    assert made.after["progress"].digest == manifest_of(last.progress.path).digest
    for reference in [*made.roles.values(), *made.before.values(), *made.after.values()]:
        assert check(record.fetched(reference)).digest == reference.digest
    run_of_round = client.get_run(second.run_id)
    assert run_of_round.data.tags["selfloop.verdict"] == "promoted"
    assert {"target.gain", "audit.ece", "audit.level_3.brier"} <= run_of_round.data.metrics.keys()


def test_a_rejected_candidate_is_a_version_too_and_the_champion_stays(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", NEVER)
    registry = Registry(NAME)
    assert [v.tag("verdict") for v in registry.versions().values()] == ["start", "rejected", "rejected"]
    assert [v.parent for v in registry.versions().values()] == [None, 1, 1]
    assert registry.aliases() == {"champion": 1, "candidate": 3}
    assert [move.kind for move in registry.moves()] == ["start"]


def test_a_run_from_scratch_beside_a_champion_does_not_replace_it(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    last = ran(small, tmp_path / "b", ALWAYS, {"seed": 8})
    registry = Registry(NAME)
    assert in_force(registry) == 3
    assert registry.versions()[6].tag("digest") == manifest_of(last.champion.path).digest
    assert registry.versions()[4].parent is None


def test_a_loop_continues_from_the_champion_with_its_state(small: dict[str, Any], tmp_path: Path) -> None:
    whole = ran(small, tmp_path / "whole", ALWAYS, {"model": "whole", "rounds": 3})
    ran(small, tmp_path / "part", ALWAYS)
    name, origin, first = find_origin(f"{NAME}@champion")
    assert (name, origin, first) == (NAME, f"{NAME}/3", 3)
    last = ran(small, tmp_path / "rest", ALWAYS, {"rounds": 1, "origin": origin, "first": first})
    assert last.champion.metadata["digest"] == whole.champion.metadata["digest"]
    assert last.progress.metadata["digest"] == whole.progress.metadata["digest"]
    assert last.history.metadata["digest"] == whole.history.metadata["digest"]
    registry = Registry(NAME)
    assert in_force(registry) == 4
    assert registry.versions()[4].parent == 3


def test_after_rejected_rounds_a_loop_continues_from_the_champion_with_the_newest_state(
    small: dict[str, Any], tmp_path: Path
) -> None:
    ran(small, tmp_path / "a", NEVER)
    assert find_origin(f"{NAME}@champion") == (NAME, f"{NAME}/1+3", 3)
    assert find_origin(f"{NAME}/2") == (NAME, f"{NAME}/2", 2)
    assert find_origin(f"{NAME}@2") == (NAME, f"{NAME}/2", 2)


def test_a_fork_from_an_old_version_leaves_the_champion_alone(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    _, origin, first = find_origin(f"{NAME}/2")
    ran(small, tmp_path / "fork", ALWAYS, {"rounds": 2, "origin": origin, "first": first, "seed": 9})
    registry = Registry(NAME)
    assert in_force(registry) == 3
    assert [registry.versions()[n].parent for n in (4, 5)] == [2, 4]


def test_a_champion_moved_by_hand_during_a_run_is_honoured_and_recorded(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    client.set_registered_model_alias(NAME, "champion", "2")
    (again,) = (tmp_path / "a" / "run" / "round-02").glob("close_round-*")
    again.rename(tmp_path / "lost")  # as if the alias had been moved while round 2 was at work
    registry = Registry(NAME)
    registry.move(3, "promote", "as before", registry.settle())
    client.set_registered_model_alias(NAME, "champion", "1")
    with caplog.at_level(logging.WARNING, "selfloop"):
        last = ran(small, tmp_path / "a", ALWAYS)
    assert "was moved to version 1 (by hand" in caplog.text
    assert last.champion.metadata["digest"] == registry.versions()[1].tag("digest")
    assert [move.kind for move in registry.moves()] == ["start", "promote", "promote", "by hand", "promote", "by hand"]
    assert in_force(registry) == 1


def test_a_rejected_twin_of_the_champion_does_not_take_its_place(small: dict[str, Any], tmp_path: Path) -> None:
    """A round that changes nothing makes a candidate with the champion's own digest."""
    ran(small, tmp_path / "a", {"rounds": 1, **ALWAYS})
    registry = Registry(NAME)
    twin = registry.register("twin", "/x", "", {}, "")
    for name, value in registry.versions()[2].tags.items():
        if name != "selfloop.key":
            registry.tag(twin.number, {name.removeprefix("selfloop."): value})
    registry.tag(twin.number, {"verdict": "rejected"})
    again = ran(small, tmp_path / "a", {"rounds": 1, **ALWAYS})
    _, origin, first = find_origin(f"{NAME}@champion")
    ran(small, tmp_path / "b", ALWAYS, {"rounds": 1, "origin": origin, "first": first})
    assert again.champion.metadata["digest"] == registry.versions()[2].tag("digest")
    assert registry.versions()[4].parent == 2
    assert in_force(registry) == 4


def test_a_rollback_while_a_round_was_ending_is_not_undone_when_it_ends_again(
    small: dict[str, Any], tmp_path: Path
) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    for place in (tmp_path / "a" / "run" / "round-02").glob("close_round-*"):
        place.rename(tmp_path / "lost")
    rollback(NAME, None, "its examples were bad")
    last = ran(small, tmp_path / "a", ALWAYS)
    registry = Registry(NAME)
    assert [move.kind for move in registry.moves()] == ["start", "promote", "promote", "rollback"]
    assert last.champion.metadata["digest"] == registry.versions()[2].tag("digest")
    before = record.read(registry.versions()[2].tag("record")).after
    assert last.replay_pool.metadata["digest"] == before["replay_pool"].digest, "the state is that version's, too"


def test_another_environment_is_refused_before_anything_is_trained(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS, {"rounds": 1})
    _, origin, first = find_origin(f"{NAME}@champion")
    with pytest.raises(UserError, match="was trained on environment 'addition', not 'reverse'"):
        ran(small, tmp_path / "b", {"origin": origin, "first": first, "environment": "reverse"})
    assert not list((tmp_path / "b").rglob("*.safetensors"))


def test_a_round_that_ran_twice_is_there_once(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS)
    for place in (tmp_path / "a" / "run" / "round-02").glob("close_round-*"):
        place.rename(tmp_path / "lost")
    ran(small, tmp_path / "a", ALWAYS)
    registry = Registry(NAME)
    assert len(registry.versions()) == 3
    assert [move.version for move in registry.moves()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("origin", "sentence"),
    [
        ("nowhere@champion", "There is no loop 'nowhere' in the registry"),
        (f"{NAME}", "--from takes NAME@champion"),
        ("a:b@champion", "cannot be the name of a loop"),
    ],
)
def test_an_origin_that_is_none_is_refused(origin: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_origin(origin)


def test_a_policy_that_is_no_longer_what_it_was_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    ran(small, tmp_path / "a", ALWAYS, {"rounds": 1})
    weights = Path(Registry(NAME).versions()[2].source, "model.safetensors")
    altered = bytearray(weights.read_bytes())
    altered[-1] ^= 1
    weights.unlink()
    weights.write_bytes(altered)
    _, origin, first = find_origin(f"{NAME}/2")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        ran(small, tmp_path / "b", ALWAYS, {"origin": origin, "first": first})
