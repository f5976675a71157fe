"""``reinforce_arms``: on-policy training whose tasks are drawn from arms, as a strategy weighs them (SEC and siblings).

In the grain *step* an arm's value follows each draw, inside the training, and is checkpointed with it; in the grain
*round* the mass stays for the whole round, which counts as one step of the arms. Either way the arms are state that the
loop carries from round to round (Chen et al., arXiv:2505.14970).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field

from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError
from selfloop.finetune.running.launch import Job, Made, done, is_first
from selfloop.finetune.online.sampling import Clean, uncontaminated
from selfloop.finetune.online.reinforcement import ReinforceParams
from selfloop.propose.arms import Arms, ArmsParams, Seen
from selfloop.records import Task
from selfloop.resources import Resources
from selfloop.seeds import seed_for, seed_of
from selfloop.stage import stage

if TYPE_CHECKING:
    from selfloop.finetune.online.collector import Probe, Table


class ReinforceArmsParams(ReinforceParams, ArmsParams):
    """The training, the arms, and how often their values follow it."""

    grain: Literal["step", "round"] = Field("step", description="Whether the arms learn of each draw, or of the round.")
    probe_tasks: int = Field(16, ge=1, description="reestimated: tasks of each arm that its pass rate is measured on.")


class ReinforcedOnArms(NamedTuple):
    """The policy trained, what it attempted, and the arms that learnt of it."""

    candidate: Model
    rollouts: Dataset
    arms: Artifact


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def reinforce_arms(
    out: ReinforcedOnArms, params: ReinforceArmsParams, policy: Model, tasks: Dataset, items: Dataset, arms: Artifact
) -> None:
    """Reinforce what the verifier rewards, on tasks of the arms that a strategy draws; the arms learn of it."""
    inputs = {"policy": policy, "tasks": tasks, "items": items, "arms": arms}
    done(work, params, inputs, out.candidate, {"rollouts": out.rollouts, "arms": out.arms})


def work(params: ReinforceArmsParams, job: Job) -> Made:
    """Train on the arms' tasks that are no held-out items."""
    from selfloop.finetune.online.collector import Verified
    from selfloop.finetune.online.trl_trainer import reinforced

    clean = uncontaminated(job.inputs["tasks"], job.inputs["items"], params.ngram)
    if not clean.tasks:
        raise clean.none_left()
    arms = Arms.from_json(read_json(job.inputs["arms"])).restored(params).without_course()
    course = ByArm(params, arms, clean)
    made = reinforced(params, job, course, Verified(params), clean.tasks)
    if is_first():
        write_json(job.output / "arms", course.ended().to_json())
    return made._replace(metadata=clean.counts() | made.metadata)


class ByArm:
    """Tasks of the levels that the arms draw: of each the next one that was not tried, and all again when all were."""

    def __init__(self, params: ReinforceArmsParams, arms: Arms, clean: Clean) -> None:
        self._params, self._arms = params, arms
        self._tasks: dict[int, list[Task]] = {level: [] for level in arms.levels}
        for task in clean.tasks:
            if task.level in self._tasks:
                self._tasks[task.level].append(task)
        empty = [level for level, of_level in self._tasks.items() if not of_level]
        if empty:
            held_out = f" ({clean.removed} tasks are held-out items)" if clean.removed else ""
            raise UserError(
                f"Arm {empty[0]} has no tasks to draw{held_out}: propose some of this level, or take it out of levels."
            )
        self._seed = seed_for(params, params.round, "arms")
        self._taken: Counter[int] = Counter()
        self._learnt = 0
        self._round: dict[int, list[Seen]] = {}

    def tasks(self, draw: int, groups: int, probe: Probe) -> list[Task]:
        """The tasks of a draw; a strategy that asks for it has the arms' pass rates measured at a step of the arms."""
        begins_step = self._params.grain == "step" or draw == 0
        if begins_step and self._arms.wants_rates(self._params):
            self._arms = self._arms.probed(self._rates(draw, probe))
        taken, chosen = self._taken.copy(), []
        for level in self._arms.draw(self._params, groups, seed_of(self._seed, draw)):
            of_level = self._tasks[level]
            chosen.append(of_level[taken[level] % len(of_level)])
            taken[level] += 1
        return chosen

    def _rates(self, draw: int, probe: Probe) -> dict[int, float]:
        measured = {level: of_level[: self._params.probe_tasks] for level, of_level in self._tasks.items()}
        given = iter(probe(draw, [task for of_level in measured.values() for task in of_level]))
        return {level: fmean(next(given) for _ in of_level) for level, of_level in measured.items()}

    def learnt(self, draw: int, tasks: Sequence[Task], rewards: Table, advantages: Table) -> None:
        """Let the arms know what their groups came to, once for each draw."""
        if draw < self._learnt:
            return
        self._learnt = draw + 1
        self._taken.update(task.level for task in tasks)
        seen = {}
        for level in sorted({task.level for task in tasks}):
            of_level = [number for number, task in enumerate(tasks) if task.level == level]
            advantage = float(abs(advantages[of_level]).mean())
            seen[level] = Seen(advantage, float(rewards[of_level].mean()), len(of_level))
        if self._params.grain == "step":
            self._arms = self._arms.observed(self._params, seen)
        else:
            for level, each in seen.items():
                self._round.setdefault(level, []).append(each)

    def ended(self) -> Arms:
        """The arms after the training."""
        if self._params.grain == "step":
            return self._arms
        return self._arms.observed(self._params, {level: joined(each) for level, each in self._round.items()})

    def state(self) -> Any:
        """The arms, what of their tasks was tried, and the round so far."""
        return {
            "arms": self._arms.to_json(),
            "taken": list(self._taken.items()),
            "learnt": self._learnt,
            "round": list(self._round.items()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was remembered."""
        self._arms, self._learnt = Arms.from_json(state["arms"]), state["learnt"]
        self._taken = Counter(dict(state["taken"]))
        self._round = {level: [Seen(*each) for each in seen] for level, seen in state["round"]}


def joined(seen: Sequence[Seen]) -> Seen:
    """Several draws of an arm as one: means over their groups."""
    groups = sum(each.groups for each in seen)
    advantage = sum(each.advantage * each.groups for each in seen) / groups
    return Seen(advantage, sum(each.rate * each.groups for each in seen) / groups, groups)
