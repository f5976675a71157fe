"""What lets MLflow load a policy by itself: ``mlflow.transformers.load_model("models:/NAME@champion")``.

Its flavour is a file, ``MLmodel``, in the policy's folder; an input example, where the policy's configuration has one;
and the tokenizer's files once more, since MLflow looks for them in a folder of a fixed name and nowhere else. They say
nothing of the moment: equal policies stay equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfloop.links import link

FILE = "MLmodel"
EXAMPLE = "input_example.json"
"""What MLflow shows as an input: a prompt, or a chat of this one message where the policy has a chat template."""
PROMPT = "input_example"
"""The entry of a policy's configuration with that prompt: whoever trains and saves the policy hands it on."""
TOKENIZER = Path("components", "tokenizer")
"""Where MLflow looks for the tokenizer."""
OF_TOKENIZER = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def describe(directory: Path) -> None:
    """Let MLflow load the policy in a folder. An adapter, and what writes no text, it cannot load so.

    A file of this name that came with a policy from outside goes: it may ask MLflow to run code.
    """
    for name in (FILE, EXAMPLE):
        (directory / name).unlink(missing_ok=True)
    config, tokenizer = directory / "config.json", directory / "tokenizer_config.json"
    if not config.is_file() or not tokenizer.is_file():
        return
    model, texts = json.loads(config.read_text()), json.loads(tokenizer.read_text())
    kinds = model.get("architectures") or [""]
    if not kinds[0].endswith("ForCausalLM"):
        return
    flavour = {
        "code": None,
        "components": ["tokenizer"],
        "instance_type": "TextGenerationPipeline",
        "model_binary": ".",
        "pipeline_model_type": kinds[0],
        "task": "text-generation",
        "tokenizer_type": texts.get("tokenizer_class") or "PreTrainedTokenizerFast",
    }
    described: dict[str, Any] = {"flavors": {"transformers": flavour}}
    (directory / TOKENIZER).mkdir(parents=True, exist_ok=True)
    for name in OF_TOKENIZER:
        (directory / TOKENIZER / name).unlink(missing_ok=True)
        if (directory / name).is_file():
            link(directory / name, directory / TOKENIZER / name)
    if prompt := model.get(PROMPT):
        chats = "chat_template" in texts or (directory / "chat_template.jinja").is_file()
        (directory / EXAMPLE).write_text(json.dumps([{"role": "user", "content": prompt}] if chats else prompt))
        described["saved_input_example_info"] = {"artifact_path": EXAMPLE, "type": "json_object"}
    (directory / FILE).write_text(json.dumps(described, indent=1))  # JSON is YAML
