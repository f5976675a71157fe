"""``draw_base``: the labelled data that a loop starts from, and the beginning of its state."""

from kfp.dsl import Artifact, Dataset, Output
from pydantic import Field

from selfloop.artifacts import write_json
from selfloop.environments import find_environment
from selfloop.policy import seed_of
from selfloop.records import Example, writing
from selfloop.stage import Params, stage


class BaseParams(Params):
    """The labelled data that the loop starts from."""

    environment: str = Field("addition", description="The taskset to draw from.")
    levels: int = Field(4, ge=1, description="The data covers the levels from 1 to this one.")
    per_level: int = Field(20_000, ge=1, description="Examples of each level.")
    held_out_per_level: int = Field(256, ge=1, description="Examples of each level that are not trained on.")
    seed: int = Field(0, ge=0, description="Seed of the tasks.")


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
                written = ((task, environment.written(task)) for task in tasks)
                table.write([Example(task.id, level, task.prompt, text, 0) for task, text in written])
    with writing(kept.path, Example):
        pass
    write_json(curriculum.path, {"frontier": params.levels, "accuracy": {}})
