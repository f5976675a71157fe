"""How often a gate promotes what is better, before anything is run: exact, for one sample an item and no margin.

The items that one policy alone solves are binomial, and so are those of them that the candidate wins; McNemar's test is
exact, and the two looks have no item in common, so that their powers multiply. Guard suites and guards come on top.
"""

from __future__ import annotations

from selfloop.errors import UserError
from selfloop.promote.gate import GateParams
from selfloop.promote.spending import Ledger, Looked

TAIL = 1e-9
"""Chance of discordant items that are left out on each side."""
MOST = 10_000_000
"""Items beyond which none are sought."""


def independent(accuracy: float, gain: float) -> float:
    """The discordance of two policies that solve items independently of one another: the most that is usual."""
    better = accuracy + gain
    return accuracy * (1 - better) + better * (1 - accuracy)


def power(items: int, gain: float, discordance: float, level: float) -> float:
    """How likely McNemar's test comes to a ``level`` on so many items, of which the share ``discordance`` is solved by
    one policy alone and the candidate solves ``gain`` more.
    """
    import numpy as np
    from scipy import stats

    low, high = stats.binom.ppf([TAIL, 1 - TAIL], items, discordance).astype(int)
    differing = np.arange(max(low, 0), high + 1)
    needed = stats.binom.isf(level, differing, 0.5) + 1  # the fewest wins whose tail is within the level
    wins = stats.binom.sf(needed - 1, differing, (discordance + gain) / (2 * discordance))
    return float(stats.binom.pmf(differing, items, discordance) @ wins)


def level_after(gate: GateParams, lost: int) -> float:
    """The level of a second look after so many that were charged; every bet of theirs is lost as a whole."""
    ledger = Ledger()
    for _ in range(lost):
        ledger = gate.spend.look(ledger, gate.loop_alpha, Looked(1.0, lambda: 0.0)).after
    return gate.spend.level(ledger, gate.loop_alpha)


def promotes(gate: GateParams, items: int, gain: float, discordance: float, lost: int = 0) -> float:
    """How likely the gate promotes a candidate with so many items in the first look, after ``lost`` second looks."""
    level = level_after(gate, lost)
    if not level:
        return 0.0
    first = power(items, gain, discordance, gate.screen)
    return first * power(gate.confirm * items, gain, discordance, level)


def items_for(gate: GateParams, wanted: float, gain: float, discordance: float, lost: int = 0) -> int:
    """The fewest items of a first look with which the gate promotes with the chance ``wanted``, to a percent.

    Raises ``UserError`` where there is no such number, or it is beyond 10 million.
    """
    enough = 8
    while promotes(gate, enough, gain, discordance, lost) < wanted:
        enough *= 2
        if enough > MOST or not level_after(gate, lost):
            raise UserError(
                f"No number of items promotes a gain of {gain:g} with a chance of {wanted:g} after {lost} looks: ask "
                "for a larger gain, or for another gate.spend."
            )
    few = enough // 2
    while enough - few > max(1, enough // 200):
        middle = (few + enough) // 2
        few, enough = (few, middle) if promotes(gate, middle, gain, discordance, lost) >= wanted else (middle, enough)
    return enough


def check(accuracy: float, gain: float, discordance: float) -> None:
    """Raise ``UserError`` for numbers that no two policies have."""
    if not (gain > 0 and accuracy >= 0 and accuracy + gain <= 1):
        raise UserError(
            f"From an accuracy of {accuracy:g} there is no gain of {gain:g}: give an accuracy from 0 and a gain above "
            "0 that come to 1 at most."
        )
    most = min(2 * accuracy + gain, 2 - 2 * accuracy - gain)
    if not gain <= discordance <= most:
        raise UserError(
            f"A discordance of {discordance:g} cannot be with an accuracy of {accuracy:g} and a gain of {gain:g}: give "
            f"one from {gain:g} to {most:g}."
        )
