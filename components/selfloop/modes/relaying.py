"""``relay``: the last task of a pipeline that holds fewer rounds than were asked for.

It begins the next run of the same pipeline, which continues from where this one left the loop, and gives it the loop's
Lease. It comes only where another round is worth it and asked for: not after a halt, and not once the schedule is over.
Killed at any point, it is run again and comes to the same.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kfp.dsl import Artifact, Markdown
from pydantic import Field

from selfloop.artifacts import read_json
from selfloop.errors import UserError
from selfloop.recipe import load_recipe
from selfloop.stages import Params, Stage

ATTEMPTS = 40
"""Of each request: KFP may be away for some ten minutes without ending a loop of many hours."""
log = logging.getLogger(__name__)


class RelayParams(Params):
    """Who continues."""

    run: str = Field(description="The id of the KFP run.")


class Relayed(NamedTuple):
    """Where the loop continues."""

    continuation: Markdown


def _relay(out: Relayed, params: RelayParams, resolved: Artifact) -> None:
    """Begin the run that continues this one."""
    from selfloop.cluster import relay
    from selfloop.cluster.connection import RefusedError, connect

    about = read_json(resolved.path)
    recipe = load_recipe(about["recipe"])
    settings = recipe.resolve(about["settings"])
    try:
        continuation = relay.begin_next(replace(connect(), attempts=ATTEMPTS), params.run, settings.model)
    except RefusedError as error:
        why = str(error).rstrip(".")
        raise UserError(
            f"The rounds of run {params.run} are done, but the run that is to continue it was not begun ({why}): retry "
            f"this one in KFP, or continue with 'selfloop submit {recipe.name} --from {settings.loop}@champion'."
        ) from None
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        _pass_lease(settings.loop, params.run, continuation)
    Path(out.continuation.path).write_text(f"Run [{continuation}](#/runs/details/{continuation}) continues the loop.\n")


def _pass_lease(loop: str, run: str, continuation: str) -> None:
    """Let no other run of the loop come between two that follow each other."""
    from selfloop.cluster import lease

    try:
        lease.pass_on(loop, run, continuation)
    except UserError as error:
        log.warning("%s Run %s takes the Lease itself when it begins.", error, continuation)


relay = Stage(
    name="relay",
    target=f"{__name__}:relay",
    function=_relay,
    params=RelayParams,
    inputs={"resolved": Artifact},
    out=Relayed,
    effects=True,
)
