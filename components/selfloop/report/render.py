"""A run's history as one HTML document: pure functions shape the rows, ``report.html.j2`` holds the markup.

Completions are text that a model wrote: the template escapes everything, and the document's own policy forbids scripts
and whatever is not in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import escape

Round = Mapping[str, Any]

NUMBERED_LEVELS = 40
"""With more levels than these, the heatmap's cells are too thin for a number."""
TONES = 5
"""Reasons of rejection that have a colour of their own; rarer ones share the last."""
TEXT_HEAD, TEXT_TAIL = 700, 300
"""Characters of a longer text that are shown."""
DISTINCT_ATTEMPTS = 8
"""Different attempts at a task that are shown."""
SAMPLED_CHARACTERS = 300_000
"""Characters of markup that samples may take, from the newest round backwards."""


def render(history: Mapping[str, Any], moments: Sequence[Mapping[str, Any]], measured: Mapping[str, Any] = {}) -> str:
    """The report: one self-contained HTML document, of ``report_round``'s history and its moments.

    ``measured`` is what was measured of the last champion, on items that no decision of the loop was made on.
    """
    rounds: list[Round] = history["rounds"]
    return template().render(
        title=history["title"],
        parameters=history["stages"],
        rounds=rounds,
        facts=[
            *facts(rounds, moments),
            *(Fact(name.capitalize(), str(value), "measured at the end") for name, value in measured.items()),
        ],
        heatmap=heatmap(rounds),
        funnels=funnels(rounds),
        reasons=reasons(rounds),
        samples=samples(rounds),
        times=times(moments),
        times_by_round={moment["round"]: seconds_by_stage([moment]) for moment in moments},
        began=began(moments),
    )


@cache
def template() -> Template:
    """The template beside this module, with the formats that it uses as filters."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "clipped": clipped,
        "decile": decile,
        "duration": duration,
        "number": number,
        "percent": percent,
        "precision": precision,
        "recall": recall,
        "short": short,
        "size": size,
    }
    return environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))


class Fact(NamedTuple):
    """One number of the headline."""

    name: str
    value: str
    note: str


def facts(rounds: Sequence[Round], moments: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """The run in a few numbers; the frontier only where the loop has one."""
    promoted = sum(round["decision"]["promoted"] for round in rounds)
    rollouts = sum(round["rollouts"] for round in rounds)
    kept = sum(sum(round["kept"].values()) for round in rounds)
    audit = Counter[str]()
    for round in rounds:
        audit.update(round["audit"])
    believed = audit["true_positive"] + audit["false_positive"]
    spent = times(moments)
    first, last = frontiers(rounds)[:1], frontiers(rounds)[-1:]
    moved = [Fact("Frontier", f"{first[0]} → {last[0]}", "level mastered")] if first != [None] else []
    return [
        Fact("Rounds", number(len(rounds)), f"{number(sum(round['tasks'] for round in rounds))} tasks"),
        *moved,
        Fact("Promoted", number(promoted), f"{number(len(rounds) - promoted)} rejected"),
        Fact("Rollouts", number(rollouts), "drawn"),
        Fact("Kept", number(kept), f"{percent(kept / rollouts if rollouts else None)} of rollouts"),
        Fact("Precision of kept", percent(precision(audit)), f"of {number(believed)} believed"),
        Fact("Time", duration(sum(row.seconds for row in spent)), "in all stages"),
    ]


def frontiers(rounds: Sequence[Round]) -> list[int | None]:
    """The highest level mastered, at the start and after each round; none where the loop's state has no frontier.

    The target suite of the first round begins one level beyond the frontier that the run started from.
    """
    ends = [round["state"].get("frontier") for round in rounds]
    targets = rounds[0]["suites"].get("target") if rounds else None
    return [min(targets) - 1 if targets and ends[0] is not None else None, *ends]


class Cell(NamedTuple):
    """The accuracy at a level, none where it was not evaluated, and whether the frontier is here."""

    level: int
    accuracy: float | None
    frontier: bool


class Line(NamedTuple):
    """The policy in force after a round, or the one that the run started from."""

    name: str
    promoted: bool
    cells: list[Cell]


class Heatmap(NamedTuple):
    """Accuracy by level, a line for each policy in force."""

    levels: list[int]
    lines: list[Line]

    @property
    def numbered(self) -> bool:
        """Whether cells are wide enough for a number."""
        return len(self.levels) <= NUMBERED_LEVELS


def heatmap(rounds: Sequence[Round]) -> Heatmap:
    """The base policy, then after each round the candidate where it was promoted, else the champion."""
    found: list[tuple[str, bool, dict[int, float]]] = []
    if rounds:
        found.append(("base", True, by_level(rounds[0]["accuracy"]["champion"])))
    for round in rounds:
        promoted = round["decision"]["promoted"]
        accuracy = round["accuracy"]["candidate" if promoted else "champion"]
        found.append((str(round["round"]), promoted, by_level(accuracy)))
    levels = sorted({level for _, _, accuracy in found for level in accuracy})
    lines = [
        Line(name, promoted, [Cell(level, accuracy.get(level), level == frontier) for level in levels])
        for (name, promoted, accuracy), frontier in zip(found, frontiers(rounds), strict=False)
    ]
    return Heatmap(levels, lines)


def by_level(values: Mapping[str, Any]) -> dict[int, Any]:
    """A mapping with the levels as the numbers that they are, in order: JSON has them as text."""
    return dict(sorted((int(level), value) for level, value in values.items()))


class Part(NamedTuple):
    """A part of a round's rollouts; ``tone`` is 0 for what was kept, and tells reasons of rejection apart."""

    name: str
    number: int
    tone: int


