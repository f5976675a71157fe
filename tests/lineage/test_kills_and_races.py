"""Promotion is one write: killed at any step, the old champion or the new one is in force; of two, one wins."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop import lineage
from selfloop.lineage.registry import Registry

from .. import forked
from ..killed import calm, copied, trial
from .worker import ended_round

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def prepared(registry: Registry, tmp_path: Path) -> Path:
    return _as_it_is(tmp_path)


def _as_it_is(tmp_path: Path) -> Path:
    """A copy of MLflow, in a folder of its own, that each attempt begins with."""
    place = tmp_path / "prepared"
    place.mkdir()
    shutil.copy(tmp_path / "mlflow.db", place)
    return place


def _worker(*words: str) -> Any:
    done = forked.run(str(WORKER), *words)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_killed_at_any_step_a_promotion_happened_or_did_not(prepared: Path) -> None:
    found = _worker("kills", str(prepared))
    assert found[-1]["status"] == 0, "the last attempt was let through"
    killed = [each for each in found if each["status"] == -9]
    assert len(killed) == len(found) - 1
    assert len(killed) >= 8, "a promotion has at least four writes"
    for each in killed:
        first = each["seen"]
        in_force = first["moves"][-1]
        assert in_force in (3, 4)
        assert first["alias"] in (3, in_force), "the alias follows the log, never the other way round"
        assert first["head"] == first["settled"] == in_force, "who looks next mends what was left behind"
        assert each["then"]["moves"] == [1, 3, 4], "done again, it is done once"
        assert each["then"]["alias"] == each["then"]["head"] == 4
    assert {each["seen"]["moves"][-1] for each in killed} == {3, 4}


def test_killed_between_two_registrations_a_bundle_is_the_old_one_or_the_new_one(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    with lineage.tracked_run("pair", {}, tmp_path / "note", tmp_path / "mlflow") as run:
        old = ended_round(given, 1)
    prepared = _as_it_is(tmp_path)
    shutil.copytree(tmp_path / "store", prepared / "store")
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    found = _worker("bundles", str(prepared), str(given))
    assert found[-1]["status"] == 0, "the last attempt was let through"
    new = found[-1]["then"]["digests"]
    assert not set(old) & set(new)
    for each in found[:-1]:
        seen, then = each["seen"], each["then"]
        assert each["status"] == -9
        assert seen["digests"] == seen["named"] == seen["in_force"] == (old if seen["head"] == 2 else new)
        assert each["again"] == new
        assert then["digests"] == then["named"] == then["in_force"] == new
        assert (then["moves"], then["versions"]) == ([1, 2, 3], [3, 3, 3]), "done again, it is done once"
    halves = [(each["seen"]["head"], each["seen"]["versions"]) for each in found[:-1]]
    assert halves == [(2, [2, 3, 2]), (2, [2, 3, 3]), (2, [3, 3, 3]), (3, [3, 3, 3])]


def test_killed_between_the_first_version_and_the_first_move_a_loop_has_a_champion(
    tmp_path: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lineage.tracked_run("pair", {}, tmp_path / "note", tmp_path / "mlflow") as run:
        prepared = _as_it_is(tmp_path)
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    for each in _worker("beginnings", str(prepared), str(tmp_path / "given")):
        assert each["status"] == -9
        assert (each["seen"]["head"], each["seen"]["moves"]) == (1, [1]), "who looks next makes the move"
        assert (each["then"]["head"], each["then"]["moves"]) == (2, [1, 2]), (
            "and the round is done as if none was killed"
        )


@pytest.mark.parametrize(("what", "least"), [("close", 5), ("fused", 20)])
def test_killed_at_any_write_of_a_round_s_end_and_run_again_it_comes_to_the_same(
    what: str, least: int, tmp_path: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is empty again, as a pod's is; MLflow has what the killed one wrote."""
    with lineage.tracked_run("loop", {}, tmp_path / "note", tmp_path / "mlflow") as run:
        prepared = _as_it_is(tmp_path)
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    done = forked.run("-m", "tests.lineage.closing", what, str(prepared), cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    *killed, last = json.loads(done.stdout)
    assert last["status"] == 0, "the last attempt was let through"
    assert {each["status"] for each in killed} == {-9}
    assert len(killed) >= least
    expected = {
        "head": 2,
        "versions": ["start", "promoted"],
        "moves": [["start", 1], ["promote", 2]],
        "rounds": 1,
    }
    assert last["then"] == expected
    for each in killed:
        assert each["seen"]["head"] in (None, 1, 2), "who looks meanwhile finds a loop that is whole"
        assert each["then"] == expected, "done again, it is done once"
        assert each["again"] == last["again"]
    assert {each["seen"]["head"] for each in killed} == {None, 1, 2}


def test_of_many_who_promote_over_and_over_each_is_told_what_the_log_says(prepared: Path) -> None:
    found = _worker("crowd", str(prepared), "8", "3")
    (start, first, *later) = found["moves"]
    assert (start[0], first[0]) == ("start", "promote")
    assert {kind for kind, _, _ in later} == {"promote"}, "nobody moved anything by hand"
    won = [reason for reason, said in found["told"].items() if said == "won"]
    assert sorted(reason for _, reason, _ in later) == sorted(won)
    assert all("in the meantime" in said for said in found["told"].values() if said != "won")
    assert won


def test_of_two_promotions_at_once_one_wins(prepared: Path) -> None:
    for each in _worker("races", str(prepared), "6"):
        won = [told["won"] for told in each["told"] if "won" in told]
        lost = [told["lost"] for told in each["told"] if "lost" in told]
        assert len(won) == len(lost) == 1
        assert "in the meantime" in lost[0]
        assert each["head"] == each["settled"] == won[0]


def test_a_loop_killed_at_random_moments_ends_as_if_nobody_had(migrated: Path, tmp_path: Path) -> None:
    whole_s, expected = calm(copied(migrated, tmp_path / "calm"))
    chance = random.Random(0)
    for number in range(2):
        moments_s = [chance.uniform(0, whole_s) for _ in range(4)]
        _, wrong = trial(copied(migrated, tmp_path / str(number)), moments_s, expected)
        assert not wrong, moments_s
