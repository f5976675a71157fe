"""math-verify in selfloop's killable processes against a plain serial loop of the library, on the same items.

The items are a task's answer and a completion as models write them: integers, fractions, decimals, LaTeX expressions,
intervals and sets, two of three right; every pair is another one, so that no cache answers. The serial loop calls
``parse`` and ``verify`` as the library's documentation does, with its own time limits. Both begin warm: what they
import is imported before the clock runs. Both arms must say the same of every item.

Target: at least 1.5 times the serial loop on two cores.
"""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from math_verify import parse, verify
from measuring import in_turns, publish, ratios, seconds, show, spread, wants_small
from selfloop.answers import RIGHT, TARGET, WARM, as_mathematics
from selfloop.workers import Pool, pool

REPEATS = 5
WORKERS = 2
LIMITS = 5.0, 1024
"""Seconds for an answer, and MiB of address space of a process."""

Pair = tuple[str, str]


def pairs(number: int) -> list[Pair]:
    """Answers and completions, the same for the same number."""
    rng = random.Random(0)
    return [KINDS[place % len(KINDS)](rng, place % 3 != 0) for place in range(number)]


def integer(rng: random.Random, right: bool) -> Pair:
    """A number at the end of some text."""
    value = rng.randrange(10**6)
    return str(value), f"We add them up. The final answer is {value + (not right):,}."


def fraction(rng: random.Random, right: bool) -> Pair:
    """A fraction, said as another one."""
    a, b, factor = rng.randrange(1, 99), rng.randrange(100, 999), rng.randrange(2, 9)
    return f"{a}/{b}", rf"So the share is \boxed{{\frac{{{a * factor}}}{{{b * factor + (not right)}}}}}."


def decimal(rng: random.Random, right: bool) -> Pair:
    """A decimal against LaTeX."""
    value = rng.randrange(1, 10**5)
    return f"{value / 1000}", rf"It is $\frac{{{value + (not right)}}}{{1000}}$."


def expression(rng: random.Random, right: bool) -> Pair:
    """A product against the sum that it is."""
    a, b = rng.randrange(2, 99), rng.randrange(2, 99)
    return rf"$x^2+{a + b}x+{a * b}$", rf"Factored: $(x+{a})(x+{b + (not right)})$"


def interval(rng: random.Random, right: bool) -> Pair:
    """An interval with or without its end."""
    low, width = rng.randrange(-99, 99), rng.randrange(1, 99)
    return f"$({low},{low + width}]$", f"All of $({low},{low + width}{']' if right else ')'}$ do."


def finite(rng: random.Random, right: bool) -> Pair:
    """A set in another order."""
    values = rng.sample(range(1000), 4)
    said = [*values[::-1][: 4 if right else 3]]
    return rf"$\{{{','.join(map(str, values))}\}}$", rf"They are $\{{{','.join(map(str, said))}\}}$"


KINDS = (integer, fraction, decimal, expression, interval, finite)


def serial(items: list[Pair]) -> list[bool]:
    """A plain loop."""
    return [verify(parse(answer), parse(completion)) for answer, completion in items]


def pooled(items: list[Pair]) -> list[bool]:
    """The same in killable processes, where it is not plain numbers that are compared."""
    return [outcome.value == RIGHT for outcome in as_mathematics(items, WORKERS, *LIMITS)]


class Took(NamedTuple):
    """Wall seconds of an arm, and the processor's in this process and in the children."""

    wall: float
    cpu: float


def timed(work: partial[list[bool]], children: Pool, said: list[list[bool]]) -> Took:
    """How long one arm takes; what it says is kept."""
    wall, cpu = time.perf_counter(), cpu_seconds(children)
    said.append(work())
    return Took(time.perf_counter() - wall, cpu_seconds(children) - cpu)


def cpu_seconds(children: Pool) -> float:
    """What this process and the pool's children have used by now."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in children.children]
    ticks = sum(int(user) + int(system) for *_, user, system in (field[:13] for field in fields))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    items = pairs(60 if small else 600)
    children = pool(TARGET, WORKERS, *LIMITS, WARM)
    warm = pairs(12)
    serial(warm), pooled(warm)
    said: list[list[bool]] = []
    arms = {
        "serial loop": partial(timed, partial(serial, items), children, said),
        f"{WORKERS} killable processes": partial(timed, partial(pooled, items), children, said),
    }
    took = in_turns(arms, 2 if small else REPEATS)
    assert all(each == said[0] for each in said), "the arms do not agree"
    plain, ours = took.values()
    faster = ratios([each.wall for each in plain], [each.wall for each in ours])
    work = ratios([each.cpu for each in ours], [each.cpu for each in plain])
    one = Pool(TARGET, 1, time_limit=1.0, memory_limit=1024, warm=WARM)
    one.map([WARM])
    cut = seconds(partial(one.map, [("3", None, "$9^{9^{9^{9}}}$"), ("3", "3", "3")]))
    for each in (children, one):
        each.close()
    rates = {name: spread(len(items) / each.wall for each in values) for name, values in took.items()}
    show(
        f"{len(items)} answers, median of {len(plain)} (lowest–highest), {os.cpu_count()} cores",
        ["what", "answers/s"],
        [
            *((name, str(rate)) for name, rate in rates.items()),
            ("ratio, paired", str(faster)),
            ("processor time, of the serial loop's", str(work)),
            ("a limit of 1 s, a kill and the next answer", f"{cut:.2f} s"),
        ],
    )
    numbers = {
        "items": len(items),
        "right": sum(said[0]),
        "workers": WORKERS,
        "answers_per_second": {name: rate._asdict() for name, rate in rates.items()},
        "ratio": faster._asdict(),
        "ratios": [a.wall / b.wall for a, b in zip(plain, ours, strict=True)],
        "cpu_ratio": work._asdict(),
        "seconds_of_a_cut_and_the_next": cut,
        "target": 1.5,
    }
    publish("verifiers", small, numbers)


if __name__ == "__main__":
    main()
