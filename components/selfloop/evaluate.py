"""``evaluate_policies``: candidate and champion on the same items. ``measure_policy``: how far a policy gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kfp.dsl import Artifact, Dataset, Input, Model, Output
from pydantic import Field

from selfloop import progress
from selfloop.artifacts import read_json
from selfloop.environments import Environment, find_environment
from selfloop.generate import GenerateParams, draw
from selfloop.policy import load, seed_of
from selfloop.records import ItemResult, Task, count, rows, to_batch, writing
from selfloop.stage import Params, Resources, stage


class EvaluateParams(Params):
    """Items are answered greedily, once."""

    environment: str = Field("addition", description="The taskset that made the items.")
    max_tokens: int = Field(512, ge=1, description="Tokens of a completion at most; an item may allow fewer.")
    batch_size: int = Field(512, ge=1, description="Items answered at once.")


class MeasureParams(EvaluateParams):
    """Every level from 1 to some beyond the frontier, on items that no decision of the loop was made on."""

    per_level: int = Field(256, ge=1, description="Items of each level.")
    beyond: int = Field(12, ge=0, description="Levels beyond the frontier that are measured too.")
    solved: float = Field(0.95, gt=0, le=1, description="Exact match at which a level counts as solved.")
    seed: int = Field(0, ge=0, description="Seed of the items.")


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def evaluate_policies(
    params: EvaluateParams,
    candidate: Input[Model],
    champion: Input[Model],
    items: Input[Dataset],
    results: Output[Dataset],
) -> None:
    """Answer the same held-out items with candidate and champion."""
    environment, total = find_environment(params.environment), 2 * count(items.path)
    with writing(results.path, ItemResult) as table:
        for name, policy in (("champion", champion), ("candidate", candidate)):
            for answered in _answers(params, environment, policy, list(rows(items.path, Task)), name):
                table.write(answered)
                progress.report(table.rows, total, "items")


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def measure_policy(
    params: MeasureParams, policy: Input[Model], curriculum: Input[Artifact], results: Output[Dataset]
) -> None:
    """Measure exact match at every level up to some beyond the frontier, on items kept for this alone."""
    environment = find_environment(params.environment)
    levels = range(1, read_json(curriculum.path)["frontier"] + params.beyond + 1)
    items = [
        task._replace(suite="measure")
        for level in levels
        for task in environment.tasks(level, params.per_level, seed_of(params.seed, "measure", level))
    ]
    with writing(results.path, ItemResult) as table:
        for answered in _answers(params, environment, policy, items, "champion"):
            table.write(answered)
            progress.report(table.rows, len(items), "items")
    accuracy = accuracy_by_level(rows(results.path, ItemResult))["champion"]
    solved = solved_levels(accuracy, params.solved)
    results.metadata.update(solved=solved, accuracy={str(k): v for k, v in accuracy.items()})


def _answers(
    params: EvaluateParams, environment: Environment, policy: Model, items: Sequence[Task], name: str
) -> Iterator[list[ItemResult]]:
    import pyarrow as pa

    loaded = load(policy.path, policy.metadata["digest"])
    decoding = GenerateParams(max_tokens=params.max_tokens, batch_size=params.batch_size)
    first = 0
    for drawn in draw(loaded, (item._replace(attempts=1) for item in items), decoding):
        asked = items[first : first + len(drawn)]
        first += len(drawn)
        ok, _, _ = environment.check_batch(to_batch(Task, asked), pa.array([r.completion for r in drawn], pa.string()))
        yield [
            ItemResult(name, item.suite, item.level, item.id, 0, good and answer.finished, answer.completion)
            for item, answer, good in zip(asked, drawn, ok.to_pylist(), strict=True)
        ]


def accuracy_by_level(results: Iterable[ItemResult], suite: str | None = None) -> dict[str, dict[int, float]]:
    """Mean correctness per policy and level, of one suite or of all."""
    seen: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for item in results:
        if suite in (None, item.suite):
            seen[item.policy][item.level].append(item.ok)
    return {
        policy: {level: sum(oks) / len(oks) for level, oks in sorted(levels.items())} for policy, levels in seen.items()
    }


def solved_levels(accuracy: Mapping[int, float], threshold: float) -> int:
    """The largest level up to which, from 1 on, every level has at least this accuracy; 0 where level 1 has not."""
    solved = 0
    while accuracy.get(solved + 1, 0.0) >= threshold:
        solved += 1
    return solved
