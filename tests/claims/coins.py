"""Coins that are tossed: a loop without a model, so that a run of a claim takes a second.

``fate`` says what becomes of a run: it comes to a number, never does, is halted by a guard, dies, or fails as long as
there is no file ``coin``.
"""

import os
import random
import signal
from pathlib import Path
from typing import Literal, NamedTuple

from kfp.dsl import Artifact, Model
from pydantic import Field
from selfloop.artifacts import read_json, write_json
from selfloop.claims import Claims, Statement
from selfloop.errors import UserError
from selfloop.recipe import Recipe
from selfloop.settings import Settings, compile_time
from selfloop.stage import Params, stage


class TossParams(Params):
    """A coin."""

    bias: float = Field(0.5, ge=0, le=1, description="Chance of heads.")
    tosses: int = Field(200, ge=1, description="Tosses a round.")
    fate: Literal["counted", "never", "halted", "dies", "fails"] = Field(
        "counted", description="What becomes of the run."
    )
    fated: int = Field(0, ge=0, description="The seed that this befalls.")
    seed: int = Field(0, ge=0, description="Seed of the tosses.")


class NoCoins(NamedTuple):
    coins: Model


@stage()
def toss_none(out: NoCoins, params: TossParams) -> None:
    """Begin with no toss."""
    write_json(out.coins.path, {"heads": 0, "tosses": 0})


class TossedCoins(NamedTuple):
    more: Model
    decision: Artifact


@stage()
def toss_coins(out: TossedCoins, params: TossParams, coins: Model) -> None:
    """Toss some more coins."""
    fate = params.fate if params.seed == params.fated else "counted"
    if fate == "fails" and not Path("coin").exists():
        raise UserError("The coin rolled under the cupboard: fetch it.")
    if fate == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    before, draw = read_json(coins.path), random.Random(params.seed)
    heads = sum(draw.random() < params.bias for _ in range(params.tosses))
    write_json(out.more.path, {"heads": before["heads"] + heads, "tosses": before["tosses"] + params.tosses})
    halted = fate == "halted"
    verdict = {"verdict": "halted" if halted else "promoted", "promoted": not halted, "reason": "Guard coin is red"}
    write_json(out.decision.path, verdict)


class Coins(Settings):
    rounds: int = compile_time(2, ge=1, description="Rounds at most.")
    toss: TossParams = TossParams()


class Turn(NamedTuple):
    champion: Model
    goes_on: bool


def start(s: Coins) -> Turn:
    return Turn(toss_none(s.toss).coins, goes_on=True)


def round(s: Coins, last: Turn) -> tuple[Turn, Artifact]:
    tossed = toss_coins(s.toss, coins=last.champion)
    return Turn(tossed.more, goes_on=True), tossed.decision


def finish(s: Coins, last: Turn) -> dict[str, float]:
    told = read_json(last.champion.path)
    never = s.toss.seed == s.toss.fated and s.toss.fate == "never"
    return {"heads": told["heads"] / told["tosses"], "tosses": float("nan") if never else told["tosses"]}


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
    ),
)
recipe = Recipe("coins", Coins, start, round, Turn, finish=finish, claims=claims)
