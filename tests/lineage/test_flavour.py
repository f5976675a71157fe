"""A champion that MLflow loads by itself, without selfloop."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from selfloop.artifacts import manifest_of
from selfloop.flavour import FILE, describe

from ..conftest import tracked_run

pytestmark = pytest.mark.slow
LOOP = "length-generalization-addition"


def test_a_champion_is_loaded_from_the_registry_and_described_there(
    client: MlflowClient, small: dict[str, Any], tmp_path: Path
) -> None:
    quick = {"rounds": 1, "pretrain": {"steps": 2, "decay_steps": 1}}
    last = tracked_run("length-generalization", small, tmp_path / "a", quick)
    pipeline = mlflow.transformers.load_model(f"models:/{LOOP}@champion")
    champion = Path(last.champion.path)
    assert pipeline.model.num_parameters() > 0
    assert pipeline.tokenizer("12+34=")["input_ids"]
    assert pipeline("1+2=", max_new_tokens=2)[0]["generated_text"].startswith("1+2=")
    version = client.get_model_version(LOOP, "2")
    assert version.description.startswith("Round 1: ")
    assert "Length generalization" in version.description
    assert "/artifacts/report/report.html)" in version.description
    assert "An input of its tasks: `" in version.description
    before = manifest_of(champion).digest
    describe(champion)
    assert manifest_of(champion).digest == before
    (champion / FILE).write_text("flavors: {python_function: {loader_module: theirs}}")
    describe(champion)
    assert "theirs" not in (champion / FILE).read_text(), "what came from outside asks MLflow for nothing"
