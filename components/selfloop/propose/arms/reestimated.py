"""From easy to hard as the current policy finds them: before each phase the arms that were not trained on yet are
ordered anew by its pass rate (adaptive difficulty curriculum, ADCL, arXiv:2505.08364).
"""

from __future__ import annotations

from collections.abc import Sequence

from selfloop.errors import UserError
from selfloop.propose.arms import Arm, ArmsParams, phase

probes = True


def strategy(arms: Sequence[Arm], params: ArmsParams, progress: float) -> Sequence[float]:
    """The arm in training, or, where a phase begins, the easiest of those not drawn yet; the lower level of two alike.

    Raises ``UserError`` where an arm to choose from has no pass rate.
    """
    untrained = [arm for arm in arms if not arm.drawn]
    if untrained and len(arms) - len(untrained) <= phase(progress, len(arms)):
        turn = max(untrained, key=lambda arm: (_rate(arm), -arm.level))
    else:
        turn = max(arms, key=lambda arm: (arm.last, -arm.level))
    return [float(arm.level == turn.level) for arm in arms]


def _rate(arm: Arm) -> float:
    if arm.rate is None:
        raise UserError(f"Level {arm.level} has no pass rate: probe the arms before each phase of 'reestimated'.")
    return arm.rate
