"""``roles``: what the rounds of a loop with several roles made of each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selfloop.html import number
from selfloop.report.formats import Round
from selfloop.report.sections import RunHistory, Templated


class Roles(Templated):
    """What each round made of each role of a loop that has several."""

    name = "roles"
    title = "Roles"

    def values(self, run: RunHistory) -> Mapping[str, Any] | None:
        """The lanes; nothing of a loop with one role."""
        found = lanes(run.rounds)
        return {"lanes": found} if found else None


class Lane(NamedTuple):
    """What a round made of one of a loop's policies: its digest before and after, and how it was trained."""

    role: str
    before: str
    after: str
    stage: str
    how: str

    @property
    def same(self) -> bool:
        """Whether the round left it as it was."""
        return self.before == self.after


class Bundle(NamedTuple):
    """The candidates of a round, one in each lane, of which all come in force or none."""

    round: int
    verdict: str
    lanes: list[Lane]


def lanes(rounds: Sequence[Round]) -> list[Bundle]:
    """The rounds of a loop with several policies, in the lanes of their roles; none of a loop with one policy."""
    names = list(dict.fromkeys(role["role"] for round in rounds for role in round.get("roles", ())))
    if len(names) < 2:
        return []
    return [
        Bundle(round["round"], round["decision"]["verdict"], [lane(name, round) for name in names]) for round in rounds
    ]


def lane(name: str, round: Round) -> Lane:
    """What a round made of the policy of this role; nothing where it does not tell."""
    for role in round.get("roles", ()):
        if role["role"] == name:
            steps = f"{number(role['steps'])} steps" if role["steps"] else ""
            how = ", ".join(filter(None, (role["method"], steps)))
            return Lane(name, role["before"], role["after"], role["stage"], how)
    return Lane(name, "", "", "", "")
