"""A loop with several policies: one bundle, a registered model for each role, moved together."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop import lineage
from selfloop.errors import UserError
from selfloop.lineage.decisions import promote, rollback
from selfloop.lineage.registry import Registry
from selfloop.lineage.retention import plan
from selfloop.lineage.rounds import find_origin
from selfloop.lineage.tree import tree
from selfloop.modes.inprocess import run
from selfloop.recipe import find_recipe
from selfloop.report.history import read_history

pytestmark = pytest.mark.slow


@pytest.fixture
def small_pair(small: dict[str, Any]) -> dict[str, Any]:
    """The small configuration, of the stages that this loop has."""
    without = {name: value for name, value in small.items() if name != "measure"}
    return without | {"other": {**small["pretrain"], "seed": 99}}


def test_the_versions_of_a_bundle_move_together(
    client: MlflowClient, small_pair: dict[str, Any], tmp_path: Path
) -> None:
    recipe = find_recipe(str(Path(__file__).with_name("two_roles.py")))
    settings = recipe.resolve(small_pair)
    with lineage.tracked_run("pair", settings.overrides(), tmp_path / "note", tmp_path / "mlflow"):
        state, _ = run(recipe, settings, tmp_path / "run")
    pair, solver, proposer = Registry("pair"), Registry("pair.solver"), Registry("pair.proposer")
    assert [len(each.versions()) for each in (pair, solver, proposer)] == [3, 3, 3]
    last = pair.find("champion")
    assert json.loads(last.tag("roles")) == {"solver": 3, "proposer": 3}
    digests = [state.solver.metadata["digest"], state.proposer.metadata["digest"]]
    assert digests[0] != digests[1]
    assert last.tag("digests").split(",") == digests
    assert [each.find("champion").tag("digest") for each in (solver, proposer)] == digests

    rounds = read_history(state.history.path)["rounds"]
    reported = [[(told["role"], told["before"], told["after"], told["steps"]) for told in r["roles"]] for r in rounds]
    versions = [version.tag("digests").split(",") for version in pair.versions().values()]
    assert reported == [
        [(role, *of, 5) for role, of in zip(("solver", "proposer"), zip(*both, strict=True), strict=True)]
        for both in pairwise(versions)
    ]
    lanes = [[(lane.role, lane.digest, lane.origin) for lane in bundle.lanes] for bundle in tree(pair).bundles]
    assert lanes[1:] == [[(role, after, before) for role, before, after, _ in each] for each in reported]
    assert lanes[0] == [("solver", versions[0][0], ""), ("proposer", versions[0][1], "")]

    for command in (lambda: promote("pair.solver", "1", "x"), lambda: plan("pair.solver", 0)):
        with pytest.raises(UserError, match=r"pair\.solver is one role of pair, whose roles go together"):
            command()
    rollback("pair", None, "for the test")
    assert [each.aliases()["champion"] for each in (pair, solver, proposer)] == [2, 2, 2]

    _, origin, first = find_origin("pair@champion")
    assert (origin, first) == ("pair/2", 2)
    again = recipe.resolve(small_pair, {"origin": origin, "first": first, "rounds": 1})
    with lineage.tracked_run("again", again.overrides(), tmp_path / "note2", tmp_path / "mlflow"):
        forked, _ = run(recipe, again, tmp_path / "again")
    assert forked.solver.metadata["digest"] == digests[0]
    assert forked.proposer.metadata["digest"] == digests[1]
    assert pair.find("champion").parent == 2
