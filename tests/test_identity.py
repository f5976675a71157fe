"""What parameters name of a user's own, and what is the same wherever it lies."""

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from selfloop import strategies
from selfloop.fetch import FetchParams
from selfloop.finetune import PretrainParams
from selfloop.finetune.params import TrainingParams
from selfloop.identity import brought, data_digest
from selfloop.revisions import commit_of
from selfloop.settings import RunParams
from selfloop.stages import Params
from selfloop.strategies import Strategy

Write = Callable[..., Path]


class Scorer(Strategy):
    kind = "scorer"
    package = __name__
    reads = frozenset({"table"})
    table: str = Field("", description="A file.")
    others: list[str] = Field([], description="Scorers beside it.")


class Weighted(Scorer):
    """One that comes with the kind."""

    name = "weighted"


class ScoreParams(Params):
    """What a stage of one's own may take."""

    environment: str = Field("addition", description="The taskset.")
    scorer: Scorer = Field(Weighted(), description="A strategy.")
    scorers: list[Scorer] = Field([], description="Several.")
    weights: dict[str, float] = Field({}, description="Weights by name.")
    words: str = Field("", description="Any text.")


OWN = "from tests.test_identity import Scorer\nclass Mine(Scorer):\n    'One of my own.'\n"
ENVIRONMENT = """
from selfloop.environments import Environment, Grade
class Mine(Environment):
    name = "mine"
    def files(self):
        return [{file!r}]
    def tasks(self, level, count, seed):
        return []
    def check(self, task, completion):
        return Grade(True, 1.0, "correct")
def made():
    return Mine()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module, which is importable for as long as a test takes."""
    (tmp_path / "own").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    before = set(sys.modules)

    def written(name: str, text: str = OWN) -> Path:
        path = tmp_path / "own" / f"{name}.py"
        path.write_text(text)
        importlib.invalidate_caches()
        return path

    yield written
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]
    strategies._own.cache_clear()


def _names(params: Params) -> set[str]:
    return set(brought(params).code) - {__name__}  # where the strategies of this test are defined


def test_strategies_are_found_wherever_a_parameter_holds_them(write: Write) -> None:
    for name in ("s_one", "s_two", "s_three", "s_four"):
        write(name)
    assert _names(ScoreParams(scorer="s_one:Mine")) == {"s_one"}
    assert _names(ScoreParams(scorers=["s_one:Mine", "weighted,others=s_two:Mine"])) == {"s_one", "s_two"}
    assert _names(ScoreParams(weights={"s_three:Mine": 0.5})) == {"s_three"}
    text = json.dumps({"verify": {"verifier": "weighted,weights={'s_four:Mine':1}"}, "environment": "addition"})
    assert _names(RunParams(settings=text)) == {"s_four"}


def test_what_comes_with_selfloop_is_not_brought() -> None:
    assert _names(ScoreParams(words="time:sleep selfloop.gate:stage no.where:x", scorer="weighted")) == set()


def test_a_file_is_the_module_of_its_name(write: Write) -> None:
    path = write("by_path")
    found = brought(FetchParams(source=f"{path}:Mine"))
    assert found == brought(FetchParams(source="by_path:Mine"))
    assert found.code.keys() == {"by_path"}


