"""The tables of docs/guards.md, from the guards and from what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfloop.artifacts import read_json
from selfloop.guards import ALPHA, Guard
from selfloop.promote.gate import GUARDS

ROOT = Path(__file__).parents[2]
PAGE, RESULT = ROOT / "docs" / "guards.md", ROOT / "tests" / "benchmarks" / "results"


def tables() -> list[str]:
    """The tables in their order, as the page has them."""
    found = read_json(RESULT, "guard_life.json")
    return [of_guards(), of_healthy(found), of_planted(found)]


def row(*cells: Any) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


def of_guards() -> str:
    """What each guard measures, its lines, its memory, and the units that halt soon a loop that is half the worst."""
    lines = [row("guard", "statistic", "warns", "halts", "remembers", "units a round")]
    lines.append("|-|-|-|-|-|-:|")
    for name in GUARDS:
        guard = Guard.parse(name)
        side = "≥" if guard.bad == "high" else "≤"
        limits = [f"{side} {line:g}".replace("-", "−") for line in (guard.warn, guard.halt)]
        least = guard.fewest(ALPHA / len(GUARDS))
        lines.append(row(f"`{name}`", guard.statistic, *limits, guard.remembers, f"{least:.0f}"))
    return "\n".join(lines)


def of_healthy(found: Mapping[str, Any]) -> str:
    """How many healthy loops were halted, and how many a guard warned of."""
    lines = [row("loops", "number", "halted, %", "at most, %", "warned of, %", "by"), "|-|-:|-:|-:|-:|-|"]
    for case in found["healthy"]:
        by = ", ".join(f"`{name}` {number}" for name, number in sorted(case["warned_by_guard"].items())) or "–"
        shares = (f"{100 * case[name]:.2f}" for name in ("rate", "high"))
        lines.append(row(case["loop"], f"{case['loops']:,}", *shares, f"{100 * case['warned']:.1f}", by))
    return "\n".join(lines)


def of_planted(found: Mapping[str, Any]) -> str:
    """How many loops that went wrong were halted within five rounds, by guard and size."""
    sizes = list(found["sizes"])
    lines = [row("guard", "loops", *(f"{size}, %" for size in sizes), *(f"{size}, rounds" for size in sizes))]
    lines.append(f"|-|-:|{'-:|' * (2 * len(sizes))}")
    for guard in found["faults"]:
        cases = [case for size in sizes for case in found["planted"] if (case["guard"], case["size"]) == (guard, size)]
        shares = (f"{100 * case['rate']:.1f} ({100 * case['low']:.1f}–{100 * case['high']:.1f})" for case in cases)
        rounds = (f"{case['rounds']:g}" if case["rounds"] else "–" for case in cases)
        lines.append(row(f"`{guard}`", cases[0]["loops"], *shares, *rounds))
    return "\n".join(lines)


if __name__ == "__main__":
    print("\n\n".join(tables()))
