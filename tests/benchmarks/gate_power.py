"""How often the gate sees what is there: simulated rounds with a known difference between the policies, on one core.

``better``: a target suite with one sample an item, margin 0, tested by McNemar's exact test. Discordance is the share
of items that one policy alone solves; the gain is the candidate's share of them less the champion's. ``no_worse``: a
guard suite with one sample an item and the gate's tolerance, by the bootstrap; a candidate that fell by it passes as
often as the gate may err. ``samples``: a target suite whose items have chances of their own, many of them near 0 or 1
(Beta(0.5, 0.5)); the candidate's are the champion's, shifted by as much in log-odds as makes 3 points on average.

All at a confidence of 0.95. A gate with guard suites promotes less often than its target suite passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from measuring import console, publish, seconds, wants_small
from scipy import optimize, special, stats
from selfloop.paired import bounds, mcnemar
from selfloop.promote.gate import GateParams

ITEMS = (200, 500, 1000, 2000, 5000)
DISCORDANCES = (0.05, 0.12, 0.30)
GAINS = (0.0, 0.01, 0.02, 0.03, 0.05)
SAMPLES = (1, 2, 4, 8)
CONFIDENCE, TOLERANCE = 0.95, GateParams().tolerance
CHANGES = (0.0, -0.02, -TOLERANCE)
CURVE = np.linspace(0.0005, 0.9995, 1000)

Numbers = np.ndarray[Any, Any]
p_value = cache(mcnemar)


@cache
def lower(won: int, lost: int, items: int, resamples: int) -> float:
    """The lower bound of the gain on a suite with one sample an item."""
    return bounds([1.0] * won + [-1.0] * lost + [0.0] * (items - won - lost), CONFIDENCE, resamples)[0]


def counts(items: int, gain: float, discordance: float, rounds: int, rng: np.random.Generator) -> list[list[int]]:
    """Items that only the candidate and only the champion solved, in each round."""
    chances = [(discordance + gain) / 2, max((discordance - gain) / 2, 0.0), 1 - discordance]
    found: list[list[int]] = rng.multinomial(items, chances, size=rounds)[:, :2].tolist()
    return found


def measured(passed: Sequence[bool], **case: float) -> dict[str, float]:
    """One case: how often it passed, with the exact interval at 95 %."""
    interval = stats.binomtest(sum(passed), len(passed)).proportion_ci(0.95)
    return {**case, "rate": sum(passed) / len(passed), "low": float(interval.low), "high": float(interval.high)}


def better(rounds: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """McNemar's test of the target suite."""
    return [
        measured(
            [p_value(won, lost) <= 1 - CONFIDENCE for won, lost in counts(items, gain, discordance, rounds, rng)],
            items=items,
            gain=gain,
            discordance=discordance,
        )
        for items, gain, discordance in product(ITEMS, GAINS, DISCORDANCES)
        if gain <= discordance
    ]


def no_worse(rounds: int, resamples: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """The bootstrap of a guard suite."""
    return [
        measured(
            [
                lower(won, lost, items, resamples) >= -TOLERANCE
                for won, lost in counts(items, change, discordance, rounds, rng)
            ],
            items=items,
            gain=change,
            discordance=discordance,
        )
        for items, change, discordance in product(ITEMS, CHANGES, DISCORDANCES)
    ]


def shift_for(gain: float) -> float:
    """The log-odds that raise the mean of chances spread as Beta(0.5, 0.5) by ``gain``."""
    chances = stats.beta.ppf(CURVE, 0.5, 0.5)
    return float(optimize.brentq(lambda s: np.mean(special.expit(special.logit(chances) + s) - chances) - gain, 0, 9))


def with_samples(rounds: int, resamples: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """The bootstrap of the target suite with several samples an item, and McNemar's test with one."""
    shift, found = shift_for(0.03), []
    for items, samples in product(ITEMS, SAMPLES):
        passed = []
        for _ in range(rounds):
            champion = rng.beta(0.5, 0.5, items)
            candidate = special.expit(special.logit(champion) + shift)
            differences = rng.binomial(samples, candidate) - rng.binomial(samples, champion)
            if samples == 1:
                won, lost = int(np.sum(differences > 0)), int(np.sum(differences < 0))
                passed.append(p_value(won, lost) <= 1 - CONFIDENCE)
            else:
                passed.append(bounds((differences / samples).tolist(), CONFIDENCE, resamples)[0] >= 0)
        found.append(measured(passed, items=items, samples=samples, gain=0.03))
    return found


def percent(rate: float) -> str:
    """A rate in whole percent."""
    return "> 99" if 0.995 <= rate < 1 else "< 1" if 0 < rate < 0.005 else f"{100 * rate:.0f}"


def markdown(
    title: str, cases: Sequence[Mapping[str, float]], column: str, label: Callable[[float], str], within: str = ""
) -> None:
    """Print a table of percents: items down, one field across, another one within the cells."""
    values = list(dict.fromkeys(case[column] for case in cases))
    console.print(f"\n{title}\n", soft_wrap=True)
    console.print(f"| items | {' | '.join(map(label, values))} |\n|-:|{'-:|' * len(values)}", soft_wrap=True)
    for items in ITEMS:
        cells = []
        for value in values:
            known = [case for case in cases if case["items"] == items and case[column] == value]
            inner = dict.fromkeys(case[within] for case in cases) if within else {0: None}
            rates = {case.get(within, 0): percent(case["rate"]) for case in known}
            cells.append(" / ".join(rates.get(each, "–") for each in inner))
        console.print(f"| {items:,} | {' | '.join(cells)} |", soft_wrap=True, markup=False)


def points(gain: float) -> str:
    """A gain in points, with its sign."""
    return f"{100 * gain:+z.0f}" if gain else "0"


def main() -> None:
    """Simulate, print, write."""
    small = wants_small(__doc__)
    rounds = {"better": 100 if small else 10_000, "no_worse": 20 if small else 1000, "samples": 20 if small else 500}
    resamples, rng = 199 if small else 9999, np.random.default_rng(20_260)
    found: dict[str, list[dict[str, float]]] = {}

    def simulate() -> None:
        found["better"] = better(rounds["better"], rng)
        found["no_worse"] = no_worse(rounds["no_worse"], resamples, rng)
        found["samples"] = with_samples(rounds["samples"], resamples, rng)

    took = seconds(simulate)
    at = f"discordance {' / '.join(map(str, DISCORDANCES))}"
    markdown(f"Promoted, % of rounds, by true gain in points; {at}", found["better"], "gain", points, "discordance")
    markdown(f"Guard suite passed, %, by true change; {at}", found["no_worse"], "gain", points, "discordance")
    markdown("Promoted, %, at +3 points, by samples an item", found["samples"], "samples", lambda n: f"{n:.0f}")
    numbers = {"confidence": CONFIDENCE, "tolerance": TOLERANCE, "seconds": took, "resamples": resamples}
    publish("gate_power", small, {**numbers, "rounds": rounds, **found})


if __name__ == "__main__":
    main()
