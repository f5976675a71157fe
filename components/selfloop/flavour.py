"""What lets MLflow load a policy by itself: ``mlflow.transformers.load_model("models:/NAME@champion")``.

Its flavour is a file, ``MLmodel``, in the policy's folder, and the tokenizer's files once more where MLflow looks for
them. Both say nothing of the moment: equal policies stay equal.
"""

from __future__ import annotations

import json
from pathlib import Path

from selfloop.links import link

FILE = "MLmodel"
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
    (directory / FILE).unlink(missing_ok=True)
    config, tokenizer = directory / "config.json", directory / "tokenizer_config.json"
    if not config.is_file() or not tokenizer.is_file():
        return
    kinds = json.loads(config.read_text()).get("architectures") or [""]
    if not kinds[0].endswith("ForCausalLM"):
        return
    flavour = {
        "code": None,
        "components": ["tokenizer"],
        "instance_type": "TextGenerationPipeline",
        "model_binary": ".",
        "pipeline_model_type": kinds[0],
        "task": "text-generation",
        "tokenizer_type": json.loads(tokenizer.read_text()).get("tokenizer_class") or "PreTrainedTokenizerFast",
    }
    (directory / TOKENIZER).mkdir(parents=True, exist_ok=True)
    for name in OF_TOKENIZER:
        (directory / TOKENIZER / name).unlink(missing_ok=True)
        if (directory / name).is_file():
            link(directory / name, directory / TOKENIZER / name)
    (directory / FILE).write_text(json.dumps({"flavors": {"transformers": flavour}}, indent=1))  # JSON is YAML
