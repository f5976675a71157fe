"""What a policy's chat template is told when the policy is fetched."""

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from kfp.dsl import Model
from safetensors.torch import load_file, save_file
from selfloop import policy
from selfloop.chats import message, rendered
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, fetch_policy
from selfloop.policy import load

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy of a policy, to change."""
    return shutil.copytree(trained, tmp_path / "policy", ignore=shutil.ignore_patterns("manifest.json", "sidecar.json"))


def fetched(source: Path | str, place: Path, **params: Any) -> "PreTrainedTokenizerBase":
    """The tokenizer of a policy that was fetched."""
    given = FetchParams.model_validate({"source": str(source)} | params)
    fetch_policy.into(fetch_policy.out(policy=Model(uri=str(place))), given)
    return load(place).tokenizer


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_a_policy_with_a_weight_that_is_no_number_is_not_fetched(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(policy, "PIECE_BYTES", 64)
    weights = load_file(place / "model.safetensors")
    name = max(weights, key=lambda each: weights[each].numel())
    largest = weights[name].abs().max() + 1
    weights = {each: (weight / largest).to(getattr(torch, kind)) for each, weight in weights.items()}
    weights["counts"] = torch.full((3,), -1)
    save_file(weights, place / "model.safetensors")
    policy.check_weights(place)
    for value in (math.nan, -math.nan) if kind.endswith("fn") else (math.nan, math.inf, -math.inf):
        flat = weights[name].flatten()
        flat[-1] = value
        save_file(weights | {name: flat.reshape(weights[name].shape)}, place / "model.safetensors")
        with pytest.raises(UserError, match=rf"The weights {name} in .*model.safetensors are not finite"):
            fetched(place, tmp_path / f"fetched {value}")


THINKING = "{% if enable_thinking is defined and not enable_thinking %}-{% endif %}"


@pytest.mark.parametrize("inline", [True, False], ids=["in the configuration", "in a file"])
def test_a_template_is_told_its_system_message_and_arguments_once(place: Path, tmp_path: Path, inline: bool) -> None:
    template = THINKING + "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
    if inline:
        config = json.loads((place / "tokenizer_config.json").read_text())
        (place / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    else:
        (place / "chat_template.jinja").write_text(template)
    system = 'Say "1\n2" # {# end #} %} é😀'
    told = fetched(place, tmp_path / "told", system=system, template=["enable_thinking=false"])
    assert rendered(told, [[message("user", "1+2=")]]) == [f"-s:{system};u:1+2=;"]
    other = fetched(tmp_path / "told", tmp_path / "other", system="7", template=["a=b", "enable_thinking=true"])
    assert rendered(other, [[message("user", "1+2=")]]) == ["s:7;u:1+2=;"]
    kept = fetched(tmp_path / "other", tmp_path / "kept")
    assert kept.chat_template == other.chat_template


def test_what_cannot_be_told_is_refused(place: Path, tmp_path: Path) -> None:
    for told in ({"system": "7"}, {"template": ["a=1"]}):
        with pytest.raises(UserError, match="has no chat template that 'system' and 'template' could be given to"):
            fetched(place, tmp_path / "none", **told)
    for text in ("enable_thinking", "1=2", "a=[1]", "a b=1"):
        with pytest.raises(ValueError, match="an argument of a chat template is"):
            FetchParams(template=[text])
