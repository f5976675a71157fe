"""A champion that MLflow loads by itself, without selfloop."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from kfp.dsl import Model
from mlflow import MlflowClient
from selfloop.artifacts import manifest_of
from selfloop.environments import find_environment
from selfloop.fetch import FetchParams, fetch_policy
from selfloop.flavour import EXAMPLE, FILE, describe
from selfloop.records import Task
from selfloop.split import trains

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
    for version in ("1", "2"):
        uri = f"models:/{LOOP}/{version}"
        example = mlflow.models.Model.load(uri).load_input_example(uri)
        assert trains(find_environment("addition"), Task("t", 1, "target", example, ""))
        assert pipeline(example, max_new_tokens=2)[0]["generated_text"].startswith(example)
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


def test_a_policy_from_outside_shows_a_prompt_of_the_environment_and_a_chat_where_it_chats(
    trained: Path, tmp_path: Path
) -> None:
    def fetched(name: str, source: str, **given: str) -> tuple[str, Any]:
        made = fetch_policy.out(policy=Model(uri=str(tmp_path / name)))
        fetch_policy.into(made, FetchParams(source=source, **given))
        about = mlflow.models.Model.load(made.policy.path)
        assert bool(about.saved_input_example_info) == (tmp_path / name / EXAMPLE).is_file()
        return manifest_of(made.policy.path).digest, about.load_input_example(made.policy.path)

    added = fetched("added", str(trained), environment="addition")
    assert trains(find_environment("addition"), Task("t", 1, "target", added[1], ""))
    assert fetched("again", str(tmp_path / "added"), environment="addition") == added
    assert fetched("kept", str(tmp_path / "added")) == added, "it comes with the policy"
    assert fetched("other", str(tmp_path / "added"), environment="reverse")[1] != added[1]
    (tmp_path / "again" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    _, chat = fetched("chat", str(tmp_path / "again"), environment="addition")
    assert chat == [{"role": "user", "content": added[1]}]
    pipeline = mlflow.transformers.load_model(str(tmp_path / "chat"))
    assert pipeline(chat, max_new_tokens=2)[0]["generated_text"][0] == chat[0]