def test_an_environment_brings_its_module_and_the_files_that_it_reads(write: Write, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1")
    write("e_own", ENVIRONMENT.format(file=str(tmp_path / "rows.txt")))
    for name in ("e_own:Mine", "e_own:made"):
        found = brought(PretrainParams(environment=name))
        assert found.code.keys() == {"e_own"}
        assert found.data == {str(tmp_path / "rows.txt"): data_digest(tmp_path / "rows.txt")}
    assert brought(RunParams(settings=json.dumps({"environment": "e_own:Mine"}))) == found


@pytest.mark.parametrize("family", ["dataset:{}?answer=a", "programs:{}?tests=a", "gsm8k:{}", "math:{}"])
def test_an_environment_of_rows_brings_their_file(family: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("{}")
    params = PretrainParams(environment=family.format(tmp_path / "d.jsonl"))
    assert brought(params).all == {str(tmp_path / "d.jsonl"): data_digest(tmp_path / "d.jsonl")}


@pytest.mark.parametrize("name", ["addition", "arithmetic:claims", "dataset:owner/name", "gsm8k", "dataset:./gone.csv"])
def test_an_environment_without_files_on_this_machine_brings_nothing(name: str) -> None:
    assert brought(PretrainParams(environment=name)).all == {}


def test_files_that_a_parameter_names_are_brought(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    (tmp_path / "table.csv").write_text("1")
    assert brought(FetchParams(source=str(tmp_path / "policy"))).data.keys() == {str(tmp_path / "policy")}
    assert brought(FetchParams(source="owner/name")).data == {}
    assert brought(TrainingParams(accelerate_config=str(tmp_path / "table.csv"))).data.keys() == {
        str(tmp_path / "table.csv")
    }
    scored = ScoreParams(scorers=[f"weighted,table={tmp_path}/table.csv"])
    assert brought(scored).data.keys() == {str(tmp_path / "table.csv")}


def _identity(params: Params) -> dict[str, Any]:
    return brought(params).identity(params.model_dump(mode="json"))


def test_equal_files_elsewhere_make_equal_identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "d.jsonl").write_text("{}")
        (tmp_path / name / "t.csv").write_text("1")

    def identity(root: str) -> dict[str, Any]:
        dataset, table = f"dataset:{root}/d.jsonl?answer=a", f"weighted,table={root}/t.csv"
        return _identity(ScoreParams(environment=dataset, scorers=[table], words="d.jsonl"))

    here = identity(str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path / "there")
    assert identity(str(tmp_path / "there")) == here
    assert identity(".") == here
    assert identity("../here") == here
    (tmp_path / "there" / "d.jsonl").write_text("{ }")
    assert identity(".") != here


def test_a_folder_is_the_files_in_it_with_their_names(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "deep").mkdir(parents=True)
    (one / "a").write_text("1")
    (one / "deep" / "b").write_text("2")
    shutil.copytree(one, two)
    for hidden in (".git/index", "manifest.json", "sidecar.json", "deep/__pycache__/x.pyc"):
        (two / hidden).parent.mkdir(exist_ok=True)
        (two / hidden).write_text("of the moment")
    assert data_digest(one) == data_digest(two)
    (two / "deep" / "b").rename(two / "b")
    assert data_digest(one) != data_digest(two)


def test_a_file_is_its_bytes_and_what_they_are_read_as(tmp_path: Path) -> None:
    for name, text in {"a.csv": "1", "b.csv": "1", "a.json": "1", "c.csv": "2"}.items():
        (tmp_path / name).write_text(text)
    a, b, other_kind, other = (data_digest(tmp_path / name) for name in ("a.csv", "b.csv", "a.json", "c.csv"))
    assert a == b
    assert len({a, other_kind, other}) == 3


def test_a_file_of_the_same_size_and_time_that_was_replaced_is_another(tmp_path: Path) -> None:
    place, long_ago = tmp_path / "d.csv", 10**18
    place.write_text("old")
    os.utime(place, ns=(long_ago, long_ago))
    before = data_digest(place)
    (tmp_path / "new.csv").write_text("new")
    os.utime(tmp_path / "new.csv", ns=(long_ago, long_ago))
    os.replace(tmp_path / "new.csv", place)
    assert data_digest(place) != before


def test_a_name_of_the_hub_counts_by_the_commit_that_its_cache_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for params, folder in (
        (FetchParams(source="nobody/no-such-policy"), "models--nobody--no-such-policy"),
        (ScoreParams(environment="dataset:nobody/no-such-data"), "datasets--nobody--no-such-data"),
    ):
        known = list[Any]()
        for commit in ("", "a" * 40, "b" * 40):
            head = tmp_path / folder / "refs" / "main"
            if commit:
                head.parent.mkdir(parents=True, exist_ok=True)
                head.write_text(commit)
            commit_of.cache_clear()
            known.append(brought(params).identity(params.model_dump(mode="json")))
        assert known[0] != known[1] != known[2] != known[0]
    commit_of.cache_clear()
