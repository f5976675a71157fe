"""What a loop's error budget keeps, and what it costs: simulated loops over the shipped tests, on one core.

``nothing``: loops whose candidates are as good as the champion; how many ever promote one. ``gains``: loops whose every
candidate is better by as much; how many are promoted, beside the single test at 0.05 of first looks alone.
``clusters``: as ``nothing``, where the items of a cluster are won or lost together; told to the gate or not. ``drift``:
loops of 40 rounds whose every candidate lost some old skill, and is promoted where the guard suite passes.

A first look has ``items`` items, a second one four times as many. Discordance is the share of items that one policy
alone solves. The seeds here were used for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from measuring import console, publish, seconds, wants_small
from scipy import stats
from selfloop.paired import bounds, e_value, mcnemar, shortfall
from selfloop.promote.gate import GateParams
from selfloop.promote.spending import Ledger, Looked, Spend

GATE = GateParams()
SINGLE = 0.05
ITEMS = (448, 1000)
DISCORDANCES = (0.12, 0.3, 0.5)
ROUNDS = (40, 200)
GAIN = 0.02
TOLERANCE, DIFFER = GATE.tolerance, 0.05
"""What a guard suite may lose in all; and the share of its items that two policies differ in beside what was lost."""
GUARDED, STEPS = (240, 480), (0.005, 0.01, 0.02)
AGAINST = (("champion", 0.03), ("champion", TOLERANCE), ("anchor", TOLERANCE))
SIZE = 8
"""Items of a cluster."""

Rng = np.random.Generator
Draw = Callable[[int], tuple[float, Callable[[], float]]]
"""A look at so many items: its p-value, and what a bet came to."""
exact = cache(mcnemar)


@cache
def bet(won: int, lost: int) -> float:
    """The e-value of a look with so many items won and lost."""
    return e_value([1.0] * won + [-1.0] * lost) if won + lost else 1.0


def spendings(rounds: int) -> list[str]:
    """The strategies that are compared."""
    return ["single", "harmonic", f"even,looks={rounds // 10}", "investing", "betting"]


def promoted(rounds: int, items: int, draw: Draw, spelt: str) -> int:
    """Promotions of one loop in which every round's candidate is a new one."""
    found, ledger = 0, Ledger()
    spend = None if spelt == "single" else Spend.parse(spelt)
    for _ in range(rounds):
        p_value, _bet = draw(items)
        if spend is None:
            found += p_value <= SINGLE
        elif p_value <= GATE.screen and spend.level(ledger, GATE.loop_alpha) > 0:
            look = spend.look(ledger, GATE.loop_alpha, Looked(*draw(GATE.confirm * items)))
            found, ledger = found + look.confirmed, look.after
    return found


def plain(rng: Rng, gain: float, discordance: float) -> Draw:
    """Looks at independent items."""
    chances = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]

    def draw(items: int) -> tuple[float, Callable[[], float]]:
        won, lost, _ = rng.multinomial(items, chances).tolist()
        return exact(won, lost), partial(bet, won, lost)

    return draw


