"""The held-out items of a round: what candidate and champion are judged on."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from pydantic import Field, field_validator

from selfloop.decision import CONFIRM, TARGET
from selfloop.environments import Environment
from selfloop.errors import UserError
from selfloop.records import Task
from selfloop.seeds import seed_of
from selfloop.stage import Params

RESERVED = (TARGET, CONFIRM, "old", "train", "measure")
"""The suites that the loop itself names."""
MOST_DRAWN = 16
"""How many times as many items as are wanted are drawn of a level, to find so many that were not seen."""


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
    those of the second look, of the target's levels, which are others, and other ones for each seed of a run.

    They are drawn under every evaluation seed, which stands in their ``seed``. A suite has no prompt twice, so that
    low levels may have fewer items. The levels of a ``guarded`` suite add those of the environment's own guard suites,
    which together have no more than that suite. Raises ``UserError`` for two items of one id and for a guard suite with
    a reserved name.
    """
    ids, prompts = set[str](), set[tuple[str, str]]()

    def kept(name: str, drawn: Iterator[Task]) -> Iterator[Task]:
        for task in drawn:
            if task.id in ids:
                raise UserError(
                    f"Environment '{environment.name}' named two held-out items '{task.id}': make its ids of level, "
                    "seed, number and guard suite."
                )
            ids.add(task.id)
            if (name, task.prompt) not in prompts:
                prompts.add((name, task.prompt))
                yield task._replace(suite=name)

    for level, suite in suites.items():
        for name, task in _drawn(environment, level, suite, params, suite in guarded):
            yield from kept(name, iter([task]))
    seen = {prompt for name, prompt in prompts if name == TARGET}
    for level in (level for level, suite in suites.items() if suite == TARGET):
        for item_seed, number in params.per_seed(params.items_per_level * params.confirm):
            seed = seed_of(item_seed, CONFIRM, params.seed, params.round, level)
            fresh = _fresh(environment, level, number, seen, seed)
            seen |= {task.prompt for task in fresh}
            yield from kept(CONFIRM, (task._replace(seed=item_seed) for task in fresh))


def _fresh(environment: Environment, level: int, number: int, seen: Container[str], seed: int) -> list[Task]:
    """At most ``number`` items of a level whose prompts are not among those that were seen; fewer where there are no
    more.
    """
    drawn, found = number, dict[str, Task]()
    while number and drawn <= MOST_DRAWN * number:
        tasks = environment.held_out(level, drawn, seed)
        found = {task.prompt: task for task in tasks if task.prompt not in seen}
        if len(found) >= number or len(tasks) < drawn:  # enough, or all that there are
            break
        drawn *= 2
    return list(found.values())[:number]


def _drawn(
    environment: Environment, level: int, suite: str, params: ItemParams, is_guarded: bool
) -> Iterator[tuple[str, Task]]:
    for item_seed, number in params.per_seed(params.items_per_level):
        drawn = {suite: environment.held_out(level, number, seed_of(item_seed, "items", params.round, level))}
        if is_guarded:
            drawn |= _guard_suites(environment, level, number, seed_of(item_seed, "guards", params.round, level))
        for name, tasks in drawn.items():
            yield from ((name, task._replace(seed=item_seed)) for task in tasks)


def _guard_suites(environment: Environment, level: int, number: int, seed: int) -> dict[str, list[Task]]:
    """What the environment declares of this level, cut to ``number`` items in all."""
    declared = environment.guard_suites(level, number, seed)
    for name in RESERVED:
        if name in declared:
            raise UserError(
                f"Environment '{environment.name}' calls a guard suite '{name}', as the loop does one of its "
                "own: give it another name."
            )
    return {name: tasks[: number // len(declared)] for name, tasks in declared.items()}
