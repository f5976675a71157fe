"""One recipe, three modes, equal digests."""

from pathlib import Path
from typing import Any

import pytest
from selfloop.artifacts import manifest_of
from selfloop.modes.compiling import run_locally
from selfloop.modes.inprocess import run
from selfloop.recipe import find_recipe
from selfloop.report.history import read_moments

from ..conftest import digests

pytestmark = pytest.mark.slow

PODS_ONLY = {f"{part}_length_generalization" for part in ("resolve", "start", "round")}
IN_PROCESS_ONLY = {"measure_policy"}


@pytest.fixture(scope="module")
def in_process(finished_run: Path) -> dict[tuple[str, str], list[str]]:
    return {key: value for key, value in digests(finished_run).items() if key[0] not in IN_PROCESS_ONLY}


@pytest.mark.parametrize("fused", [False, True], ids=["kfp", "fused"])
def test_every_table_and_policy_is_the_same_in_every_mode(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    small: dict[str, Any],
    in_process: dict[tuple[str, str], list[str]],
    fused: bool,
) -> None:
    if not fused:  # the fused run's tasks are started as KFP starts them
        request.getfixturevalue("tasks_forked")
    recipe = find_recipe("length-generalization")
    run_locally(recipe, recipe.resolve(small), tmp_path / "kfp", fused)
    made = {key: value for key, value in digests(tmp_path).items() if key[0] not in PODS_ONLY}
    assert {key: made.get(key) for key in in_process} == in_process
    pages = {path.name for path in (tmp_path / "kfp").rglob("*") if path.is_file()}
    assert {"report", "sampled", "metrics"} <= pages, "what the run's page shows"
    # a fused part also hands on what it was given, under the names that it goes by there
    assert {digest for values in made.values() for digest in values} == {d for v in in_process.values() for d in v}


@pytest.mark.usefixtures("tasks_forked")
def test_policies_go_through_the_store_where_there_is_one(
    tmp_path: Path,
    small: dict[str, Any],
    in_process: dict[tuple[str, str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SELFLOOP_STORE", str(tmp_path / "store"))
    recipe = find_recipe("length-generalization")
    run_locally(recipe, recipe.resolve(small), tmp_path / "kfp")
    assert not list((tmp_path / "kfp").rglob("*.safetensors")), "KFP carried references only"
    policies = {key for key in in_process if key[1] in ("policy", "candidate", "new_champion")}
    sent = {manifest_of(path.parent).digest for path in (tmp_path / "store").glob("*/manifest.json")}
    assert sent == {digest for key in policies for digest in in_process[key]}
    tables = {key: value for key, value in in_process.items() if key not in policies}
    assert {key: digests(tmp_path / "kfp").get(key) for key in tables} == tables


@pytest.mark.usefixtures("tasks_forked")
@pytest.mark.parametrize(
    ("fused", "rule"),
    [(False, {"schedule": {"target": 2}}), (True, {"budget": "tokens=1"})],
    ids=["kfp, by the schedule", "fused, by the budget"],
)
def test_rounds_stop_when_the_stop_rule_says_so(
    tmp_path: Path, small: dict[str, Any], fused: bool, rule: dict[str, Any]
) -> None:
    recipe = find_recipe("length-generalization")
    settings = recipe.resolve(small, rule, {"rounds": 3, "pretrain": {"steps": 2, "decay_steps": 1}})
    last, _ = run(recipe, settings, tmp_path / "here")
    assert last.proceed is False
    assert {path.name for path in (tmp_path / "here").glob("round-*")} == {"round-00", "round-01"}
    run_locally(recipe, settings, tmp_path / "kfp", fused)
    of_rounds = [key for key in digests(tmp_path / "kfp") if key[0] == "finetune_policy" and key[1] == "candidate"]
    assert of_rounds == [("finetune_policy", "candidate")]
    assert len(digests(tmp_path / "kfp")[of_rounds[0]]) == 1
    [left] = {path.parent for path in (tmp_path / "kfp").rglob("*new_history/rounds-000000-000001.json")}
    assert spent_on(left) == spent_on(Path(last.history.path)), "counted alike, wherever the stages ran"
    assert bool(read_moments(left)[-1]["ends"]) is ("budget" in rule)


def spent_on(history: Path) -> list[tuple[Any, ...]]:
    """What is known of each call of a stage, but for what is of the moment."""
    return [
        (moment["round"], call["stage"], call["drawn"], call["trained"])
        for moment in read_moments(history)
        for call in sorted(moment["stages"], key=lambda call: str(call["stage"]))
    ]