def clustered(rng: Rng, discordance: float, told: bool, resamples: int) -> Draw:
    """Looks at items of clusters, each of which is won, lost or left as it is as a whole."""
    chances = [discordance / 2, discordance / 2, 1 - discordance]

    def draw(items: int) -> tuple[float, Callable[[], float]]:
        won, lost, same = rng.multinomial(items // SIZE, chances).tolist()
        if not told:
            return exact(won * SIZE, lost * SIZE), partial(bet, won * SIZE, lost * SIZE)
        differences = [1.0] * won + [-1.0] * lost + [0.0] * same
        return fell(won, lost, same, resamples), partial(e_value, differences)

    return draw


@cache
def fell(won: int, lost: int, same: int, resamples: int) -> float:
    """The bootstrap's p-value of so many clusters won, lost and left as they are."""
    return shortfall([1.0] * won + [-1.0] * lost + [0.0] * same, 0.0, resamples)


def any_of(counts: Sequence[int], **case: Any) -> dict[str, Any]:
    """How many of these loops promoted anything, with the exact interval at 95 %, and promotions a loop."""
    some = sum(count > 0 for count in counts)
    interval = stats.binomtest(some, len(counts)).proportion_ci(0.95)
    rate = {"any": some / len(counts), "low": float(interval.low), "high": float(interval.high)}
    return {**case, **rate, "mean": float(np.mean(counts))}


def loops(number: int, rounds: int, items: int, draw: Draw, spelt: str) -> list[int]:
    """Promotions of so many loops."""
    return [promoted(rounds, items, draw, spelt) for _ in range(number)]


def nothing(number: int, rng: Rng) -> list[dict[str, Any]]:
    """Loops that learn nothing."""
    return [
        any_of(loops(number, rounds, 448, plain(rng, 0.0, d), spelt), rounds=rounds, discordance=d, spend=spelt)
        for rounds, d in product(ROUNDS, DISCORDANCES)
        for spelt in spendings(rounds)
    ]


def gains(number: int, rng: Rng) -> list[dict[str, Any]]:
    """Loops whose candidates are all better."""
    return [
        any_of(loops(number, 40, items, plain(rng, GAIN, d), spelt), items=items, discordance=d, spend=spelt)
        for items, d in product(ITEMS, DISCORDANCES)
        for spelt in spendings(40)
    ]


def clusters(number: int, resamples: int, rng: Rng) -> list[dict[str, Any]]:
    """Loops that learn nothing, with items in clusters."""
    return [
        any_of(loops(number, 40, 448, clustered(rng, d, told, resamples), spelt), discordance=d, told=told, spend=spelt)
        for d, told in product(DISCORDANCES, (True, False))
        for spelt in spendings(40)
    ]


def drift(number: int, resamples: int, rng: Rng) -> list[dict[str, Any]]:
    """What a guard suite has truly lost after 40 rounds, held against the last champion or against the first."""
    found = []
    for items, step, (against, tolerance) in product(GUARDED, STEPS, AGAINST):
        lost = np.array([drifted(items, step, against, tolerance, resamples, rng) for _ in range(number)])
        more = stats.binomtest(int((lost > TOLERANCE).sum()), number).proportion_ci(0.95)
        found.append(
            {
                "items": items,
                "step": step,
                "against": against,
                "tolerance": tolerance,
                "mean": float(lost.mean()),
                "p95": float(np.quantile(lost, 0.95)),
                "worst": float(lost.max()),
                "beyond": float((lost > TOLERANCE).mean()),
                "high": float(more.high),
            }
        )
    return found


def drifted(items: int, step: float, against: str, tolerance: float, resamples: int, rng: Rng) -> float:
    """What one loop lost: each candidate is a ``step`` worse than the champion, give or take as much."""
    lost = 0.0
    for _ in range(40):
        worse = rng.normal(step, step)
        change = -worse - (lost if against == "anchor" else 0.0)
        discordance = DIFFER + abs(change)
        chances = [(discordance + change) / 2, (discordance - change) / 2, 1 - discordance]
        won, fell_, same = rng.multinomial(items, chances).tolist()
        lost += worse * (lower(won, fell_, same, resamples) >= -tolerance)
    return lost


@cache
def lower(won: int, lost: int, same: int, resamples: int) -> float:
    """The lower bound of a guard suite."""
    return bounds([1.0] * won + [-1.0] * lost + [0.0] * same, GATE.confidence, resamples)[0]


def drift_table(cases: Sequence[dict[str, Any]]) -> None:
    """Print what guard suites lost."""
    console.print("\nPoints lost by a guard suite in 40 rounds\n", soft_wrap=True)
    console.print(
        "| items | a candidate loses | against | tolerance | mean | 95 % | worst | beyond 5, % |", soft_wrap=True
    )
    console.print(f"|{'-:|' * 8}", soft_wrap=True)
    for case in cases:
        numbers = " | ".join(f"{100 * case[name]:.1f}" for name in ("mean", "p95", "worst", "beyond"))
        line = f"| {case['items']} | {100 * case['step']:g} | {case['against']} | {case['tolerance']:g} | {numbers} |"
        console.print(line, soft_wrap=True, markup=False)


def table(title: str, cases: Sequence[dict[str, Any]], row: str, value: str, percent: bool) -> None:
    """Print a table in Markdown: a row for each value of a field and discordance, a column for each strategy."""
    spends = list(dict.fromkeys(case["spend"].partition(",")[0] for case in cases))
    console.print(
        f"\n{title}\n\n| {row} | discordance | {' | '.join(spends)} |\n|{'-:|' * (len(spends) + 2)}", soft_wrap=True
    )
    for key in dict.fromkeys((case[row], case["discordance"]) for case in cases):
        found = [case[value] for case in cases if (case[row], case["discordance"]) == key]
        cells = [f"{100 * each:.1f}" if percent else f"{each:.2f}" for each in found]
        console.print(f"| {key[0]} | {key[1]} | {' | '.join(cells)} |", soft_wrap=True, markup=False)


def main() -> None:
    """Simulate, print, write."""
    small = wants_small(__doc__)
    number = {"nothing": 2000, "gains": 500, "clusters": 1000, "drift": 500}
    number = dict.fromkeys(number, 2) if small else number
    resamples, rng, found = 199 if small else 9999, np.random.default_rng(20_261_129), dict[str, list[dict[str, Any]]]()

    def simulate() -> None:
        found["nothing"] = nothing(number["nothing"], rng)
        found["gains"] = gains(number["gains"], rng)
        found["clusters"] = clusters(number["clusters"], resamples, rng)
        found["drift"] = drift(number["drift"], resamples, rng)

    took = seconds(simulate)
    table("Loops without a gain that promote anything, %", found["nothing"], "rounds", "any", True)
    table(f"Candidates promoted of 40, each {100 * GAIN:.0f} points better", found["gains"], "items", "mean", False)
    table("The same without a gain, items in clusters, %", found["clusters"], "told", "any", True)
    drift_table(found["drift"])
    numbers = {"alpha": GATE.loop_alpha, "screen": GATE.screen, "confirm": GATE.confirm, "single": SINGLE}
    publish("gate_life", small, {**numbers, "seconds": took, "resamples": resamples, "loops": number, **found})


if __name__ == "__main__":
    main()
