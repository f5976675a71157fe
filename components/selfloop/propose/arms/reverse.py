"""From hard to easy: the order that a curriculum should beat by most."""

from __future__ import annotations

from collections.abc import Sequence

from selfloop.propose.arms import Arm, ArmsParams, phase


def strategy(arms: Sequence[Arm], params: ArmsParams, progress: float) -> Sequence[float]:
    """The phase's arm alone; behind the horizon the easiest."""
    turn = sorted((arm.level for arm in arms), reverse=True)[phase(progress, len(arms))]
    return [float(arm.level == turn) for arm in arms]