class Funnel(NamedTuple):
    """What became of a round's rollouts."""

    round: int
    rollouts: int
    kept: list[Part]
    rejected: list[Part]


def funnels(rounds: Sequence[Round]) -> list[Funnel]:
    """Kept by level and rejected by reason, a round each."""
    tones = reasons(rounds)
    return [
        Funnel(
            round["round"],
            round["rollouts"],
            [Part(f"level {level}", kept, 0) for level, kept in by_level(round["kept"]).items()],
            [Part(name, round["rejected"][name], tone) for name, tone in tones.items() if name in round["rejected"]],
        )
        for round in rounds
    ]


def reasons(rounds: Sequence[Round]) -> dict[str, int]:
    """The run's reasons of rejection, the most frequent first, each with its tone."""
    total = Counter[str]()
    for round in rounds:
        total.update(round["rejected"])
    ordered = sorted(total, key=lambda reason: (-total[reason], reason))
    return {reason: min(place, TONES) for place, reason in enumerate(ordered, 1)}


class Attempt(NamedTuple):
    """Attempts that say the same and were judged the same. ``differs`` where the truth contradicts the verifier."""

    completion: str
    ok: bool
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
    judged = [(a["completion"], a["ok"], a["reason"], a["truth"] not in (None, a["ok"])) for a in task["attempts"]]
    attempts = [Attempt(*what, times=times) for what, times in Counter(judged).items()]
    more = sum(attempt.times for attempt in attempts[DISTINCT_ATTEMPTS:])
    return Sample(task["level"], task["prompt"], task["answer"], attempts[:DISTINCT_ATTEMPTS], more)


def clipped(text: str) -> tuple[str, str, str]:
    """A text's head, the number of characters left out and its tail; of a short text the whole and two blanks."""
    left_out = len(text) - TEXT_HEAD - TEXT_TAIL
    if left_out <= 0:
        return text, "", ""
    return text[:TEXT_HEAD], number(left_out), text[-TEXT_TAIL:]


class StageTime(NamedTuple):
    """A stage over the whole run."""

    stage: str
    seconds: float
    share: float
    peak_bytes: int


def times(moments: Sequence[Mapping[str, Any]]) -> list[StageTime]:
    """Each stage's seconds over the run, its share of them all and its peak memory, in the order they first ran."""
    seconds, peak = seconds_by_stage(moments), Counter[str]()
    for entry in entries(moments):
        peak[entry["stage"]] = max(peak[entry["stage"]], entry["peak_bytes"])
    total = sum(seconds.values())
    return [StageTime(stage, spent, spent / total if total else 0.0, peak[stage]) for stage, spent in seconds.items()]


def seconds_by_stage(moments: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each stage over these rounds."""
    seconds: dict[str, float] = {}
    for entry in entries(moments):
        seconds[entry["stage"]] = seconds.get(entry["stage"], 0.0) + entry["seconds"]
    return seconds


def entries(moments: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The moments that were noted: an artifact that came from elsewhere, such as a policy of the user's, has none."""
    return (entry for moment in moments for entry in moment["stages"] if "stage" in entry)


def began(moments: Sequence[Mapping[str, Any]]) -> datetime | None:
    """When the first stage began."""
    first = min((entry["began"] for entry in entries(moments)), default=None)
    return None if first is None else datetime.fromtimestamp(first, UTC)


def precision(audit: Mapping[str, int]) -> float | None:
    """The share of what the verifier believed that is true; none where it believed nothing."""
    believed = audit["true_positive"] + audit["false_positive"]
    return audit["true_positive"] / believed if believed else None


def recall(audit: Mapping[str, int]) -> float | None:
    """The share of what is true that the verifier believed; none where nothing is true."""
    true = audit["true_positive"] + audit["false_negative"]
    return audit["true_positive"] / true if true else None


def number(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}"


def percent(share: float | None) -> str:
    """A share in percent, which is 100% and 0% only where it is exact."""
    if share is None:
        return "—"
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(share, 0.001), 0.999):.1%}"


def short(accuracy: float) -> str:
    """An accuracy in three characters, which is 1 and 0 only where it is exact."""
    return f"{accuracy:.0f}" if accuracy in (0, 1) else f"{min(accuracy, 0.99):.2f}".lstrip("0")


def decile(accuracy: float) -> int:
    """The shade of an accuracy, from 0 to 10."""
    return round(accuracy * 10)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(number_of_bytes: int) -> str:
    """Bytes in MiB, or GiB from a thousand MiB on."""
    mebibytes = number_of_bytes / 2**20
    return f"{mebibytes:,.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:,.1f} GiB"
