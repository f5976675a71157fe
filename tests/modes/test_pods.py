"""A stage as its pod runs it: places, references, and calls that were made before."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp.dsl import Artifact, Markdown, Model
from pydantic import Field
from selfloop import artifacts
from selfloop.modes.pods import entered, followed, own_place
from selfloop.stages import Params, Stage, stage
from selfloop.store import open_store

from ..conftest import sealed_value


class CountParams(Params):
    """Something to depend on."""

    times: int = Field(1, description="What is counted up by.")


class Counted(NamedTuple):
    after: Artifact
    policy: Model
    page: Markdown
    proceed: bool = False


@stage()
def count_up(out: Counted, params: CountParams, before: Artifact) -> bool:
    """Add to a number."""
    CALLS.append(params.times)
    artifacts.write_json(out.after.path, artifacts.read_json(before.path) + params.times)
    out.after.metadata["sum"] = params.times
    artifacts.write_json(out.policy.path, {"weights": params.times})
    Path(out.page.path).write_text("counted")
    return True


CALLS: list[int] = []


@pytest.fixture(autouse=True)
def _no_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))


def _called(place: Path, before: Artifact, times: int = 1, called: Stage = count_up) -> dict[str, Any]:
    made = {name: own_place(kind(name=name, uri=str(place / name))) for name, kind in called.outputs.items()}
    assert entered(called, called.made(made), CountParams(times=times), {"before": before}) is True
    return made


def test_an_equal_call_is_not_made_again_and_leaves_the_same(tmp_path: Path) -> None:
    before = sealed_value(tmp_path / "before", 3)
    first, second = (_called(tmp_path / name, before) for name in ("first", "second"))
    assert CALLS == [1]
    for made in (first, second):
        assert artifacts.read_json(made["after"].path) == 4
        assert artifacts.manifest_of(made["after"].path).metadata["sum"] == 1
        assert artifacts.read_json(followed(made["policy"]).path) == {"weights": 1}
        assert Path(made["page"].path).read_text() == "counted"
    assert artifacts.check(second["after"].path) == artifacts.check(first["after"].path)


def test_other_parameters_and_other_inputs_are_other_calls(tmp_path: Path) -> None:
    before = sealed_value(tmp_path / "before", 3)
    _called(tmp_path / "a", before)
    _called(tmp_path / "b", before, times=2)
    _called(tmp_path / "c", sealed_value(tmp_path / "other", 4))
    assert CALLS == [1, 2, 1]


def test_kfp_is_told_a_digest_alone_and_the_manifest_has_all(tmp_path: Path) -> None:
    """JSON has no word for what is no number, and KFP's metadata store none for nothing."""

    def function(out: Counted, params: CountParams, before: Artifact) -> bool:
        count_up.function(out, params, before)
        out.after.metadata |= {"loss": math.nan, "best": None, "by_level": {"1": math.inf, "2": 0.5}, "all": [1, None]}
        return True

    made = _called(tmp_path / "a", sealed_value(tmp_path / "before", 3), called=replace(count_up, function=function))
    assert made["after"].metadata.keys() == {"digest"}
    noted = artifacts.manifest_of(made["after"].path).metadata
    assert (noted["sum"], noted["best"], noted["all"]) == (1, None, [1, None])


def test_what_has_expired_is_made_again(tmp_path: Path) -> None:
    before = sealed_value(tmp_path / "before", 3)
    _called(tmp_path / "a", before)
    passing = open_store(str(tmp_path / "store" / "passing"))
    for key in list(passing.keys()):
        passing.delete(key)
    made = _called(tmp_path / "b", before)
    assert CALLS == [1, 1]
    assert artifacts.read_json(made["after"].path) == 4


def test_a_stage_with_effects_is_run_each_time(tmp_path: Path) -> None:
    before = sealed_value(tmp_path / "before", 3)
    for name in ("a", "b"):
        _called(tmp_path / name, before, called=replace(count_up, effects=True))
    assert CALLS == [1, 1]


def test_equal_rows_of_different_makes_keep_their_makers(tmp_path: Path) -> None:
    """Equal files lie in the store once, and yet each call is told what itself was given."""
    made = [
        _called(tmp_path / f"{n}-{again}", sealed_value(tmp_path / f"in-{n}-{again}", 10 - n), n)
        for again in range(2)
        for n in (1, 2)
    ]
    assert CALLS == [1, 2]
    assert [artifacts.manifest_of(each["after"].path).metadata["sum"] for each in made] == [1, 2, 1, 2]
    assert len({artifacts.manifest_of(each["after"].path).digest for each in made}) == 1


def test_a_task_that_shares_its_component_with_an_earlier_round_gets_a_place_of_its_own(tmp_path: Path) -> None:
    before = sealed_value(tmp_path / "before", 3)
    first = _called(tmp_path / "task", before)
    second = _called(tmp_path / "task", before, times=5)
    assert Path(second["after"].path) == tmp_path / "task" / "2" / "after"
    assert artifacts.read_json(first["after"].path) == 4
    assert artifacts.read_json(second["after"].path) == 8


def test_what_an_attempt_left_unfinished_takes_no_place(tmp_path: Path) -> None:
    (tmp_path / "task" / "after").mkdir(parents=True)
    (tmp_path / "task" / "after" / "half").touch()
    made = _called(tmp_path / "task", sealed_value(tmp_path / "before", 3))
    assert Path(made["after"].path) == tmp_path / "task" / "after"
    assert artifacts.read_json(made["after"].path) == 4


def test_nothing_is_kept_where_there_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFLOOP_STORE")
    before = sealed_value(tmp_path / "before", 3)
    made = _called(tmp_path / "a", before)
    _called(tmp_path / "b", before)
    assert CALLS == [1, 1]
    assert artifacts.manifest_of(made["policy"].path).kind == "Model"
    assert not (tmp_path / "store").exists()
