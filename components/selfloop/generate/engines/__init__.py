"""Engines: what decodes. One small interface, made for continuous batching; which engine runs changes no recipe."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from selfloop.adapters import parts
from selfloop.errors import UserError
from selfloop.generate.engines.contract import Completion, Engine, EngineName, Form, Request, Sampling, Score, cut
from selfloop.policy import device, load

if TYPE_CHECKING:
    from selfloop.generate.params import DecodingParams

__all__ = [
    "Completion",
    "Engine",
    "EngineName",
    "Form",
    "Request",
    "Sampling",
    "Score",
    "check_vllm",
    "cut",
    "give_back",
    "has_vllm",
    "open_engine",
]


def open_engine(params: DecodingParams, directory: str | Path, digest: str) -> Engine:
    """The engine that ``params`` ask for, with the policy of a directory.

    Raises ``UserError`` where that engine is not installed, or cannot run this policy.
    """
    found = parts(directory)
    restarts = "position_restarts" in json.loads((found.base / "config.json").read_text())
    if params.engine == "vllm":
        if restarts:
            raise UserError(
                f"The policy in {directory} restarts its position ids (position_restarts), which vLLM cannot do: "
                "use the engine 'transformers'."
            )
        check_vllm()
    if params.engine == "vllm" or (params.engine == "auto" and not restarts and has_vllm() and device() != "cpu"):
        from selfloop.generate.engines.vllm import open_vllm

        return open_vllm(params, found)
    from selfloop.generate.engines.transformers import Transformers

    return Transformers(load(directory, digest), params.batch_size)


def check_vllm() -> None:
    """Refuse an engine that is not installed."""
    if not has_vllm():
        raise UserError("The engine 'vllm' is not installed here: install vLLM, or use the engine 'transformers'.")


def give_back() -> None:
    """Let vLLM, where this process has it open, give back the memory that it holds: training needs it."""
    module = sys.modules.get("selfloop.generate.engines.vllm")
    if module is not None:
        module.close()


def has_vllm() -> bool:
    """Whether vLLM is installed."""
    return importlib.util.find_spec("vllm") is not None
