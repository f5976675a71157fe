"""``draw_base``: the labelled data that a loop starts from, and the beginning of its state."""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset
from pydantic import Field

from selfloop.artifacts import write_json
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.records import ENVIRONMENT, Example, segments_of, writing
from selfloop.seeds import STREAM, seed_for, seed_of
from selfloop.stage import Params, stage


class BaseParams(Params):
    """The labelled data that the loop starts from."""

    inherits = frozenset({"environment", "seed"})

    environment: str = Field("addition", description="The taskset to draw from.")
    levels: int = Field(4, ge=1, description="The data covers the levels from 1 to this one.")
    per_level: int = Field(20_000, ge=1, description="Examples of each level.")
    held_out_per_level: int = Field(256, ge=1, description="Examples of each level that are not trained on.")
    proposals: int = Field(0, ge=0, description="Examples of each level of how a new task is proposed.")
    judgements: int = Field(
        0, ge=0, description="Examples of each level of how an attempt is judged, half of them wrong."
    )
    seed: int = Field(0, ge=0, description="Seed of the tasks.")
    stream: str = Field("", description=STREAM)


class BaseData(NamedTuple):
    """Examples to begin with, others to measure them by, an empty replay pool, and the progress so far."""

    examples: Dataset
    held_out: Dataset
    replay_pool: Dataset
    progress: Artifact


@stage()
def draw_base(out: BaseData, params: BaseParams) -> None:
    """Draw the labelled data of the base levels, and begin the loop's state: nothing kept, these levels mastered."""
    environment, levels = find_environment(params.environment), range(1, params.levels + 1)
    for output, draw, purpose, number in (
        (out.examples, environment.tasks, "base", params.per_level),
        (out.held_out, environment.held_out, "base held out", params.held_out_per_level),
    ):
        with writing(output.path, Example) as table:
            for level in levels:
                tasks = draw(level, number, seed_for(params, purpose, level))
                table.write(
                    [
                        _example(environment, task.id, level, task.prompt, environment.demonstration(task))
                        for task in tasks
                    ]
                )
                if output is out.examples:
                    table.write(_proposals(environment, level, params) if params.proposals else [])
                    table.write(_judgements(environment, level, params) if params.judgements else [])
    with writing(out.replay_pool.path, Example):
        pass
    write_json(out.progress.path, {"frontier": params.levels, "accuracy": {}})


def _example(environment: Environment, id: str, level: int, prompt: str, text: str) -> Example:
    return Example(
        id, level, prompt, text, 0, segments=segments_of(text, environment.non_policy_spans(text), ENVIRONMENT)
    )


def _proposals(environment: Environment, level: int, params: BaseParams) -> list[Example]:
    if environment.proposal_prompt is None:
        raise UserError(f"Environment '{params.environment}' takes no proposals: set base.proposals to 0.")
    texts = environment.proposals(level, params.proposals, seed_for(params, "base proposals", level))
    return [
        _example(environment, f"proposal-{level}-{number}", level, environment.proposal_prompt, text)
        for number, text in enumerate(texts)
    ]


def _judgements(environment: Environment, level: int, params: BaseParams) -> list[Example]:
    if "judge" not in environment.roles:
        raise UserError(f"Environment '{params.environment}' has no role 'judge': set base.judgements to 0.")
    seed = seed_for(params, "base judgements", level)
    made = []
    for number, task in enumerate(environment.tasks(level, params.judgements, seed)):
        attempt = environment.spoilt(task, seed_of(seed, number)) if number % 2 else task.answer
        prompt, text = environment.asked("judge", task, attempt), environment.demonstrated("judge", task, attempt)
        made.append(_example(environment, f"judgement-{level}-{number}", level, prompt, text))
    return made
