"""The held-out items of a round: what candidate and champion are judged on."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from pydantic import Field, field_validator

from selfloop.decision import CONFIRM, TARGET
from selfloop.environments import Environment
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of
from selfloop.split import GATE, draw_items, draw_suite
from selfloop.stages import Params

RESERVED = (TARGET, CONFIRM, "old", "train", "measure")
"""The suites that the loop itself names."""


class ItemParams(Params):
    """How many items, under which evaluation seeds, and how many for a second look."""

    inherits = frozenset({"round", "seed", "confirm"})

    items_per_level: int = Field(64, ge=1, description="Held-out items of each level that is evaluated.")
    item_seeds: list[int] = Field(
        [0, 1, 2],
        min_length=1,
        description="Evaluation seeds: the held-out items are drawn under each; tuning used others.",
    )
    confirm: int = Field(0, ge=0, description="How many times as many target items there are for a second look.")
    seed: int = Field(0, ge=0, description="Seed of the tasks, and of the items of a second look.")
    round: int = Field(0, ge=0, description="The round; each has tasks and held-out items of its own.")

    @field_validator("item_seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("an evaluation seed stands twice, which would draw the same items again: name each once")
        return seeds

    def per_seed(self, number: int) -> Iterator[tuple[int, int]]:
        """Each evaluation seed, and its part of a number of items."""
        each, more = divmod(number, len(self.item_seeds))
        yield from ((item_seed, each + (index < more)) for index, item_seed in enumerate(self.item_seeds))


def held_out(
    environment: Environment, suites: Mapping[int, str], params: ItemParams, guarded: Container[str] = ("old",)
) -> Iterator[Task]:
    """The items of the levels, each level in its suite, fresh each round and the same whatever the run's seed; then
    those of the second look, of the target's levels, other ones for each seed of a run.

    They are drawn under every evaluation seed, which stands in their ``seed``: those of the second look out of the
    part ``confirm`` of all problems, all others out of ``gate``. A suite has no problem twice, so that low levels may
    have fewer items. The levels of a ``guarded`` suite add those of the environment's own guard suites, which together
    have no more than that suite. Raises ``UserError`` for a guard suite with a reserved name.
    """
    known = set[str]()

    def of_suite(suite: str, item_seed: int, items: list[Task]) -> Iterator[Task]:
        known.update(item.id for item in items)
        yield from (item._replace(suite=suite, seed=item_seed) for item in items)

    for level, suite in suites.items():
        for item_seed, number in params.per_seed(params.items_per_level):
            seed = seed_of(item_seed, "items", params.round, level)
            yield from of_suite(suite, item_seed, draw_items(environment, GATE, level, number, seed, known))
            names = _guard_suites(environment, level) if suite in guarded else []
            seed = seed_of(item_seed, "guards", params.round, level)
            for name in names:
                items = draw_suite(environment, name, level, number // len(names), seed, known)
                yield from of_suite(name, item_seed, items)
    for level in (level for level, suite in suites.items() if suite == TARGET):
        for item_seed, number in params.per_seed(params.items_per_level * params.confirm):
            seed = seed_of(item_seed, CONFIRM, params.seed, params.round, level)
            yield from of_suite(CONFIRM, item_seed, draw_items(environment, "confirm", level, number, seed, known))


def _guard_suites(environment: Environment, level: int) -> list[str]:
    """The names of what the environment declares of this level."""
    declared = list(environment.guard_suites(level, 1, 0))
    for name in RESERVED:
        if name in declared:
            raise UserError(
                f"Environment '{environment.name}' calls a guard suite '{name}', as the loop does one of its "
                "own: give it another name."
            )
    return declared
