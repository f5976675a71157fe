"""A loop that throws dice in calls that differ in their stream alone, and adds up a list of what they threw."""

import random
from typing import NamedTuple

from kfp.dsl import Artifact, Model
from pydantic import Field
from selfloop.artifacts import read_json, write_json
from selfloop.recipe import Recipe, Settings, structural
from selfloop.seeds import STREAM, seed_for
from selfloop.stage import Params, stage


class ThrowParams(Params):
    """Dice."""

    number: int = Field(20, ge=1, description="Dice of a throw.")
    seed: int = Field(0, ge=0, description="Seed of the throw.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")


class Throw(NamedTuple):
    dice: Artifact


@stage()
def throw_dice(out: Throw, params: ThrowParams, champion: Model) -> None:
    """Throw the dice."""
    draw = random.Random(seed_for(params, params.round))
    write_json(out.dice.path, [draw.randint(1, 6) for _ in range(params.number)])


class Total(NamedTuple):
    champion: Model
    decision: Artifact


@stage()
def add_up(out: Total, params: Params, champion: Model, throws: list[Artifact]) -> None:
    """Put the throws behind all that was thrown before, in their order."""
    write_json(out.champion.path, [*read_json(champion.path), *(read_json(throw.path) for throw in throws)])
    write_json(out.decision.path, {"verdict": "promoted", "promoted": True, "reason": "More was thrown."})


class Table(NamedTuple):
    champion: Model


@stage()
def clear_table(out: Table, params: Params) -> None:
    """Begin with nothing thrown."""
    write_json(out.champion.path, [])


class Dice(Settings):
    rounds: int = structural(2, ge=1, description="Rounds at most.")
    throw: ThrowParams = ThrowParams()
    streams: list[str] = structural(["left", "right", ""], description="A throw for each of these.")


class Turn(NamedTuple):
    champion: Model
    goes_on: bool


def start(s: Dice) -> Turn:
    return Turn(clear_table(Params()).champion, goes_on=True)


def round(s: Dice, last: Turn) -> tuple[Turn, Artifact]:
    calls = [s.throw.model_copy(update={"stream": stream}) for stream in s.streams]
    throws = [throw_dice(params, champion=last.champion).dice for params in calls]
    made = add_up(Params(), champion=last.champion, throws=throws)
    return Turn(made.champion, goes_on=True), made.decision


recipe = Recipe("dice", Dice, start, round, Turn)
