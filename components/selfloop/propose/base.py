"""``draw_base``: the labelled data that a loop starts from, and the beginning of its state."""

from typing import NamedTuple, Self

from kfp.dsl import Artifact, Dataset
from pydantic import Field, model_validator

from selfloop import roles
from selfloop.artifacts import write_json
from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.records import ENVIRONMENT, POLICY, Example, Task, segments_of, writing
from selfloop.seeds import STREAM, seed_for, seed_of
from selfloop.split import GATE, draw_items, draw_proposals, draw_training
from selfloop.stages import Params, stage


class BaseParams(Params):
    """The labelled data that the loop starts from."""

    inherits = frozenset({"environment", "seed"})

    environment: str = Field("addition", description="The taskset to draw from.")
    levels: int = Field(4, ge=1, description="The data covers the levels from 1 to this one.")
    per_level: int = Field(20_000, ge=1, description="Examples of each level, of the first where there is a tail.")
    tail: float = Field(
        1.0, gt=0, le=1, description="Examples of each level, as a share of those of the level before: 1 is as many."
    )
    held_out_per_level: int = Field(256, ge=1, description="Examples of each level that are not trained on.")
    proposals: int = Field(0, ge=0, description="Examples of each level of how a new task is proposed.")
    proposal_levels: list[int] = Field(
        [], description="Levels whose tasks it is shown to propose; all of them where none is named."
    )
    roles: list[str] = Field(
        [],
        description="Roles that it is shown as well, such as judge; judge/judge is who judges judgements, "
        "propose/judge who judges proposals.",
    )
    per_role: int = Field(2000, ge=1, description="Examples of each level of each role, half of the attempts wrong.")
    seed: int = Field(0, ge=0, description="Seed of the tasks.")
    stream: str = Field("", description=STREAM)

    def number_of(self, level: int) -> int:
        """How many examples of a level there are."""
        return round(self.per_level * self.tail ** (level - 1))

    @model_validator(mode="after")
    def _every_level_is_there(self) -> Self:
        if not self.number_of(self.levels):
            raise ValueError(
                f"a tail of {self.tail:g} leaves level {self.levels} of {self.per_level} examples none: raise tail or "
                "per_level, or take fewer levels"
            )
        if absent := [level for level in self.proposal_levels if not 1 <= level <= self.levels]:
            raise ValueError(
                f"proposals of level {absent[0]} are asked for, and the data covers 1 to {self.levels}: take it out of "
                "proposal_levels, or raise levels"
            )
        return self


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
    with writing(out.examples.path, Example) as table:
        for level in levels:
            tasks = draw_training(environment, level, params.number_of(level), seed_for(params, "base", level))
            table.write([shown(environment, task) for task in tasks])
            table.write(_proposals(environment, level, params) if params.proposals else [])
            for role in params.roles:
                table.write(_in_role(environment, level, role, params))
    with writing(out.held_out.path, Example) as table:
        for level in levels:
            number, seed = params.held_out_per_level, seed_for(params, "base held out", level)
            table.write([shown(environment, task) for task in draw_items(environment, GATE, level, number, seed)])
    with writing(out.replay_pool.path, Example):
        pass
    write_json(out.progress.path, {"frontier": params.levels, "accuracy": {}})


def shown(environment: Environment, task: Task) -> Example:
    """What a policy is shown of a task: its environment's demonstration."""
    return _example(environment, task.id, task.level, task.prompt, environment.demonstration(task))


def _example(environment: Environment, id: str, level: int, prompt: str, text: str, role: str = POLICY) -> Example:
    segments = segments_of(text, environment.non_policy_spans(text), ENVIRONMENT, role)
    return Example(id, level, prompt, text, 0, role=role, segments=segments)


def _proposals(environment: Environment, level: int, params: BaseParams) -> list[Example]:
    if environment.proposal_prompt is None:
        raise UserError(f"Environment '{params.environment}' takes no proposals: set base.proposals to 0.")
    if level not in (params.proposal_levels or [level]):
        return []
    texts = draw_proposals(environment, level, params.proposals, seed_for(params, "base proposals", level))
    return [
        _example(environment, f"proposal-{level}-{number}", level, environment.proposal_prompt, text)
        for number, text in enumerate(texts)
    ]


def _in_role(environment: Environment, level: int, role: str, params: BaseParams) -> list[Example]:
    seed, made = seed_for(params, "base role", role, level), list[Example]()
    for number, task in enumerate(draw_training(environment, level, params.per_role, seed)):
        own = seed_of(seed, number)
        posed = roles.posed(environment, role, task, own)
        text, name = roles.demonstration(environment, posed, own), role.rpartition("/")[2]
        made.append(_example(environment, f"{role}-{level}-{number}", level, posed.prompt, text, name))
    return made
