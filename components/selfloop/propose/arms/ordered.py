"""From easy to hard: one arm after another, by level, in equal phases of the horizon."""

from __future__ import annotations

from collections.abc import Sequence

from selfloop.propose.arms import Arm, ArmsParams, phase


def strategy(arms: Sequence[Arm], params: ArmsParams, progress: float) -> Sequence[float]:
    """The phase's arm alone; behind the horizon the hardest."""
    turn = sorted(arm.level for arm in arms)[phase(progress, len(arms))]
    return [float(arm.level == turn) for arm in arms]
