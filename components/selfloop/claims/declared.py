"""What a recipe declares of its paper: sentences, and the runs that they are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Literal, NamedTuple, NoReturn

LEAST_SEEDS = 5
"""Test seeds that a claim is measured on at least."""
ENOUGH_SEEDS = 10
"""Test seeds that a claim should be measured on: what has fewer says so."""


class Room(NamedTuple):
    """Where a statement says that a mean lies, or the mean of a difference; its ends belong to it."""

    low: float
    high: float

    @property
    def ends(self) -> int:
        """How many of its ends are somewhere."""
        return isfinite(self.low) + isfinite(self.high)


@dataclass(frozen=True)
class Statement:
    """One sentence, and the comparison that would bear it out.

    ``metric`` is a key of the recipe's ``figures``. With ``baselines``, the ``treatment`` should have it ``better``
    than each of them, by seed, in each of the ``setups`` (all of them where none is named), or the ``same``; with
    ``within``, the mean of the treatment should lie in that range. Differences below the ``margin`` do not matter: it
    is stated before the runs. ``bounds`` are the least and the highest value that the metric can have, (0, 1) for a
    share. ``missing`` is the value of a run that never came to one: NaN in the figures, or halted by a guard; the
    budget's end for "steps to the target".
    """

    sentence: str
    metric: str
    treatment: str
    baselines: tuple[str, ...] = ()
    better: Literal["higher", "lower", "same"] = "higher"
    within: tuple[float, float] | None = None
    setups: tuple[str, ...] = ()
    missing: float | None = None
    margin: float | None = None
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if bool(self.baselines) == (self.within is not None):
            self._refuse("needs baselines or a range, one of the two.")
        for what, pair in (("range", self.within), ("bounds", self.bounds)):
            if pair and not pair[0] < pair[1]:
                self._refuse(f"has the {what} {pair}, which holds nothing.")
        if self.within and not self.room.ends:
            self._refuse(f"has the range {self.within}, which its bounds {self.bounds} are in: narrow it.")
        if self.bounds and not all(map(isfinite, self.bounds)):
            self._refuse(f"has the bounds {self.bounds}: give two numbers, or none.")
        if self.treatment in self.baselines:
            self._refuse(f"compares arm '{self.treatment}' with itself.")
        if self.missing is not None and not isfinite(self.missing):
            self._refuse(f"counts a missing value as {self.missing}: give a number.")
        if self.bounds and self.missing is not None and not self.bounds[0] <= self.missing <= self.bounds[1]:
            self._refuse(f"counts a missing value as {self.missing}, beyond its bounds {self.bounds}: widen them.")
        self._check_margin()

    def _check_margin(self) -> None:
        if self.within and (self.margin is not None or self.better == "same"):
            self._refuse("has a range, which needs no margin and is not 'same' as anything: leave that out.")
        if self.better == "same" and self.margin is None:
            self._refuse("says that arms are the same: give the margin below which a difference does not matter.")
        if self.margin is not None and not 0 < self.margin < inf:
            self._refuse(f"has the margin {self.margin}: give a number above 0.")

    def _refuse(self, why: str) -> NoReturn:
        raise TypeError(f"Claim '{self.sentence}' {why}")

    @property
    def room(self) -> Room:
        """Where the mean, or each difference of treatment less baseline, should lie; beyond its bounds nothing can."""
        if self.within:
            (low, high), (least, most) = self.within, self.bounds or (-inf, inf)
            return Room(-inf if low <= least else low, inf if high >= most else high)
        return {"higher": Room(0, inf), "lower": Room(-inf, 0)}.get(self.better) or self.negligible

    @property
    def negligible(self) -> Room:
        """The differences that do not matter; an empty room where no margin is stated."""
        return Room(inf, -inf) if self.margin is None else Room(-self.margin, self.margin)

    @property
    def arms(self) -> tuple[str, ...]:
        """The treatment, then what it is compared with."""
        return (self.treatment, *self.baselines)


@dataclass(frozen=True)
class Claims:
    """What a paper claims, and how it is measured: each arm in each setup with each seed is one run.

    ``settings``, then those of the setup, then those of the arm are laid over the recipe's own. What is chosen is
    chosen on the ``tuning`` seeds; the words are said of the ``seeds``.
    """

    arms: Mapping[str, Mapping[str, Any]]
    statements: tuple[Statement, ...]
    tuning: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    setups: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < LEAST_SEEDS:
            raise TypeError(f"Claims need at least {LEAST_SEEDS} test seeds, not {len(set(self.seeds))}.")
        for seeds in (self.seeds, self.tuning):
            if len(set(seeds)) < len(seeds):
                raise TypeError(f"Seeds of claims are given twice: {', '.join(map(str, seeds))}.")
        if both := sorted({*self.seeds} & {*self.tuning}):
            raise TypeError(f"Seed {both[0]} of claims is for tuning and for the test: take another for one of them.")
        if not self.statements or not self.setups:
            raise TypeError("Claims need a statement and a setup.")
        for statement in self.statements:
            for kind, named, known in (
                ("arm", statement.arms, self.arms),
                ("setup", statement.setups, self.setups),
            ):
                if strange := [name for name in named if name not in known]:
                    raise TypeError(
                        f"Claim '{statement.sentence}' names the {kind} '{strange[0]}', which is not there."
                    )

    def setups_of(self, statement: Statement) -> tuple[str, ...]:
        """Where a statement is measured."""
        return statement.setups or tuple(self.setups)

    def overrides(self, setup: str, arm: str, seed: int) -> tuple[Mapping[str, Any], ...]:
        """What is laid over the recipe's settings for one run, the lowest first."""
        return self.settings, self.setups[setup], self.arms[arm], {"seed": seed}

    @property
    def cells(self) -> list[tuple[str, str]]:
        """The setups with the arms that some statement needs there, in the order in which they are declared."""
        needed = {(setup, arm) for each in self.statements for setup in self.setups_of(each) for arm in each.arms}
        return [(setup, arm) for setup in self.setups for arm in self.arms if (setup, arm) in needed]
