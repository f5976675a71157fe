"""The end of a round, killed at each write to MLflow and done again: of a pod a stage, and within a fused round.

Run as a program with a folder that holds a registry without versions: it prints what it saw as JSON.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact
from mlflow import MlflowClient
from selfloop.artifacts import MANIFEST, manifest_of, read_json
from selfloop.lineage import tracking
from selfloop.lineage.registry import Registry
from selfloop.modes.fused import fused_stage
from selfloop.modes.inprocess import InProcess
from selfloop.recipe import find_recipe
from selfloop.settings import Settings
from selfloop.stages import executed_by

from ..test_promote import BETTER, RECIPE, closed, given
from .worker import kills, use

WRITES = [name for name in dir(MlflowClient) if name.startswith(("create_", "delete_", "log_", "set_", "update_"))]
EACH = [(step, True) for step in range(1, 100)]
"""Before each write, which is after the one before it."""
SOME = EACH[::6]
"""Enough of the two roles: of the same writes each is killed in the fused round, and those of roles in ``bundles``."""
DICE = find_recipe(str(Path(__file__).parents[1] / "modes" / "dice.py"))
ROUND = fused_stage(DICE, "round")


def elsewhere() -> Path:
    """Where nothing is yet, as in a pod that is started again."""
    return Path(tempfile.mkdtemp(dir=Path.cwd()))


def left(made: Any, proceed: bool) -> dict[str, Any]:
    """What a stage that ended a round has left."""
    places = {name: Path(each.path) for name, each in made._asdict().items() if name.startswith("new_")}
    digests = {name: manifest_of(place).digest for name, place in places.items() if (place / MANIFEST).exists()}
    return digests | {"proceed": proceed}


def close() -> dict[str, Any]:
    """Close the first round of a loop with two roles."""
    place = elsewhere()
    made = closed(place / "run", given(place / "given", **BETTER))
    return left(made, made.proceed) | {"verdict": read_json(made.decision.path)["verdict"]}


def started(place: Path) -> dict[str, Artifact]:
    """What the first round of a loop that throws dice begins with."""
    with executed_by(InProcess(place)):
        begun = fused_stage(DICE, "start")(DICE.run_params(DICE.resolve({})))
    return {name: getattr(begun, name) for name in ROUND.inputs}


def fused(state: dict[str, Artifact]) -> dict[str, Any]:
    """Do that round, in one pod."""
    with executed_by(InProcess(elsewhere())):
        made = ROUND(DICE.run_params(DICE.resolve({}).for_round(1)), **state)
    return left(made, made.proceed)


def seen(settings: Settings, place: Path) -> dict[str, Any]:
    """What a reader of the registry finds of the loop, once it is settled."""
    use(place)
    made, registry = tracking.client(), Registry(settings.loop)
    head = registry.settle()
    experiments = [each.experiment_id for each in made.search_experiments()]
    return {
        "head": head and head.version,
        "versions": [version.tag("verdict") for version in registry.versions().values()],
        "moves": [(move.kind, move.version) for move in registry.moves()],
        "rounds": len(made.search_runs(experiments, "tags.`mlflow.parentRunId` != ''")),
    }


if __name__ == "__main__":
    prepared = Path(sys.argv[2])
    if sys.argv[1] == "close":
        found = kills(prepared, close, partial(seen, RECIPE.resolve({})), WRITES, SOME)
    else:
        state = started(prepared.with_name("started"))
        found = kills(prepared, partial(fused, state), partial(seen, DICE.resolve({})), WRITES, EACH)
    print(json.dumps(found))
