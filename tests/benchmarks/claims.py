"""How often the words and bounds of claims are right: simulated seeds with known means, on one core.

``words``: statements of one to six comparisons whose baselines are all as good as the treatment, so that the statement
is just not true and just not false; or one baseline is, and the others are far worse. How often each word is said.
``equivalent``: arms that differ by exactly the margin in one comparison. ``bounds``: how often each bound of a share's
mean is right, by where it lies and how much the seeds differ. ``constant``: seeds that come to one value but for some
that come to the end of the bounds, which a few seeds may miss. ``power``: how often what a plan calls the least
difference is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
from measuring import publish, seconds, show, wants_small
from scipy import stats
from selfloop.claims import Statement
from selfloop.claims.intervals import ALPHA, interval
from selfloop.claims.judging import Value, judge
from selfloop.claims.planning import POWER, least_difference

SEEDS, COMPARISONS = (5, 10, 20), (1, 3, 6)
MARGIN = 0.02
SHARE = (0.0, 1.0)
TITLES = {
    "words": "Said where the treatment is as good as a baseline, %",
    "equivalent": "'equivalent' at the margin, %",
    "constant": "Bound right where seeds of one value may have missed others, %",
    "power": "'holds' at the least difference of a plan, %",
}
Rng = np.random.Generator
Numbers = np.ndarray[Any, Any]

SPREADS: dict[str, Callable[[Rng, int], Numbers]] = {
    "normal": lambda rng, n: rng.normal(0, 0.05, n),
    "heavy tails": lambda rng, n: 0.03 * rng.standard_t(3, n),
    "steps of 1/20": lambda rng, n: np.round(rng.normal(0, 0.05, n) * 20) / 20,
    "skewed up": lambda rng, n: 0.05 * (rng.exponential(1, n) - 1),
    "skewed down": lambda rng, n: 0.05 * (1 - rng.exponential(1, n)),
}
"""Differences by seed about 0. Those of two arms with equal distributions are symmetric, as the first three are."""
SHARES: dict[str, tuple[float, Callable[[Rng, int], Numbers]]] = {
    ".002, seeds alike, 500 items": (0.002, lambda rng, n: rng.binomial(500, 0.002, n) / 500),
    ".02, seeds alike, 500 items": (0.02, lambda rng, n: rng.binomial(500, 0.02, n) / 500),
    ".02, seeds differ (sd .02)": (0.02, lambda rng, n: rng.binomial(500, rng.beta(0.96, 47.04, n)) / 500),
    ".02, seeds differ (sd .035)": (0.02, lambda rng, n: rng.binomial(500, rng.beta(0.3, 14.7, n)) / 500),
    ".1, seeds differ (sd .03)": (0.1, lambda rng, n: rng.binomial(500, rng.beta(9.9, 89.1, n)) / 500),
    ".5, seeds differ (sd .1)": (0.5, lambda rng, n: rng.binomial(500, rng.beta(12, 12, n)) / 500),
    ".98, seeds differ (sd .02)": (0.98, lambda rng, n: rng.binomial(500, rng.beta(47.04, 0.96, n)) / 500),
    "all or nothing, .1": (0.1, lambda rng, n: (rng.random(n) < 0.1).astype(float)),
    "all or nothing, .5": (0.5, lambda rng, n: (rng.random(n) < 0.5).astype(float)),
    "all or nothing, .9": (0.9, lambda rng, n: (rng.random(n) < 0.9).astype(float)),
    "about .5, one seed in twenty at 0": (
        0.475,
        lambda rng, n: np.where(rng.random(n) < 0.05, 0.0, rng.beta(100, 100, n)),
    ),
}
"""A mean, and how values by seed with this mean are drawn."""


def counted(happened: Iterable[bool], **case: Any) -> dict[str, Any]:
    """One case: how often something happened, with the exact interval at 95 %."""
    all_of_them = list(happened)
    hits, times = sum(all_of_them), len(all_of_them)
    between = stats.binomtest(hits, times).proportion_ci(0.95)
    return {**case, "rate": hits / times, "low": float(between.low), "high": float(between.high)}


def word(statement: Statement, differences: Sequence[Numbers]) -> str:
    """What is said of an arm that differs so from its baselines, by seed, in one setup."""
    arms = {statement.treatment: np.zeros(len(differences[0]))}
    arms |= {arm: -each for arm, each in zip(statement.baselines, differences, strict=True)}
    values = {("s", arm): [Value(seed, float(v)) for seed, v in enumerate(some)] for arm, some in arms.items()}
    return judge(statement, ["s"], values).word


def against(number: int, **more: Any) -> Statement:
    """A statement of an arm and so many baselines."""
    return Statement("It is so.", "m", "new", tuple(f"baseline {each}" for each in range(number)), **more)


def words(times: int, rng: Rng) -> list[dict[str, Any]]:
    """How often a statement is said to hold, or not to, whose treatment is as good as one baseline or as all."""
    found = []
    for seeds, number, (name, draw), gap in product(SEEDS, COMPARISONS, SPREADS.items(), (0.0, 10.0)):
        if number == 1 and gap:
            continue
        statement = against(number)
        said = [word(statement, [draw(rng, seeds) + gap * bool(at) for at in range(number)]) for _ in range(times)]
        case = {"seeds": seeds, "comparisons": number, "spread": name, "others": "far worse" if gap else "as good"}
        found += [counted((each == what for each in said), **case, word=what) for what in ("holds", "does not hold")]
    return found


def equivalent(times: int, rng: Rng) -> list[dict[str, Any]]:
    """How often arms that differ by the margin from one baseline, and not from the others, are called equivalent."""
    found = []
    for seeds, number, scale in product(SEEDS, COMPARISONS, (0.1, 0.3, 1.0)):
        statement = against(number, better="same", margin=MARGIN)
        off = [MARGIN, *[0.0] * (number - 1)]
        said = [word(statement, [rng.normal(each, scale * MARGIN, seeds) for each in off]) for _ in range(times)]
        case = {"seeds": seeds, "comparisons": number, "sd_over_margin": scale}
        found.append(counted((each == "equivalent" for each in said), **case))
    return found


def bounds(times: int, rng: Rng) -> list[dict[str, Any]]:
    """How often each bound of a share's mean is right."""
    found = []
    for seeds, (name, (mean, draw)) in product(SEEDS, SHARES.items()):
        made = [interval(draw(rng, seeds).tolist(), SHARE) for _ in range(times)]
        found.append(
            {
                "share": name,
                "seeds": seeds,
                "lower": sum(each.low <= mean + 1e-9 for each in made) / times,
                "upper": sum(each.high >= mean - 1e-9 for each in made) / times,
                "mean_width": float(np.mean([each.high - each.low for each in made])),
            }
        )
    return found


