"""Draw every arm alike: the baseline that any curriculum must beat."""

from __future__ import annotations

from collections.abc import Sequence

from selfloop.propose.arms import Arm, ArmsParams


def strategy(arms: Sequence[Arm], params: ArmsParams, progress: float) -> Sequence[float]:
    """The same weight for each arm."""
    return [1.0] * len(arms)
