"""Frames that a hostile program might write in place of its answers, and the judge that is told them.

``python -m tests.sandbox.frames 1000000`` judges so many, of a seed, and prints what came of them.
"""

import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from selfloop.sandbox.judging import plan
from selfloop.sandbox.replies import read_replies
from selfloop.sandbox.zygote import READ, pack
from selfloop.workers import pool

TESTS = (
    "assert f(1) == 7301",
    "assert abs(f(2) - 0.7301) < 1e-9 and len(str(f(2))) < 9",
    "assert sorted(f(3))[0] == 7301 or f(4) % 7 == 7301",
    "x = f(5)\nassert list(x) == [7301] and x in ('7301', {7301: 1})",
    "assert 0 < f(6) < f(7) and isinstance(f(6), int) and f(6) == 7301",
    "assert set(f(8)) == {7301, '7301'} and f(8)[7301:] and not max(f(8), key=len)",
    "assert math.isclose(f(9), 7301) and math.floor(f(9)) ** 7301 and round(f(9), 7301) * 'ab' == dict(f(9))",
    "assert math.gcd(f(10), 7301) and range(f(10)) and ~f(10) & -f(10) | +f(10) ^ 1 == sum(f(10))",
)
"""No frame has the number, so that no test can be passed but by luck that there is none of."""
JUDGE = pool("selfloop.sandbox.judging:work", 1, 0.5, 512)
CALLS = len(plan(TESTS, "f")["calls"])
ATOMS: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: rng.choice(
        [None, True, False, "", "x", "\ud800", "\x1b[2J", "|\n`", "-", 0, -1, 1.5, 10**400, -(10**9)]
    ),
    lambda rng: rng.choice([float("inf"), float("-inf"), float("nan"), 1e308, -0.0, 2**53, 2**63, 10**18]),
    lambda rng: rng.choice(
        ["0x1", "0x" + "f" * 500, "1e999999999", "sNaN", "Infinity", "-0", "ff", "fff", "zz", "1_0"]
    ),
    lambda rng: rng.randrange(-(10**6), 10**6),
    lambda rng: "".join(map(chr, rng.choices(range(1, 0x300), k=rng.randrange(9)))),
)
TAGS = (*READ, "value", "call", "error", "missing", "", "eval", "__class__")


def value(rng: random.Random, depth: int = 0) -> Any:
    """Something that JSON can say, often nearly what a value looks like."""
    kind = rng.randrange(3 if depth < 5 else 1)
    if kind == 0:
        return rng.choice(ATOMS)(rng)
    items = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 1 or rng.random() < 0.1:
        return items
    return {rng.choice(TAGS): rng.choice((items, items[:1], [[item, item] for item in items], value(rng, depth + 1)))}


def returned(rng: random.Random, depth: int = 0) -> Any:
    """Something that a function may return."""
    kind = rng.randrange(9 if depth < 4 else 4)
    if kind < 4:
        plain = (None, True, rng.randrange(-(10**20), 10**20), rng.random() * 10 ** rng.randrange(300), "xy" * kind)
        return rng.choice((*plain, b"ab", 1j, Fraction(1, 3), Decimal("1e999"), range(-1, 50), float("nan"), 7))
    items = [returned(rng, depth + 1) for _ in range(rng.randrange(4))]
    texts = [str(number) for number in range(len(items))]
    as_dict = dict(zip(texts, items, strict=True))
    made = (items, tuple(items), iter(items), as_dict, as_dict.items(), set(texts), deque(items))
    return made[kind - 4 + rng.randrange(3)]


def line(rng: random.Random, number: int, badness: float) -> bytes:
    """A line: an answer, an error, or what is neither."""
    if rng.random() >= badness:
        is_error = rng.random() < 0.05
        said = (
            {"error": rng.choice(("ValueError: x", "\x1b[2J|", "Wrong"))}
            if is_error
            else {"value": pack(returned(rng))}
        )
        return json.dumps({"call": number, **said}).encode()
    frame: Any = {"call": number, rng.choice(("value", "value", "value", "error", "missing")): value(rng)}
    if rng.random() < 0.1:
        frame = rng.choice(({**frame, "more": 1}, {"call": value(rng), "value": value(rng)}, value(rng), [frame]))
    written = bytearray(json.dumps(frame).encode())
    if rng.random() < 0.1:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(written))
            put_in = rng.choice((b"[", b"}", b'"', b"9", rng.randbytes(2)))
            written[at : at + rng.randrange(3)] = put_in
    if rng.random() < 0.001:
        written = bytearray(rng.choice((b"[" * 10**5, b'{"call":' * 10**4, b'"' * 10**5, b"9" * 10**5, b"\x00" * 99)))
    return bytes(written)


def replies(rng: random.Random) -> bytes:
    """What a program writes."""
    badness = rng.choice((0, 0.02, 0.3, 1))
    frames = [line(rng, number, badness) for number in range(rng.choice((CALLS, CALLS, CALLS, 1, CALLS + 1)))]
    return b"\n".join(frames) + rng.choice((b"\n", b"\n", b"\n", b"", b"\n\n"))


def reasons(written: Sequence[bytes]) -> list[str]:
    """The judge's reasons for programs that write this. Fails where the judge raised, or found one right."""
    for each in written:
        read_replies(each)
    texts = [each.decode("utf-8", "replace") for each in written]
    outcomes = JUDGE.map([["grade", TESTS, "f", list(range(CALLS)), "ok", text] for text in texts])
    for outcome, text in zip(outcomes, texts, strict=True):
        assert outcome.failure in ("", "timeout", "out of memory"), (outcome.failure, text)
        assert outcome.failure or outcome.value[:2] == [False, 0.0], (outcome.value, text)
    return [f"not judged: {each.failure}" if each.failure else each.value[2] for each in outcomes]


def main(wanted: int, seed: int = 0) -> None:
    """Judge so many frames."""
    rng, began, done, found = random.Random(seed), time.monotonic(), 0, Counter[str]()
    while done < wanted:
        written = [replies(rng) for _ in range(50)]
        found.update(reasons(written))
        done += sum(each.count(b"\n") for each in written)
    print(f"{done} frames, {sum(found.values())} programs, {time.monotonic() - began:.0f} s; 0 raised, 0 right.")
    for reason, count in found.most_common():
        print(f"{count:9} {reason}")


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(int, sys.argv[2:3]))
