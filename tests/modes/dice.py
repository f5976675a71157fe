"""A loop that throws dice in calls that differ in their stream alone, and adds up a list of what they threw."""

import random
from typing import NamedTuple

from kfp.dsl import Artifact
from pydantic import Field
from selfloop.artifacts import read_json, write_json
from selfloop.loop import Improved, Loop, LoopSettings, Now
from selfloop.propose import BaseData, BaseParams
from selfloop.recipe import Recipe
from selfloop.seeds import STREAM, seed_for
from selfloop.settings import compile_time
from selfloop.stages import Params, stage


class ThrowParams(Params):
    """Dice."""

    inherits = frozenset({"seed", "round"})

    number: int = Field(20, ge=1, description="Dice of a throw.")
    seed: int = Field(0, ge=0, description="Seed of the throw.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")


class Throw(NamedTuple):
    dice: Artifact


@stage()
def throw_dice(out: Throw, params: ThrowParams, champion: Artifact) -> None:
    """Throw the dice."""
    draw = random.Random(seed_for(params, params.round))
    write_json(out.dice.path, [draw.randint(1, 6) for _ in range(params.number)])


class Total(NamedTuple):
    total: Artifact


@stage()
def add_up(
    out: Total, params: Params, champion: Artifact, throws: list[Artifact], bonus: Artifact | None = None
) -> None:
    """Put the throws behind all that was thrown before, in their order, and a bonus behind them."""
    thrown = [*throws, *([] if bonus is None else [bonus])]
    write_json(out.total.path, [*read_json(champion.path), *(read_json(throw.path) for throw in thrown)])


@stage()
def clear_table(out: Total, params: Params) -> None:
    """Begin with nothing thrown."""
    write_json(out.total.path, [])


class Dice(LoopSettings, rounds=2, schedule="none", base=BaseParams(levels=1, per_level=1, held_out_per_level=1)):
    throw: ThrowParams = ThrowParams()
    streams: list[str] = compile_time(["left", "right", ""], description="A throw for each of these.")
    bonus: list[int] = compile_time([], description="Rounds with one more throw.")


class State(NamedTuple):
    champion: Artifact


def start(s: Dice, policy: None) -> State:
    return State(clear_table(Params()).total)


def improve(s: Dice, now: Now) -> Improved:
    champion = now.state.champion
    calls = [s.throw.model_copy(update={"stream": stream}) for stream in s.streams]
    throws = [throw_dice(params, champion=champion).dice for params in calls]
    bonus = None
    if s.number in s.bonus:
        bonus = throw_dice(s.throw.model_copy(update={"stream": "bonus"}), champion=champion).dice
    return Improved(State(add_up(Params(), champion=champion, throws=throws, bonus=bonus).total))


class WithoutPolicy(Loop):
    """A loop in which no model is asked anything."""

    def policy(self, s: Dice, base: BaseData) -> None:  # type: ignore[override]
        """Begin with nothing."""


recipe = Recipe("dice", Dice, State, start, improve, roles=("champion",), frame=WithoutPolicy)
