"""``kuhn-poker``: one game, of which the policy plays both seats; each reads its own card and the other's moves."""

from __future__ import annotations

from selfloop.environments.kuhn_poker import MOVES, OPEN, PENALTY, SEATS, deal, payoff, view
from selfloop.generate.protocols import Ask, Reward, Rules, Steps

DEALER = "dealer"


def protocol(rules: Rules) -> Steps:
    """Let the seats move in turn, each with one letter, and reward them with what they won; what is no move loses."""
    cards, history = deal(rules.task), ""
    heard = [view(seat, cards[seat], "") for seat in range(2)]
    while history in OPEN:
        seat = OPEN[history]
        wrote = yield Ask(heard[seat], marks=tuple(MOVES), role=SEATS[seat], told_by=DEALER)
        heard[seat] = ""
        if wrote.text not in MOVES or not wrote.text:
            yield Reward(-PENALTY, SEATS[seat])
            if history:  # a seat that wrote nothing has no rollout
                yield Reward(PENALTY, SEATS[1 - seat])
            return
        history += wrote.text
        heard[1 - seat] += wrote.text
    won = payoff(cards, history)
    yield Reward(won, SEATS[0])
    yield Reward(-won, SEATS[1])
