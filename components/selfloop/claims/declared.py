"""What a recipe declares of its paper: sentences, and the runs that they are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

LEAST_SEEDS = 5
"""Test seeds that a claim is measured on at least."""


@dataclass(frozen=True)
class Statement:
    """One sentence, and the comparison that would bear it out.

    ``metric`` is a key of the recipe's ``figures``. With ``baselines``, the ``treatment`` should have it
    ``better`` than each of them, by seed, in each of the ``setups`` (all of them where none is named); with ``within``,
    the mean of the treatment should lie in that range. ``missing`` is the value of a run that never came to one: NaN in
    the figures, or halted by a guard; the budget's end for "steps to the target".
    """

    sentence: str
    metric: str
    treatment: str
    baselines: tuple[str, ...] = ()
    better: Literal["higher", "lower"] = "higher"
    within: tuple[float, float] | None = None
    setups: tuple[str, ...] = ()
    missing: float | None = None

    def __post_init__(self) -> None:
        if bool(self.baselines) == (self.within is not None):
            raise TypeError(f"Claim '{self.sentence}' needs baselines or a range, one of the two.")
        if self.within and not self.within[0] < self.within[1]:
            raise TypeError(f"Claim '{self.sentence}' has the range {self.within}, which holds nothing.")
        if self.treatment in self.baselines:
            raise TypeError(f"Claim '{self.sentence}' compares arm '{self.treatment}' with itself.")
        if self.missing is not None and not isfinite(self.missing):
            raise TypeError(f"Claim '{self.sentence}' counts a missing value as {self.missing}: give a number.")

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
