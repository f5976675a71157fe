"""Who makes tasks: ``draw_base`` for the base policy, ``propose_tasks`` from a curriculum of levels each round.

The curriculum is loop state: the highest level mastered (``frontier``) and the champion's accuracy on levels near it.
``advance_curriculum`` moves it after each round, also when the candidate was rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kfp.dsl import Artifact, Dataset, Input, Output
from pydantic import Field, field_validator

from selfloop.artifacts import read_json, write_json
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.evaluate import accuracy_by_level
from selfloop.policy import seed_of
from selfloop.records import Example, ItemResult, Task, rows, writing
from selfloop.stage import Params, stage

RESERVED = ("target", "old", "train", "measure")
"""The suites that the loop itself names."""


class BaseParams(Params):
    """The labelled data that the loop starts from."""

    environment: str = Field("addition", description="The taskset to draw from.")
    levels: int = Field(4, ge=1, description="The data covers the levels from 1 to this one.")
    per_level: int = Field(20_000, ge=1, description="Examples of each level.")
    held_out_per_level: int = Field(256, ge=1, description="Examples of each level that are not trained on.")
    seed: int = Field(0, ge=0, description="Seed of the tasks.")


class ProposeParams(Params):
    """The next few levels: how far ahead, how many tasks, how many attempts, and the items to be judged on."""

    environment: str = Field("addition", description="The taskset to draw from.")
    ahead: int = Field(4, ge=1, description="Levels beyond the frontier at most.")
    ahead_share: float = Field(0.125, ge=0, description="The same as a share of the frontier, where that is more.")
    go_on_above: float = Field(0.5, ge=0, le=1, description="A level follows if the one before is this accurate.")
    per_level: int = Field(1000, ge=1, description="Tasks of each level.")
    attempts: int = Field(1, ge=1, description="Attempts at each task.")
    retry_below: float = Field(0.3, ge=0, le=1, description="Levels less accurate than this get more attempts.")
    retries: int = Field(4, ge=0, description="How many more attempts those levels get.")
    items_per_level: int = Field(64, ge=1, description="Held-out items of each level that is evaluated.")
    item_seeds: list[int] = Field(
        [0, 1, 2],
        min_length=1,
        description="Evaluation seeds: the held-out items are drawn under each; tuning used others.",
    )
    look_beyond: int = Field(3, ge=0, description="Levels beyond those that are in the target suite too.")
    old_levels: int = Field(8, ge=1, description="Levels up to the frontier, spread evenly, that are the old suite.")
    seed: int = Field(0, ge=0, description="Seed of the tasks.")
    round: int = Field(0, ge=0, description="The round; each has tasks and held-out items of its own.")

    @field_validator("item_seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("an evaluation seed stands twice, which would draw the same items again: name each once")
        return seeds


class AdvanceParams(Params):
    """When a level counts as mastered, and when the loop has done what it was run for."""

    advance_at: float = Field(0.9, gt=0, le=1, description="Accuracy at which the frontier moves past a level.")
    target: int = Field(30, ge=1, description="The loop ends when the frontier has come to this level.")


@stage()
def draw_base(
    params: BaseParams,
    examples: Output[Dataset],
    held_out: Output[Dataset],
    kept: Output[Dataset],
    curriculum: Output[Artifact],
) -> None:
    """Draw the labelled data of the base levels, and begin the loop's state: nothing kept, these levels mastered."""
    environment, levels = find_environment(params.environment), range(1, params.levels + 1)
    for output, draw, purpose, number in (
        (examples, environment.tasks, "base", params.per_level),
        (held_out, environment.held_out, "base held out", params.held_out_per_level),
    ):
        with writing(output.path, Example) as table:
            for level in levels:
                tasks = draw(level, number, seed_of(params.seed, purpose, level))
                table.write([Example(task.id, level, task.prompt, task.answer, 0) for task in tasks])
    with writing(kept.path, Example):
        pass
    write_json(curriculum.path, {"frontier": params.levels, "accuracy": {}})


