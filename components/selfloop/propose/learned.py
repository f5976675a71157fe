"""``propose_by_policy``: tasks that a policy writes, at its environment's proposal prompt.

What it wrote becomes a task if it is one (well-formed), is solved by the answer that the environment knows of it, is
new, and is none that policies are judged on. How many texts came through each of these stands in the metadata
(``funnel``), and why the others did not (``refused``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from kfp.dsl import Dataset, Model
from pydantic import Field

from selfloop.environments import Environment, find_environment
from selfloop.errors import UserError
from selfloop.generate import DecodingParams, GenerateParams, draw
from selfloop.generate.draw import one_role
from selfloop.generate.engines import open_engine
from selfloop.generate.windows import Tally
from selfloop.records import Rollout, Task, read, writing
from selfloop.resources import Resources
from selfloop.seeds import STREAM, seed_for
from selfloop.split import trains
from selfloop.stages import Params, stage
from selfloop.texts import reason

if TYPE_CHECKING:
    from selfloop.guards.contamination import HeldOut

FUNNEL = ("sampled", "parsed", "solvable", "new", "clean")
"""What is counted: texts, those that are tasks, that can be solved, that were not there before, that judge nobody."""


class ProposalArchiveParams(Params):
    """What the archive holds proposals of."""

    inherits = frozenset({"environment"})

    environment: str = Field("arithmetic", description="The taskset whose tasks are proposed.")


class LearnedParams(DecodingParams):
    """How many texts the policy writes, what is done with a round that yields no task, attempts at each task."""

    inherits = frozenset({"environment", "seed", "round"})

    environment: str = Field("arithmetic", description="The taskset whose tasks are proposed.")
    number: int = Field(512, ge=1, description="Texts that the policy writes.")
    attempts: int = Field(8, ge=1, description="Attempts at each task.")
    when_empty: Literal["stop", "continue"] = Field(
        "stop", description="A round in which no text is a new task ends the loop, or continues without tasks."
    )
    ngram: int = Field(13, ge=2, description="Words in a row that no task may share with a held-out item.")
    seed: int = Field(0, ge=0, description="Seed of the sampling.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")


class Refused(NamedTuple):
    """A text that is no new task: the first gate of the funnel that it did not pass, and why."""

    gate: str
    reason: str


class Sieve:
    """Lets through what is a task, can be solved, is new and judges nobody; remembers what it let through."""

    def __init__(self, environment: Environment, known: Iterable[str], judged_by: HeldOut) -> None:
        """``known`` are the prompts of earlier tasks."""
        self._environment, self._known, self._judged_by = environment, set(known), judged_by

    def task(self, text: str, id: str) -> Task | Refused:
        """The task that a text proposes, or what keeps it back."""
        try:
            task = self._environment.parse_proposal(text, id)
        except ValueError as error:
            return Refused("parsed", reason(str(error)))
        if task.answer and not self._environment.check(task, self._environment.demonstration(task)).ok:
            return Refused("solvable", "its own answer does not solve it")
        if task.prompt in self._known:
            return Refused("new", "proposed before")
        if self._judges(task):
            return Refused("clean", "a held-out item")
        self._known.add(task.prompt)
        return task

    def _judges(self, task: Task) -> bool:
        import pyarrow as pa

        from selfloop.guards.contamination import contaminated

        found = contaminated(pa.array([task.prompt]), pa.array([task.answer]), self._judged_by)
        return bool(found[0]) or not trains(self._environment, task)


class ProposalArchive(NamedTuple):
    """All that was proposed so far."""

    proposal_archive: Dataset


@stage()
def init_proposal_archive(out: ProposalArchive, params: ProposalArchiveParams) -> None:
    """Begin the archive of what was proposed, nothing yet, in an environment that takes proposals."""
    prompt_of(find_environment(params.environment), params.environment)
    with writing(out.proposal_archive.path, Task):
        pass


class PolicyProposals(NamedTuple):
    """The tasks that are new, and all that was proposed so far."""

    tasks: Dataset
    proposal_archive: Dataset


@stage(image="generate", resources=Resources(cpu="2", memory="4Gi"))
def propose_by_policy(
    out: PolicyProposals, params: LearnedParams, policy: Model, proposal_archive: Dataset, eval_items: Dataset
) -> None:
    """Let a policy write tasks, and keep those that are well-formed, solvable, new and no held-out items."""
    from selfloop.guards.contamination import held_out

    environment = find_environment(params.environment)
    prompt, before = prompt_of(environment, params.environment), proposal_archive.path
    prompts = (prompt for batch in read(before, Task, ["prompt"]) for prompt in batch["prompt"].to_pylist())
    sieve = Sieve(environment, prompts, held_out(eval_items.path, params.ngram))
    results = [_task_or_reason(sieve, rollout, params) for rollout in texts_at(prompt, params, policy)]
    made = [one for one in results if isinstance(one, Task)]
    reasons = Counter(one.reason for one in results if isinstance(one, Refused))
    if not made and params.when_empty == "stop":
        raise UserError(
            f"None of the {len(results)} texts that the policy wrote at '{prompt}' in round {params.round} is a new "
            f"task, most often because: {reasons.most_common(1)[0][0]}; show its base more proposals, or set "
            "when_empty to 'continue'."
        )
    with writing(out.tasks.path, Task) as table:
        table.write([task._replace(suite="train", attempts=params.attempts) for task in made])
    with writing(out.proposal_archive.path, Task) as table:
        for batch in read(before, Task):
            table.write(batch)
        table.write(made)
    levels = Counter(str(task.level) for task in made)
    out.tasks.metadata.update(funnel=funnel(results), refused=dict(reasons), levels=dict(levels))


def prompt_of(environment: Environment, name: str) -> str:
    """The prompt that asks for a task. Raises ``UserError`` where the environment has none."""
    if environment.proposal_prompt is None:
        raise UserError(f"Environment '{name}' takes no proposals: choose one that does, such as 'arithmetic'.")
    return environment.proposal_prompt


def texts_at(prompt: str, params: LearnedParams, policy: Model) -> Sequence[Rollout]:
    """What the policy writes at the proposal prompt, every text drawn."""
    decoding = GenerateParams.asking_as(
        params, seed=seed_for(params, "propose"), round=params.round, greedy_first=False
    )
    asked = Task("proposal", 0, "", prompt, "", attempts=params.number, max_tokens=params.max_tokens)
    engine = open_engine(params, policy.path, policy.metadata["digest"])
    [drawn] = draw(engine, [asked], decoding, Tally(params.number, "proposals").add)
    return one_role(drawn)


def _task_or_reason(sieve: Sieve, rollout: Rollout, params: LearnedParams) -> Task | Refused:
    if not rollout.finished:
        return Refused("parsed", "cut at its limit")
    return sieve.task(rollout.completion, f"proposed-{params.stream}{params.seed:x}-{params.round}-{rollout.attempt}")


def funnel(results: Sequence[Task | Refused]) -> dict[str, int]:
    """How many came as far as each gate let through; never more than through the gate before."""
    held_back = Counter(one.gate for one in results if isinstance(one, Refused))
    left, counts = len(results), dict[str, int]()
    for gate in FUNNEL:
        left -= held_back[gate]
        counts[gate] = left
    return counts
