"""Coins that are tossed: a loop without a model, so that a run of a claim takes a second.

``fate`` says what becomes of a run: it comes to a number, never does, is halted by a guard, dies, or fails as long as
there is no file ``coin``.
"""

import math
import os
import random
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kfp.dsl import Artifact
from pydantic import Field
from selfloop.artifacts import read_json, write_json
from selfloop.claims import Claims, Statement
from selfloop.errors import UserError
from selfloop.guards import Evidence, Guard, Reading
from selfloop.loop import Improved, Loop, LoopSettings, Now
from selfloop.promote import GateParams
from selfloop.propose import BaseParams
from selfloop.recipe import Recipe
from selfloop.stages import Params, stage


class TossParams(Params):
    """A coin."""

    inherits = frozenset({"seed"})

    bias: float = Field(0.5, ge=0, le=1, description="Chance of heads.")
    tosses: int = Field(200, ge=1, description="Tosses a round.")
    fate: Literal["counted", "never", "halted", "dies", "fails"] = Field(
        "counted", description="What becomes of the run."
    )
    fated: int = Field(0, ge=0, description="The seed that this befalls.")
    seed: int = Field(0, ge=0, description="Seed of the tosses.")

    @property
    def due(self) -> str:
        """What becomes of a run with this seed."""
        return self.fate if self.seed == self.fated else "counted"


class MintedCoin(NamedTuple):
    coin: Artifact
    tally: Artifact


@stage()
def mint_coin(out: MintedCoin, params: TossParams) -> None:
    """Make a coin that was never tossed."""
    write_json(out.coin.path, {"bias": params.bias})
    out.coin.metadata["fate"] = params.due
    write_json(out.tally.path, {"heads": 0, "tosses": 0})


class TossedCoin(NamedTuple):
    tally: Artifact


@stage()
def toss_coin(out: TossedCoin, params: TossParams, coin: Artifact, before: Artifact) -> None:
    """Toss the coin some more."""
    if params.due == "fails" and not Path("coin").exists():
        raise UserError("The coin rolled under the cupboard: fetch it.")
    if params.due == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    bias, tally, draw = read_json(coin.path)["bias"], read_json(before.path), random.Random(params.seed)
    heads = sum(draw.random() < bias for _ in range(params.tosses))
    write_json(out.tally.path, {"heads": tally["heads"] + heads, "tosses": tally["tosses"] + params.tosses})


class OnEdge(Guard, warn=1.0, halt=1.0):
    """Coins that do not fall."""

    name = "coin"
    look = "the table"

    def __call__(self, evidence: Evidence) -> Reading:
        """Whether the coin stands on its edge."""
        stands = evidence.candidate["fate"] == "halted"
        return Reading(float(stands), "it stands on its edge" if stands else "it lies flat")


class Coins(LoopSettings, rounds=2, schedule="none", gate=GateParams(guards=[OnEdge()])):
    base: BaseParams = BaseParams(levels=1, per_level=1, held_out_per_level=1)
    toss: TossParams = TossParams()


class State(NamedTuple):
    coin: Artifact
    tally: Artifact


class WithoutModel(Loop):
    """A loop that begins with no policy."""

    def policy(self, s: Any, base: Any) -> Any:
        """None."""
        return None


def start(s: Coins, policy: None) -> State:
    return State(*mint_coin(s.toss))


def improve(s: Coins, now: Now) -> Improved:
    coin, tally = now.state
    return Improved(State(coin, toss_coin(s.toss, coin=coin, before=tally).tally))


def figures(s: Coins, rounds: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, float]:
    tally = rounds[-1]["state"]["tally"]
    return {"heads": tally["heads"] / tally["tosses"], "tosses": math.nan if s.toss.due == "never" else tally["tosses"]}


claims = Claims(
    arms={"loaded": {"toss": {"bias": 0.9}}, "fair": {}, "unused": {}},
    setups={"short": {}, "long": {"toss": {"tosses": 400}}},
    settings={"toss": {"fated": 3}},
    tuning=(100, 101),
    seeds=(1, 2, 3, 4, 5),
    statements=(
        Statement("A loaded coin shows heads more often.", "heads", "loaded", ("fair",), setups=("short",)),
        Statement("A fair coin shows it more often.", "heads", "fair", ("loaded",), setups=("short",)),
        Statement("A fair coin is fair to a hair.", "heads", "fair", within=(0.48, 0.52)),
        Statement("A fair coin is fair.", "heads", "fair", within=(0.4, 0.6)),
        Statement(
            "A loaded coin shows tails, too.",
            "heads",
            "loaded",
            ("fair",),
            better="same",
            setups=("short",),
            margin=0.6,
            bounds=(0, 1),
        ),
    ),
)
recipe = Recipe(
    "coins",
    Coins,
    State,
    start,
    improve,
    roles=("coin",),
    frame=WithoutModel,
    figures=figures,
    claims=claims,
)
