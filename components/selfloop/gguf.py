"""Policies in GGUF, the format of llama.cpp: one file, mostly quantized. transformers unpacks it into a plain policy.

A source is ``gguf:PATH``, ``gguf:package/file.gguf`` for a file that an installed package brings along, or
``owner/name#file.gguf`` for one of a repository on the Hub. What is unpacked is an ordinary policy in float32, with the
tokenizer and the chat template of the file: it is trained, registered and served as any other.
"""

from __future__ import annotations

import re
from contextlib import redirect_stderr, suppress
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from selfloop.errors import UserError, needing
from selfloop.trust import reading

PREFIX = "gguf:"
"""What a source begins with that is a file on this machine."""
MAGIC = b"GGUF"
ON_HUB = re.compile(r"(\w[\w.-]*/\w[\w.-]*)#(\w[\w./-]*\.gguf)", re.ASCII)


def is_gguf(source: str) -> bool:
    """Whether a source names a GGUF file, here or on the Hub."""
    return source.startswith(PREFIX) or ON_HUB.fullmatch(source) is not None


def place_of(source: str) -> Path:
    """Where a source's file lies on this machine, if it is there: at its path, or in the package that it names."""
    path = Path(source.removeprefix(PREFIX)).expanduser()
    package, *inner = path.parts or [""]
    if path.exists() or not inner or not package.isidentifier():
        return path
    found = None
    with suppress(ImportError, ValueError):  # of a module that came from nowhere, as __main__ may
        found = find_spec(package)
    places = (found and found.submodule_search_locations) or []
    return next((file for place in places if (file := Path(place, *inner)).is_file()), path)


def check_file(file: Path) -> None:
    """Refuse what is not there, or is no GGUF file by its first bytes."""
    if not file.is_file():
        raise UserError(f"There is no file {file}: give the path of a GGUF file, or install the package that it is in.")
    with file.open("rb") as content:
        if content.read(len(MAGIC)) != MAGIC:
            raise UserError(f"{file} is no GGUF file: give one, or a policy in safetensors by its directory.")


def fetch(source: str, target: Path) -> None:
    """Unpack the GGUF file that a source names into a policy of its own: weights, configuration and tokenizer.

    Raises ``UserError`` where the file is not there, is cut off, or is of a kind that transformers cannot read.
    """
    found = ON_HUB.fullmatch(source)
    if found:
        from huggingface_hub import hf_hub_download

        unpack(Path(hf_hub_download(found[1], found[2])), target)
    else:
        unpack(place_of(source), target)


def unpack(file: Path, target: Path) -> None:
    """Write the policy in a GGUF file to a directory, its weights as float32."""
    check_file(file)
    with needing("A policy in GGUF", "gguf"):
        import gguf  # noqa: F401 (transformers reads the file with it)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
        from transformers.utils.logging import disable_progress_bar

        from selfloop.policy import Policy, loading, save

    disable_progress_bar()
    named = {"gguf_file": "policy.gguf"}
    with TemporaryDirectory() as alone, loading(file):  # a configuration that lies beside the file is not the file's
        Path(alone, "policy.gguf").symlink_to(file.resolve())
        try:
            with redirect_stderr(StringIO()):  # it draws a progress bar that nothing turns off
                model = AutoModelForCausalLM.from_pretrained(
                    alone,
                    dtype=torch.float32,
                    quantization_config=GgufConfig(dequantize=True),
                    **named,
                    **reading(alone),
                )
        except Exception:  # whatever it is that a reader raises that reads beyond the end
            _check_whole(file)
            raise
        tokenizer = AutoTokenizer.from_pretrained(alone, **named, **reading(alone))
        save(Policy(model, tokenizer), target)


def _check_whole(file: Path) -> None:
    from gguf import GGUFReader

    try:
        GGUFReader(file)  # maps every tensor, and so finds that one is not there
    except Exception as error:
        raise UserError(f"{file} is cut off or damaged ({str(error).rstrip('.')}): copy it again.") from None
