"""``promote``: the end of a round. Its candidates come in force, or the last policies stay, as the gate decided; the
lineage remembers either. ``restore``: the beginning of a loop that goes on from a version.

Both are read off a recipe, because the artifacts that go from round to round are the recipe's own.
"""

from __future__ import annotations

import typing
from typing import Any

from kfp.dsl import Artifact, Metrics
from pydantic import Field

from selfloop.artifacts import hand_on, manifest_of, read_json
from selfloop.errors import HaltedError
from selfloop.recipe import RunParams
from selfloop.resources import Resources
from selfloop.stage import Params, Stage, outputs_named

if typing.TYPE_CHECKING:
    from selfloop.recipe import Recipe


class RestoreParams(Params):
    """Where a loop goes on from."""

    origin: str = Field(
        description="A version as NAME/VERSION, or NAME/VERSION+LATER to take the loop's state from a later one."
    )
    environment: str = Field(description="The taskset; the version must have been trained on it.")


def promote_stage(recipe: Recipe[Any]) -> Stage:
    """The stage that ends a round of a recipe; it fails where a guard halted the loop, after this was recorded."""

    def function(out: Any, params: RunParams, **given: Any) -> None:
        from selfloop import lineage, notifications

        decision, settings = read_json(given["decision"].path), recipe.settings_of(params)
        for name, value in lineage.measured(decision).items():
            out.metrics.log_metric(name, value)
        if lineage.is_on():
            carried = lineage.record_round(recipe, settings, given, decision)
        else:
            carried = lineage.as_decided(recipe, given, decision["promoted"])
        candidates = [manifest_of(given[f"next_{role}"].path).digest for role in recipe.roles]
        notifications.tell(settings.model, settings.number, candidates, decision)
        if decision.get("verdict") == "halted":
            raise HaltedError.because(decision["reason"])
        for name, artifact in carried.items():
            hand_on(artifact, getattr(out, f"new_{name}"))

    function.__doc__ = "Put the candidates in force or keep the last policies, as decided; the lineage remembers both."
    both = _prefixed("", recipe.state) | _prefixed("next_", recipe.state)
    return Stage(
        name=f"promote_{_identifier(recipe)}",
        target=f"{recipe.target}.promote",
        function=function,
        params=RunParams,
        inputs={"decision": Artifact} | both,
        out=outputs_named("Promoted", _prefixed("new_", recipe.state) | {"metrics": Metrics}),
        effects=True,
        resources=Resources(retries=0),  # what a guard halted stays halted
    )


def restore_stage(recipe: Recipe[Any]) -> Stage:
    """The stage that a loop begins with when it goes on from a version: what was carried then."""

    def function(out: Any, params: RestoreParams) -> None:
        from selfloop import lineage

        for name, artifact in lineage.carried_from(recipe, params.origin, params.environment).items():
            hand_on(artifact, getattr(out, f"next_{name}"))

    function.__doc__ = "Begin with the policies and the state that a version of the registry left."
    return Stage(
        name=f"restore_{_identifier(recipe)}",
        target=f"{recipe.target}.restore",
        function=function,
        params=RestoreParams,
        inputs={},
        out=outputs_named("Restored", _prefixed("next_", recipe.state)),
    )


def _prefixed(prefix: str, kinds: dict[str, type[Artifact]]) -> dict[str, type[Artifact]]:
    return {f"{prefix}{name}": kind for name, kind in kinds.items()}


def _identifier(recipe: Recipe[Any]) -> str:
    return recipe.name.replace("-", "_")
