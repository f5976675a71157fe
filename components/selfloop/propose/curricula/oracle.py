"""Draw by the true pass rates: what a curriculum that has to learn them could come to at most."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from selfloop.propose.arms import Arm, ArmFeedback, ArmState
from selfloop.propose.curricula import LevelCurriculum, Probe, TaskPool, rates_by_level


class Oracle(LevelCurriculum):
    """Levels in proportion to p(1 - p), with their pass rates p measured anew every few steps, outside of the training.

    No curriculum that follows advantages knows more: where this one gains nothing, choosing levels gains nothing.
    """

    name = "oracle"
    probes = True
    every: int = Field(20, ge=1, description="Steps between two measurements.")
    probe_tasks: int = Field(16, ge=1, description="Tasks of each arm that its pass rate is measured on.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """p(1 - p), with p as if one attempt more had been right and one more wrong, so that no arm is given up."""
        passed = [min(max(arm.value, 0.0), 1.0) * self.probe_tasks for arm in arms]
        return [(right + 1) * (self.probe_tasks - right + 1) / (self.probe_tasks + 2) ** 2 for right in passed]

    def value(self, arm: Arm, seen: ArmFeedback | None) -> float:
        """What was measured; what is seen in training changes nothing."""
        return arm.value

    def probed(self, state: ArmState, pool: TaskPool, probe: Probe) -> ArmState:
        """The arms with their pass rates as values, where a measurement is due."""
        if state.step % self.every and all(arm.rate is not None for arm in state.arms):
            return state
        rates = rates_by_level(pool, self.probe_tasks, probe)
        arms = (arm.model_copy(update={"value": rates[arm.level]}) for arm in state.probed(rates).arms)
        return state.model_copy(update={"arms": tuple(arms)})
