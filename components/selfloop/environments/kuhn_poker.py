"""Kuhn poker: two seats, three cards, one bet (Kuhn 1950). ``kFJ:pbp`` is what the first seat reads and writes.

Each seat antes a chip and is dealt a card of J < Q < K. ``p`` passes (checks or folds), ``b`` bets or calls, one chip.
The game is zero-sum, and worth -1/18 to the first seat where both play as well as can be. Its 12 information sets are
few enough to compute exactly what a strategy is worth, and what the best answer to it takes (``exploitability``).
"""

import json
import random
from collections.abc import Mapping
from itertools import permutations, product
from typing import NamedTuple

from selfloop.environments import Environment, Grade
from selfloop.records import Task
from selfloop.seeds import seed_of

CARDS, SEATS, MOVES = "JQK", ("F", "S"), "pb"
DEALS = [f"{a}{b}" for a, b in permutations(CARDS, 2)]
OPEN = {"": 0, "p": 1, "b": 1, "pb": 0}
"""The histories that do not end the game, and whose turn it is."""
PENALTY = 2.0
"""What a text that is no move costs: as much as a called bet that is lost."""
VALUE = -1 / 18
"""What the game is worth to the first seat where both seats play as well as can be."""
Strategy = Mapping[str, float]
"""The chance of ``b`` at each information set: what its seat has read and written so far, such as ``SK:p``."""


class KuhnPoker(Environment):
    """A game of cards for two seats."""

    name = "kuhn-poker"
    summary = "Kuhn poker, which one policy plays on both seats; how far it can be exploited is exact"
    alphabet = "kFSJQKpb:"
    game = True

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        """Deals, whose prompt tells nothing of them: each seat is told its own card as it plays."""
        rng = random.Random(seed)
        return [_task(f"kuhn-{seed:x}-{n}", "k", rng.choice(DEALS)) for n in range(count)]

    @property
    def apart(self) -> bool:
        """Deals to be judged on are told by their number, and all others read alike."""
        return True

    def held_out(self, level: int, count: int, seed: int) -> list[Task]:
        """Deals that candidate and champion are compared on: no player reads their prompts, which name them."""
        rng = random.Random(seed)
        return [_task(f"kuhn-item-{seed:x}-{n}", f"k{spelt(seed)}k{spelt(n)}", rng.choice(DEALS)) for n in range(count)]

    def demonstration(self, task: Task) -> str:
        """What one seat reads and writes in a game of random moves, up to its own last: every move is as likely."""
        rng, cards = random.Random(seed_of(task.id, "seat")), deal(task)
        seat, history = rng.randrange(2), ""
        while history in OPEN:
            history += rng.choice(MOVES)
        last = len(history) - (len(history) % 2 == seat)
        return view(seat, cards[seat], history[:last])

    def non_policy_spans(self, text: str) -> list[tuple[int, int]]:
        """The seat, the card and the other's moves."""
        seat, (head, _, moves) = SEATS.index(text[0]), text.partition(":")
        others = [len(head) + 1 + n for n in range(len(moves)) if n % 2 != seat]
        return [(0, len(head) + 1), *((place, place + 1) for place in others)]

    def check(self, task: Task, completion: str) -> Grade:
        """A game is won or lost by both seats together: one text alone is never right or wrong."""
        return Grade(False, 0.0, "one seat's text")


def spelt(number: int) -> str:
    """A number in letters of the alphabet."""
    return "".join("FSJQKpb:"[int(digit)] for digit in f"{number:o}")


def _task(id: str, prompt: str, cards: str) -> Task:
    return Task(id, 1, "", prompt, "", max_tokens=2, metadata=json.dumps({"deal": cards}))


def deal(task: Task) -> str:
    """The cards of a task, the first seat's first."""
    return str(json.loads(task.metadata)["deal"])


def view(seat: int, card: str, history: str) -> str:
    """What a seat has read and written after these moves."""
    return f"{SEATS[seat]}{card}:{history}"


def payoff(cards: str, history: str) -> float:
    """What the first seat wins by a finished game, in chips."""
    better = 1.0 if CARDS.index(cards[0]) > CARDS.index(cards[1]) else -1.0
    return {"pp": better, "bb": 2 * better, "pbb": 2 * better, "bp": 1.0, "pbp": -1.0}[history]


def value(first: Strategy, second: Strategy) -> float:
    """What the first seat wins on average, in chips a game."""
    return sum(_expected(cards, "", (first, second)) for cards in DEALS) / len(DEALS)


def _expected(cards: str, history: str, players: tuple[Strategy, Strategy]) -> float:
    if history not in OPEN:
        return payoff(cards, history)
    seat = OPEN[history]
    bet = players[seat][view(seat, cards[seat], history)]
    return bet * _expected(cards, history + "b", players) + (1 - bet) * _expected(cards, history + "p", players)


def information_sets(seat: int) -> list[str]:
    """What a seat may have read and written when it is its turn."""
    return [view(seat, card, history) for card, (history, turn) in product(CARDS, OPEN.items()) if turn == seat]


class Exploited(NamedTuple):
    """What the best answers to a strategy win of it, in chips a game: from the second seat, from the first, and the
    mean of both, which is 0 where the strategy cannot be beaten.
    """

    by_second: float
    by_first: float
    exploitability: float


def exploited(strategy: Strategy) -> Exploited:
    """The best answers to a strategy on both seats, found among all pure ones: 2^6 a seat."""
    by_second = max(-value(strategy, answer) for answer in _pure(1))
    by_first = max(value(answer, strategy) for answer in _pure(0))
    return Exploited(by_second, by_first, (by_second + by_first) / 2)


def _pure(seat: int) -> list[Strategy]:
    names = information_sets(seat)
    return [dict(zip(names, map(float, moves), strict=True)) for moves in product((0, 1), repeat=len(names))]


environment = KuhnPoker
