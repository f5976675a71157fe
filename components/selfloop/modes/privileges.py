"""What the pods of a run may do that those of others may not, known when a pipeline is compiled.

A pod says so by a label, which the admission policies of ``manifests/base/sandbox`` read: one in which generated code
may run gets the seccomp profile that lets the sandbox work, and asks for none otherwise; one whose training spans nodes
keeps the account of the run, which may start TrainJobs. All others that load a policy have an account without rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.settings import Settings
from selfloop.stages import Stage
from selfloop.strategies import Strategy

GENERATED_CODE, NODES = "selfloop/generated-code", "selfloop/nodes"
SANDBOXED = ("generate", "finetune", "rl", "sandbox")
"""The images in which programs can be kept apart."""
DEEDS = {GENERATED_CODE: "run generated code", NODES: "train across nodes"}


def privileges(settings: Settings) -> frozenset[str]:
    """The labels of a loop's pods: what its environments, strategies and trainings ask for."""
    of_round = settings.for_round(settings.first)
    parts = [of_round, *(getattr(of_round, name) for name in settings.stages())]
    environments = {part.environment for part in parts if "environment" in type(part).model_fields}
    runs_code = any(find_environment(name).runs_code for name in environments)
    runs_code |= any(strategy.runs_code for strategy in _strategies(of_round))
    spans_nodes = any(getattr(part, "nodes", 1) > 1 for part in parts)
    return frozenset(name for name, is_asked in ((GENERATED_CODE, runs_code), (NODES, spans_nodes)) if is_asked)


def _strategies(value: Any) -> Iterator[Strategy]:
    """The strategies in a value, also those that are parameters of others."""
    if isinstance(value, Strategy):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _strategies(getattr(value, name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strategies(each)


def labels(stage: Stage, asked: Iterable[str]) -> dict[str, str]:
    """Those of a run's privileges that the pod of a stage asks for, as its labels."""
    trains = "nodes" in stage.params.model_fields or stage.verb == "round"
    of_stage = {GENERATED_CODE: stage.image in SANDBOXED, NODES: trains}
    return {name: "asked" for name in sorted(asked) if of_stage[name]}


def check(settings: Settings, compiled: Settings) -> None:
    """Refuse settings for which the pods that were compiled lack a privilege. Raises ``UserError``: one sentence."""
    lacking = sorted(privileges(settings) - privileges(compiled))
    if lacking:
        deeds = " and ".join(DEEDS[name] for name in lacking)
        raise UserError(
            f"These settings {deeds}, which the pods of this pipeline were not compiled for: compile another pipeline "
            "with them."
        )
