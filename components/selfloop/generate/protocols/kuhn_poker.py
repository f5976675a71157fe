"""``kuhn-poker``: one game, of which the policy plays both seats; each reads its own card and the other's moves."""

from __future__ import annotations

from selfloop.environments.kuhn_poker import MOVES, OPEN, PENALTY, SEATS, deal, payoff, view
from selfloop.generate.protocols import Ask, Protocol, Reward, Steps
from selfloop.records import Task

DEALER = "dealer"


class KuhnPoker(Protocol):
    """One game of Kuhn poker, of which the policy plays both seats."""

    name = "kuhn-poker"
    needs = "the environment 'kuhn-poker'"

    def __call__(self, task: Task) -> Steps:
        """Let the seats move in turn, each with one letter, and reward them with what they won.

        What is no move counts as a pass, and costs its seat ``PENALTY``: so both seats write in every game.
        """
        cards, history, fines = deal(task), "", [0.0, 0.0]
        heard = [view(seat, cards[seat], "") for seat in range(2)]
        while history in OPEN:
            seat = OPEN[history]
            wrote = yield Ask(heard[seat], stop_after=tuple(MOVES), role=SEATS[seat], author=DEALER)
            move = wrote.text if wrote.text in tuple(MOVES) else "p"
            fines[seat] += PENALTY * (move != wrote.text)
            history, heard[seat] = history + move, ""
            heard[1 - seat] += move
        won = payoff(cards, history)
        yield Reward(won - fines[0], SEATS[0])
        yield Reward(-won - fines[1], SEATS[1])
