"""``samples``: tasks with the attempts at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from selfloop.html import number
from selfloop.report.formats import Round
from selfloop.report.sections import RunHistory, Templated

TEXT_HEAD, TEXT_TAIL = 700, 300
"""Characters of a longer text that are shown."""
DISTINCT_ATTEMPTS = 8
"""Different attempts at a task that are shown."""
SAMPLED_CHARACTERS = 300_000
"""Characters of markup that samples may take, from the newest round backwards."""


class Samples(Templated):
    """Some tasks of each round, the attempts at them, and what the verifier said."""

    name = "samples"
    title = "Samples"
    tasks: int = Field(6, ge=0, description="Tasks of a round whose attempts are shown.")

    def values(self, run: RunHistory) -> Mapping[str, Any]:
        """The samples of the newest rounds."""
        return {"rounds": run.rounds, "samples": samples(run.rounds)}

    @classmethod
    def filters(cls) -> tuple[Callable[..., Any], ...]:
        """How a long text is cut."""
        return (clipped,)


class Attempt(NamedTuple):
    """Attempts that say the same and were judged the same. ``differs`` where the truth contradicts the verifier."""

    completion: str
    ok: bool | None
    reason: str
    differs: bool
    times: int


class Sample(NamedTuple):
    """A task with its different attempts, and how many more there were than are shown."""

    level: int
    prompt: str
    answer: str
    attempts: list[Attempt]
    more: int


class RoundSamples(NamedTuple):
    """What a round shows of its tasks."""

    round: int
    tasks: list[Sample]

    @property
    def differing(self) -> int:
        """The attempts that the verifier and the truth do not agree about."""
        return sum(attempt.times for task in self.tasks for attempt in task.attempts if attempt.differs)

    @property
    def characters(self) -> int:
        """The markup that the texts need."""
        from markupsafe import escape

        texts = [text for task in self.tasks for text in (task.prompt, task.answer)]
        texts += [attempt.completion for task in self.tasks for attempt in task.attempts]
        return sum(len(escape(part)) for text in texts for part in clipped(text))


def samples(rounds: Sequence[Round]) -> list[RoundSamples]:
    """The samples of the newest rounds, as many as the file has room for, in the order of the rounds."""
    shown: list[RoundSamples] = []
    room = SAMPLED_CHARACTERS
    for round in reversed(rounds):
        found = RoundSamples(round["round"], [sample(task) for task in round["samples"]])
        room -= found.characters
        if shown and room < 0:
            break
        shown.append(found)
    return shown[::-1]


def sample(task: Mapping[str, Any]) -> Sample:
    """A task with its attempts, those that are alike counted."""
    judged = [
        (a["completion"], a["ok"], a["reason"], None not in (a["ok"], a["truth"]) and a["truth"] != a["ok"])
        for a in task["attempts"]
    ]
    attempts = [Attempt(*what, times=times) for what, times in Counter(judged).items()]
    more = sum(attempt.times for attempt in attempts[DISTINCT_ATTEMPTS:])
    return Sample(task["level"], task["prompt"], task["answer"], attempts[:DISTINCT_ATTEMPTS], more)


def clipped(text: str) -> tuple[str, str, str]:
    """A text's head, the number of characters left out and its tail; of a short text the whole and two blanks."""
    left_out = len(text) - TEXT_HEAD - TEXT_TAIL
    if left_out <= 0:
        return text, "", ""
    return text[:TEXT_HEAD], number(left_out), text[-TEXT_TAIL:]
