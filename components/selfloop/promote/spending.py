"""Spending: how a loop parts one error budget, for its whole life, among the looks that confirm a candidate.

What is promised is that with a probability of at most ``alpha`` a loop ever confirms a candidate that is not better
than its champion. A look is charged only where its p-value is above ``FREE``: what is not better comes to such a value
at least as often as not, what is better hardly ever does. For this the level of a look is the part 1 - ``FREE`` of what
it would be charged (adaptive spending: Tian and Ramdas, "Online control of the familywise error rate",
arXiv:1910.04900).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import Field

from selfloop.strategies import Strategy

FREE = 0.5
"""A look whose p-value is at most this costs nothing."""


class Ledger(NamedTuple):
    """What a loop's budget has come to: how many looks there were, how many of them were charged and how many
    confirmed, and what is spent.
    """

    looks: int = 0
    charged: int = 0
    confirmed: int = 0
    spent: float = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Ledger:
        """The ledger in a loop's state; a new one where there is none."""
        return cls(**{name: state[name] for name in cls._fields if name in state})

    def after(self, confirmed: bool, charge: float) -> Ledger:
        """The ledger after a look that confirmed or did not, and was charged so much."""
        return Ledger(self.looks + 1, self.charged + (charge > 0), self.confirmed + confirmed, self.spent + charge)


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

    def left(self, ledger: Ledger, alpha: float) -> float:
        """What may still be spent."""
        return max(alpha - ledger.spent, 0.0)

    @abstractmethod
    def level(self, ledger: Ledger, alpha: float) -> float:
        """The largest p-value, or one over the e-value, with which the next look confirms; 0 where none can."""

    @abstractmethod
    def look(self, ledger: Ledger, alpha: float, found: Looked) -> Look:
        """A look with this evidence."""


class Charged(Spend):
    """A budget from which a look takes what it is charged where its p-value is above ``FREE``."""

    @abstractmethod
    def charge(self, ledger: Ledger, alpha: float) -> float:
        """What the next look is charged if it must be: at most what is left."""

    def level(self, ledger: Ledger, alpha: float) -> float:
        """The part of the charge that counts for the looks that are charged nothing."""
        return min((1 - FREE) * self.charge(ledger, alpha), FREE)

    def look(self, ledger: Ledger, alpha: float, found: Looked) -> Look:
        """Confirm where the p-value is at most the level."""
        level = self.level(ledger, alpha)
        confirmed = level > 0 and found.p_value <= level
        charge = self.charge(ledger, alpha) if found.p_value > FREE else 0.0
        return Look(level, confirmed, ledger.after(confirmed, charge), found.p_value)


class Shares(Charged):
    """A budget of which each look that is charged has a share."""

    @abstractmethod
    def __call__(self, look: int) -> float:
        """The share of the budget that a look is charged, the first one being 1. All of them come to 1 at most."""

    def charge(self, ledger: Ledger, alpha: float) -> float:
        """The look's own share, of what is left."""
        share = min(max(self(ledger.charged + 1), 0.0), 1.0)
        return min(alpha * share, self.left(ledger, alpha))


class Harmonic(Shares):
    """A half of the budget for the first charged look, a sixth for the next: 1 / (k (k + 1)), for loops without end."""

    name = "harmonic"

    def __call__(self, look: int) -> float:
        """1/k less 1/(k + 1): all together come to 1."""
        return 1 / (look * (look + 1))


class Even(Shares):
    """The same for each of so many charged looks, and nothing for those behind."""

    name = "even"
    looks: int = Field(10, ge=1, description="Charged looks: a tenth of the rounds, where these learn nothing.")

    def __call__(self, look: int) -> float:
        """An equal part."""
        return 1 / self.looks if look <= self.looks else 0.0


class Investing(Charged):
    """A budget that grows by ``alpha`` with each candidate that is confirmed, but for the first (SAFFRON).

    It promises less than the others, and sees more: a loop that learns nothing ever confirms a candidate with a
    probability of at most ``alpha``; of what a loop confirms that does learn, a share of ``alpha`` is no better, in
    expectation (Ramdas, Zrnic, Wainwright and Jordan, "SAFFRON", arXiv:1802.09098, with a constant stake).
    """

    name = "investing"
    stake: float = Field(0.5, gt=0, le=1, description="The part of what is left that a look may be charged.")

    def left(self, ledger: Ledger, alpha: float) -> float:
        """What the confirmed ones brought, less what is spent."""
        return max(alpha * max(ledger.confirmed, 1) - ledger.spent, 0.0)

    def charge(self, ledger: Ledger, alpha: float) -> float:
        """A constant part of what is left."""
        return self.stake * self.left(ledger, alpha)


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
        lost = 0.0 if confirmed else wealth * max(1 - factor, 0.0)
        return Look(self.level(ledger, alpha), confirmed, ledger.after(confirmed, alpha * lost), e_value)