def constant(times: int, rng: Rng) -> list[dict[str, Any]]:
    """How often a bound is right against what seeds of one value may have missed: others, at the end of the bounds."""
    found = []
    for seeds, value, missing in product(SEEDS, (0.0, 0.3, 1.0), (0.05, 0.2, 0.4)):
        end = 0.0 if value > 0.5 else 1.0
        mean = value + missing * (end - value)
        drawn = np.where(rng.random((times, seeds)) < missing, end, value)
        made = [interval(each, SHARE) for each in drawn.tolist()]
        right = (each.low <= mean + 1e-9 if end < value else each.high >= mean - 1e-9 for each in made)
        found.append(counted(right, seeds=seeds, value=value, missing=missing))
    return found


def power(times: int, rng: Rng) -> list[dict[str, Any]]:
    """How often a statement holds whose differences are all the least that a plan promises to find."""
    found = []
    for seeds, number in product(SEEDS, COMPARISONS):
        statement, least = against(number), least_difference(0.05, seeds, 1 - (1 - POWER) / number)
        said = [word(statement, [rng.normal(least, 0.05, seeds) for _ in range(number)]) for _ in range(times)]
        case = {"seeds": seeds, "comparisons": number, "least_over_sd": round(least / 0.05, 3)}
        found.append(counted((each == "holds" for each in said), **case))
    return found


def percent(rate: float) -> str:
    """A rate in percent."""
    return f"{100 * rate:.1f}"


def main() -> None:
    """Simulate, print, write."""
    small = wants_small(__doc__)
    times, rng = 20 if small else 1000, np.random.default_rng(20_261)
    found: dict[str, list[dict[str, Any]]] = {}

    def simulate() -> None:
        for measure in (words, equivalent, constant, power, bounds):
            found[measure.__name__] = measure(times, rng)

    took = seconds(simulate)
    for name, title in TITLES.items():
        about = [key for key in found[name][0] if key not in ("rate", "low", "high")]
        show(title, [*about, "%"], ([*(each[key] for key in about), percent(each["rate"])] for each in found[name]))
    show(
        "Bounds of a share's mean that are right, %",
        ("share", "seeds", "lower", "upper", "width"),
        (
            (e["share"], e["seeds"], percent(e["lower"]), percent(e["upper"]), f"{e['mean_width']:.3f}")
            for e in found["bounds"]
        ),
    )
    publish("claims", small, {"alpha": ALPHA, "times": times, "seconds": took, **found})


if __name__ == "__main__":
    main()
