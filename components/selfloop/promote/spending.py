"""Spending: how a loop parts one error budget, for its whole life, among the looks that confirm a candidate.

What is promised is that with a probability of at most ``alpha`` a loop ever confirms a candidate that is not better
than its champion. A look that confirms costs nothing: its level goes on to the next look (online fallback, Tian and
Ramdas, arXiv:1910.04900). A look that does not has spent its level for good.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import Field

from selfloop.strategies import Strategy


class Ledger(NamedTuple):
    """What a loop's budget has come to: how many looks there were, what the last one, which confirmed, left to the
    next, and what is spent of ``alpha``.
    """

    looks: int = 0
    carried: float = 0.0
    spent: float = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Ledger:
        """The ledger in a loop's state; a new one where there is none."""
        return cls(**{name: state[name] for name in cls._fields if name in state})


class Look(NamedTuple):
    """One confirming look: the level that its p-value was held against, whether it confirmed, the ledger then, and its
    p-value or e-value.
    """

    level: float
    confirmed: bool
    after: Ledger
    value: float


class Looked(NamedTuple):
    """The evidence of a look that a strategy may ask for: a p-value, and what a bet came to."""

    p_value: float
    e_value: Callable[[], float]


class Spend(Strategy):
    """How an error budget is parted among the looks that confirm."""

    kind = "spending"
    plural = "spendings"
    package = __name__

    @classmethod
    def base_of_functions(cls) -> type[Strategy]:
        """A function of one's own gives the share of each look."""
        return Shares

    @abstractmethod
    def level(self, ledger: Ledger, alpha: float) -> float:
        """The largest p-value, or one over the e-value, with which the next look confirms; 0 where none can."""

    @abstractmethod
    def look(self, ledger: Ledger, alpha: float, found: Looked) -> Look:
        """A look with this evidence."""


class Shares(Spend):
    """A budget of which each look has a share."""

    @abstractmethod
    def __call__(self, look: int) -> float:
        """The share of the budget that a look brings, the first one being 1. All of them come to 1 at most."""

    def level(self, ledger: Ledger, alpha: float) -> float:
        """The look's own share, of what was never given out, and what the look before left."""
        share = min(max(self(ledger.looks + 1), 0.0), 1.0)
        return min(alpha * share, alpha - ledger.spent - ledger.carried) + ledger.carried

    def look(self, ledger: Ledger, alpha: float, found: Looked) -> Look:
        """Confirm where the p-value is at most the level."""
        level = self.level(ledger, alpha)
        confirmed = level > 0 and found.p_value <= level
        carried, spent = (level, ledger.spent) if confirmed else (0.0, ledger.spent + level)
        return Look(level, confirmed, Ledger(ledger.looks + 1, carried, min(spent, alpha)), found.p_value)


class Harmonic(Shares):
    """A half of the budget for the first look, then a sixth, a twelfth: 1 / (k (k + 1)), for a loop without an end."""

    name = "harmonic"

    def __call__(self, look: int) -> float:
        """1/k less 1/(k + 1): all together come to 1."""
        return 1 / (look * (look + 1))


class Even(Shares):
    """The same for each of so many looks, and nothing for those behind."""

    name = "even"
    looks: int = Field(40, ge=1, description="Looks among which the budget is parted: the rounds at most.")

    def __call__(self, look: int) -> float:
        """An equal part."""
        return 1 / self.looks if look <= self.looks else 0.0


class Betting(Spend):
    """One anytime-valid test over the loop's life: a wealth of 1 is bet on each look, and 1/alpha confirms.

    What a look gains is never carried to another candidate, what it loses is gone; so the wealth is at most that of
    one who bets on false gains alone, which comes to 1/alpha with a probability of at most alpha (Ville's inequality;
    Ramdas et al., arXiv:2210.01948).
    """

    name = "betting"
    stake: float = Field(0.1, gt=0, le=1, description="The part of the wealth that is bet in a look.")

    def level(self, ledger: Ledger, alpha: float) -> float:
        """One over the e-value that would confirm."""
        wealth = 1 - ledger.spent / alpha
        return self.stake / max(1 / alpha / wealth - (1 - self.stake), self.stake) if wealth > 0 else 0.0

    def look(self, ledger: Ledger, alpha: float, found: Looked) -> Look:
        """Confirm where the wealth would come to 1/alpha."""
        wealth, e_value = 1 - ledger.spent / alpha, found.e_value()
        factor = 1 - self.stake + self.stake * e_value
        confirmed = wealth * factor >= 1 / alpha
        after = wealth if confirmed else wealth * min(factor, 1.0)
        return Look(self.level(ledger, alpha), confirmed, Ledger(ledger.looks + 1, 0.0, alpha * (1 - after)), e_value)
