"""A registry on a sqlite file of its own, with a store beside it."""

from pathlib import Path

import pytest
from kfp.dsl import Model
from mlflow import MlflowClient
from selfloop.artifacts import seal, write_json
from selfloop.lineage import record
from selfloop.lineage.registry import Registry


@pytest.fixture
def registry(client: MlflowClient, tmp_path: Path) -> Registry:
    """A loop with five versions, the third of which came in force after the first."""
    made = Registry("adder")
    write_json(tmp_path / "policy", "weights")
    seal(tmp_path / "policy", "Model")
    roles = record.kept({"champion": Model(uri=str(tmp_path / "policy"))})
    known = record.write(record.Record(recipe="a:recipe", settings={}, round=0, seed=0, roles=roles))
    for number in range(1, 6):
        tags = {"digests": f"d{number}", "verdict": "start" if number == 1 else "rejected", "round": str(number - 1)}
        tags["record"] = known
        made.register(f"run:{number}", f"/nowhere/{number}", "", tags, "")
    made.move(1, "start", "the loop began", None)
    made.move(3, "promote", "better", made.settle())
    return made
