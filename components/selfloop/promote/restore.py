"""``restore``: the beginning of a loop that continues from a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kfp.dsl import Artifact
from pydantic import Field

from selfloop.artifacts import hand_on
from selfloop.costs import Budget, ends, parsed
from selfloop.errors import UserError
from selfloop.report.history import read_moments
from selfloop.stages import Params, Stage, outputs_named

if TYPE_CHECKING:
    from selfloop.recipe import Recipe


class RestoreParams(Params):
    """Where a loop continues from."""

    origin: str = Field(
        description="A version as NAME/VERSION, or NAME/VERSION+LATER to take the loop's state from a later one."
    )
    environment: str = Field(description="The taskset; the version must have been trained on it.")
    budget: str = Field("", description="What the loop may spend in all, as tokens=1e9; a part of it may be spent.")


def restore_stage(recipe: Recipe[Any], state: Mapping[str, type[Artifact]]) -> Stage:
    """The stage that a loop of this recipe begins with when it continues from a version: what was carried then."""

    def function(out: Any, params: RestoreParams) -> None:
        from selfloop import lineage

        for name, artifact in lineage.carried_from(recipe, state, params.origin, params.environment).items():
            hand_on(artifact, getattr(out, name))
        why = ends(parsed(Budget, params.budget), read_moments(out.history.path))
        if why:
            raise UserError(f"The loop has no budget for another round: {why} Give it a larger one.")

    function.__doc__ = "Begin with the policies and the state that a version of the registry left."
    return Stage(
        name=f"restore_{recipe.identifier}",
        target=f"{recipe.target}.restore",
        function=function,
        params=RestoreParams,
        inputs={},
        out=outputs_named("Restored", state),
    )
