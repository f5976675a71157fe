"""From easy to hard as the current policy finds them (adaptive difficulty curriculum, ADCL, arXiv:2505.08364)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from selfloop.errors import UserError
from selfloop.propose.arms import Arm, ArmState, phase
from selfloop.propose.curricula import LevelCurriculum, Probe, TaskPool, rates_by_level


class Reestimated(LevelCurriculum):
    """From easy to hard as the policy finds levels: before each phase those not trained on yet are measured (ADCL)."""

    name = "reestimated"
    probes = True
    horizon: int = Field(240, ge=1, description="Steps in which it goes through all arms.")
    probe_tasks: int = Field(16, ge=1, description="Tasks of each arm that its pass rate is measured on.")

    def __call__(self, arms: Sequence[Arm], step: int) -> Sequence[float]:
        """The arm in training, or, where a phase begins, the easiest of those not drawn yet; the lower of two alike.

        Raises ``UserError`` where an arm to choose from has no pass rate.
        """
        untrained = [arm for arm in arms if not arm.drawn]
        if untrained and len(arms) - len(untrained) <= phase(step, self.horizon, len(arms)):
            turn = max(untrained, key=lambda arm: (_rate(arm), -arm.level))
        else:
            turn = max(arms, key=lambda arm: (arm.last, -arm.level))
        return [float(arm.level == turn.level) for arm in arms]

    def wants_rates(self, state: ArmState) -> bool:
        """Whether a phase begins, or an arm was never measured."""
        before, now = (phase(step, self.horizon, len(state.arms)) for step in (state.step - 1, state.step))
        return before != now or any(arm.rate is None for arm in state.arms)

    def probed(self, state: ArmState, pool: TaskPool, probe: Probe) -> ArmState:
        """The arms with the pass rates of their first tasks, where a phase begins."""
        if not self.wants_rates(state):
            return state
        return state.probed(rates_by_level(pool, self.probe_tasks, probe))


def _rate(arm: Arm) -> float:
    if arm.rate is None:
        raise UserError(f"Level {arm.level} has no pass rate: probe the arms before each phase of 'reestimated'.")
    return arm.rate