@stage()
def propose_tasks(
    params: ProposeParams, curriculum: Input[Artifact], tasks: Output[Dataset], items: Output[Dataset]
) -> None:
    """Propose tasks of the levels just beyond the frontier, and the held-out items to judge the candidate on."""
    environment, state = find_environment(params.environment), read_json(curriculum.path)
    frontier = state["frontier"]
    accuracy = {int(level): value for level, value in state["accuracy"].items()}
    if environment.levels is not None and frontier + 1 not in environment.levels:
        raise UserError(f"Environment '{params.environment}' has no level beyond {frontier}: lower the loop's target.")
    ahead = max(params.ahead, int(params.ahead_share * frontier))
    with writing(tasks.path, Task) as table:
        for level in _within(environment, next_levels(frontier, accuracy, ahead, params.go_on_above)):
            attempts = params.attempts + (params.retries if expected(level, accuracy) < params.retry_below else 0)
            drawn = environment.tasks(level, params.per_level, seed_of(params.seed, "tasks", params.round, level))
            table.write([task._replace(suite="train", attempts=attempts) for task in drawn])
    suites = dict.fromkeys(spread(frontier, params.old_levels), "old")
    beyond = range(frontier + 1, frontier + ahead + params.look_beyond + 1)
    suites |= dict.fromkeys(_within(environment, beyond), "target")
    with writing(items.path, Task) as table:
        table.write(held_out(environment, suites, params))


def held_out(environment: Environment, suites: Mapping[int, str], params: ProposeParams) -> Iterator[Task]:
    """The items of the levels, each level in its suite, fresh each round and the same whatever the run's seed.

    They are drawn under every evaluation seed, which stands in their ``seed``. A suite has no prompt twice, so that
    low levels may have fewer items. Old levels add those of the environment's own guard suites, which together have no
    more than the old suite. Raises ``UserError`` for two items of one id and for a guard suite with a reserved name.
    """
    ids, prompts = set[str](), set[tuple[str, str]]()
    for level, suite in suites.items():
        for name, task in _drawn(environment, level, suite, params):
            if task.id in ids:
                raise UserError(
                    f"Environment '{params.environment}' named two held-out items '{task.id}': make its ids of level, "
                    "seed, number and guard suite."
                )
            ids.add(task.id)
            if (name, task.prompt) not in prompts:
                prompts.add((name, task.prompt))
                yield task._replace(suite=name)


def _drawn(environment: Environment, level: int, suite: str, params: ProposeParams) -> Iterator[tuple[str, Task]]:
    each, more = divmod(params.items_per_level, len(params.item_seeds))
    for index, item_seed in enumerate(params.item_seeds):
        number = each + (index < more)
        drawn = {suite: environment.held_out(level, number, seed_of(item_seed, "items", params.round, level))}
        if suite == "old":
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


def _within(environment: Environment, levels: Iterable[int]) -> list[int]:
    return [level for level in levels if environment.levels is None or level in environment.levels]


@stage()
def advance_curriculum(
    params: AdvanceParams,
    curriculum: Input[Artifact],
    results: Input[Dataset],
    decision: Input[Artifact],
    next_curriculum: Output[Artifact],
) -> bool:
    """Move the frontier past the levels that the champion has mastered; false when the target is reached."""
    state = read_json(curriculum.path)
    champion = "candidate" if read_json(decision.path)["promoted"] else "champion"
    accuracy = accuracy_by_level(rows(results.path, ItemResult))[champion]
    frontier = advanced(state["frontier"], accuracy, params.advance_at)
    write_json(next_curriculum.path, {"frontier": frontier, "accuracy": {str(k): v for k, v in accuracy.items()}})
    return frontier < params.target


def next_levels(frontier: int, accuracy: Mapping[int, float], ahead: int, go_on_above: float) -> list[int]:
    """The levels to propose: the one beyond the frontier, and each next one while the one before is accurate enough."""
    levels = [frontier + 1]
    while len(levels) < ahead and expected(levels[-1], accuracy) >= go_on_above:
        levels.append(levels[-1] + 1)
    return levels


def expected(level: int, accuracy: Mapping[int, float]) -> float:
    """The accuracy to reckon with: the level's own, or that of the last level below it that was evaluated, or 0."""
    return accuracy.get(
        level, next((accuracy[known] for known in sorted(accuracy, reverse=True) if known < level), 0.0)
    )


def advanced(frontier: int, accuracy: Mapping[int, float], at: float) -> int:
    """The frontier after it moved past every level in a row that is accurate enough."""
    while accuracy.get(frontier + 1, 0.0) >= at:
        frontier += 1
    return frontier


def spread(last: int, number: int) -> list[int]:
    """At most ``number`` levels from 1 to ``last``, evenly spread; the last one is always among them."""
    if number >= last:
        return list(range(1, last + 1))
    return sorted({round(last - step * (last - 1) / max(number - 1, 1)) for step in range(number)})
