"""A run's history as one HTML document: pure functions shape the rows, ``report.html.j2`` holds the markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Template
from markupsafe import escape

from selfloop import html
from selfloop.html import Fact, figure, moment, number
from selfloop.report.arms import curriculum, named
from selfloop.report.frontier import frontier

Round = Mapping[str, Any]
Compared = Mapping[str, Any]
"""The gate's numbers of a suite: the fields of ``selfloop.promote.gate.Comparison``."""

NUMBERED_LEVELS = 40
"""With more levels than these, the heatmap's cells are too thin for a number."""
TONES = 5
"""Reasons of rejection that have a colour of their own; rarer ones share the last."""
TEXT_HEAD, TEXT_TAIL = 700, 300
"""Characters of a longer text that are shown."""
DISTINCT_ATTEMPTS = 8
"""Different attempts at a task that are shown."""
AUDITS_BY_DIFFICULTY = 10
"""The newest rounds whose label audit is told by difficulty."""
SAMPLED_CHARACTERS = 300_000
"""Characters of markup that samples may take, from the newest round backwards."""


def render(history: Mapping[str, Any], moments: Sequence[Mapping[str, Any]], measured: Mapping[str, Any] = {}) -> str:
    """The report: one self-contained HTML document, of the run's history and its moments.

    ``measured`` is what was measured of the last champion, on items that no decision of the loop was made on.
    """
    rounds: list[Round] = history["rounds"]
    return template().render(
        title=history["title"],
        parameters=history["stages"],
        rounds=rounds,
        facts=[
            *facts(rounds, moments),
            *(Fact(name.capitalize(), figure(value), "measured at the end") for name, value in measured.items()),
        ],
        heatmap=heatmap(rounds),
        arms=curriculum(rounds),
        frontier=frontier(rounds),
        target=axis(suites["target"] for round in rounds if "target" in (suites := round["decision"]["suites"])),
        suites=axis(suite for round in rounds for suite in round["decision"]["suites"].values()),
        guards=watched(rounds),
        warned=warned(rounds),
        lanes=lanes(rounds),
        funnels=funnels(rounds),
        selections=selections(rounds),
        reasons=reasons(rounds),
        audits=audits(rounds),
        samples=samples(rounds),
        times=times(moments),
        times_by_round={moment["round"]: seconds_by_stage([moment]) for moment in moments},
        began=began(moments),
    )


@cache
def template() -> Template:
    """The template beside this module, with the formats that it uses as filters."""
    formats = (
        asked, clipped, decile, duration, error, interval, named, percent, reading, reliability, scores, short, signed,
        size, by_test, target_first,
    )  # fmt: skip
    return html.template("report/report.html.j2", {each.__name__: each for each in formats})


def facts(rounds: Sequence[Round], moments: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """The run in a few numbers; the frontier only where the loop has one."""
    verdicts = Counter(round["decision"]["verdict"] for round in rounds)
    promoted = verdicts.pop("promoted", 0)
    others = ", ".join(f"{number(count)} {verdict}" for verdict, count in verdicts.items())
    rollouts = sum(round["rollouts"] for round in rounds)
    kept = sum(sum(round["kept"].values()) for round in rounds)
    audit = Counter[str]()
    for round in rounds:
        audit.update({name: round["audit"].get(name, 0) for name in ("true_positive", "false_positive")})
    true = audit["true_positive"]
    believed = true + audit["false_positive"]
    spent = times(moments)
    first, last = frontiers(rounds)[:1], frontiers(rounds)[-1:]
    moved = [Fact("Frontier", f"{first[0]} → {last[0]}", "level mastered")] if first != [None] else []
    return [
        Fact("Rounds", number(len(rounds)), f"{number(sum(round['tasks'] for round in rounds))} tasks"),
        *moved,
        Fact("Promoted", number(promoted), others or "none rejected"),
        Fact("Rollouts", number(rollouts), "drawn"),
        Fact("Kept", number(kept), f"{percent(kept / rollouts if rollouts else None)} of rollouts"),
        Fact(
            "Precision of kept",
            percent(true / believed if believed else None),
            f"of {number(believed)} believed",
        ),
        Fact("Time", duration(sum(row.seconds for row in spent)), "in all stages"),
    ]


def frontiers(rounds: Sequence[Round]) -> list[int | None]:
    """The highest level mastered, at the start and after each round; none where the loop's state has no frontier.

    The target suite of the first round begins one level beyond the frontier that the run started from.
    """
    ends = [round["state"].get("progress", {}).get("frontier") for round in rounds]
    targets = rounds[0]["suites"].get("target") if rounds else None
    return [min(targets) - 1 if targets and ends[0] is not None else None, *ends]


class Cell(NamedTuple):
    """The accuracy at a level, none where it was not evaluated, and whether the frontier is here."""

    level: int
    accuracy: float | None
    frontier: bool


class Line(NamedTuple):
    """The policy in force after a round, or the one that the run started from, and what became of the candidate."""

    name: str
    verdict: str
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
    found: list[tuple[str, str, dict[int, float]]] = []
    if rounds:
        found.append(("base", "start", by_level(rounds[0]["accuracy"]["champion"])))
    for round in rounds:
        accuracy = round["accuracy"]["candidate" if round["decision"]["promoted"] else "champion"]
        found.append((str(round["round"]), round["decision"]["verdict"], by_level(accuracy)))
    levels = sorted({level for _, _, accuracy in found for level in accuracy})
    lines = [
        Line(name, verdict, [Cell(level, accuracy.get(level), level == frontier) for level in levels])
        for (name, verdict, accuracy), frontier in zip(found, frontiers(rounds), strict=False)
    ]
    return Heatmap(levels, lines)


def by_level(values: Mapping[str, Any]) -> dict[int, Any]:
    """A mapping with the levels as the numbers that they are, in order: JSON has them as text."""
    return dict(sorted((int(level), value) for level, value in values.items()))


class Axis(NamedTuple):
    """The gains that an interval plot spans."""

    low: float
    high: float

    def at(self, gain: float) -> float:
        """Where a gain lies, in percent of the axis."""
        return round(100 * (gain - self.low) / (self.high - self.low), 1)

    def place(self, compared: Compared) -> dict[str, float]:
        """Where an interval begins and how wide it is, in percent of the axis, as are the gain and the bar."""
        begins = self.at(compared["lower"])
        return {
            "l": begins,
            "w": round(self.at(compared["upper"]) - begins, 1),
            "g": self.at(compared["gain"]),
            "b": self.at(compared["bar"]),
        }


def axis(compared: Iterable[Compared]) -> Axis:
    """The axis on which these intervals, their bars and zero lie, with some room on both sides."""
    ends = [0.0, *(suite[end] for suite in compared for end in ("lower", "upper", "bar"))]
    room = 0.04 * (max(ends) - min(ends)) or 1.0
    return Axis(min(ends) - room, max(ends) + room)


def target_first(suites: Mapping[str, Compared]) -> list[tuple[str, Compared]]:
    """The suites, the target before those that only must not get worse: JSON has them in the order of their names."""
    return sorted(suites.items(), key=lambda named: named[0] != "target")


def scores(compared: Compared) -> list[tuple[str, tuple[float, float]]]:
    """Champion's and candidate's pass@1, pass@2, ..., then maj@k."""
    names = sorted(compared["champion"], key=lambda name: (name.startswith("maj"), int(name.rpartition("@")[2])))
    return [(name, (compared["champion"][name], compared["candidate"][name])) for name in names]


class Watched(NamedTuple):
    """A guard over the run: its lines as it had them last, and its alarm of each round, none where it did not watch."""

    name: str
    warn: str
    halt: str
    alarms: list[Mapping[str, Any] | None]


def watched(rounds: Sequence[Round]) -> list[Watched]:
    """Every guard that watched in some round, in the order in which they came."""
    found: dict[str, Mapping[str, Any]] = {}
    for round in rounds:
        found.update(round["decision"]["guards"])
    return [
        Watched(name, line(alarm, "warn"), line(alarm, "halt"), [r["decision"]["guards"].get(name) for r in rounds])
        for name, alarm in found.items()
    ]


def line(alarm: Mapping[str, Any], name: str) -> str:
    """A guard's line, with the side of it that is bad; where both lines are the same it cannot be told."""
    side = "≥ " if alarm["halt"] > alarm["warn"] else "≤ " if alarm["halt"] < alarm["warn"] else ""
    return f"{side}{alarm[name]:g}".replace("-", "−")


class Warned(NamedTuple):
    """A guard's readings that were yellow or red, by round, and where a person sees more."""

    guard: str
    look: str
    alarms: dict[int, Mapping[str, Any]]


def warned(rounds: Sequence[Round]) -> list[Warned]:
    """The guards with a reading beyond a line, in the order in which they first warned."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for round in rounds:
        for name, alarm in round["decision"]["guards"].items():
            if alarm["level"] != "green":
                found.setdefault(name, {})[round["round"]] = alarm
    return [Warned(name, next(reversed(alarms.values()))["look"], alarms) for name, alarms in found.items()]


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
    names = list(dict.fromkeys(told["role"] for round in rounds for told in round.get("roles", ())))
    if len(names) < 2:
        return []
    return [
        Bundle(round["round"], round["decision"]["verdict"], [lane(name, round) for name in names]) for round in rounds
    ]


def lane(name: str, round: Round) -> Lane:
    """What a round made of the policy of this role; nothing where it does not tell."""
    for told in round.get("roles", ()):
        if told["role"] == name:
            steps = f"{number(told['steps'])} steps" if told["steps"] else ""
            how = ", ".join(filter(None, (told["method"], steps)))
            return Lane(name, told["before"], told["after"], told["stage"], how)
    return Lane(name, "", "", "", "")


class Part(NamedTuple):
    """A part of a round's rollouts; ``tone`` is 0 for what was kept, and tells reasons of rejection apart."""

    name: str
    number: int
    tone: int


class Funnel(NamedTuple):
    """What became of a round's rollouts, and of the examples that were found to be held-out items, by their source."""

    round: int
    rollouts: int
    kept: list[Part]
    rejected: list[Part]
    contaminated: dict[str, int]


def funnels(rounds: Sequence[Round]) -> list[Funnel]:
    """Kept by level and rejected by reason, a round each."""
    tones = reasons(rounds)
    return [
        Funnel(
            round["round"],
            round["rollouts"],
            [Part(f"level {level}", kept, 0) for level, kept in by_level(round["kept"]).items()],
            [Part(name, round["rejected"][name], tone) for name, tone in tones.items() if name in round["rejected"]],
            round["contaminated"],
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


class Audited(NamedTuple):
    """What a round's label audit found; ``strata`` only of the newest rounds."""

    round: int
    whole: Mapping[str, Any]
    strata: list[Mapping[str, Any]]
    bins: list[Mapping[str, Any]]
    notes: Mapping[str, int]


def audits(rounds: Sequence[Round]) -> list[Audited]:
    """The label audits of the rounds in which the truth of a rollout was known."""
    known = [(round["round"], round["audit"]) for round in rounds if round["audit"].get("rollouts")]
    newest = len(known) - AUDITS_BY_DIFFICULTY
    return [
        Audited(number, audit, audit["strata"] if place >= newest else [], audit["bins"], audit["notes"])
        for place, (number, audit) in enumerate(known)
    ]


def reliability(bins: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The dots of a reliability chart: mean score and share that is right, in percent, and size by the rollouts."""
    most = max((each["rollouts"] for each in bins), default=1)
    return [
        {
            "x": round(100 * each["score"], 1),
            "y": round(100 * each["right"], 1),
            "s": round(0.375 + 0.75 * (each["rollouts"] / most) ** 0.5, 3),
        }
        for each in bins
    ]


class Selection(NamedTuple):
    """What reached a selector, and what became of it; ``says`` is what the selector tells of itself."""

    selector: str
    reached: int
    kept: int
    rejected: list[Part]
    says: str


class Selected(NamedTuple):
    """A round's selectors, in their order, and why nothing was kept where that is so."""

    round: int
    rollouts: int
    selections: list[Selection]
    empty: str

    @property
    def kept(self) -> int:
        """The rollouts that passed all selectors."""
        return self.selections[-1].kept


def selections(rounds: Sequence[Round]) -> list[Selected]:
    """The funnels of the rounds that have one, a selector each step; a reason keeps its tone."""
    tones = reasons(rounds)
    return [
        Selected(
            round["round"],
            round["rollouts"],
            [
                Selection(
                    step["selector"],
                    step["in"],
                    step["kept"],
                    [
                        Part(name, step["rejected"][name], tone)
                        for name, tone in tones.items()
                        if name in step["rejected"]
                    ],
                    step["says"],
                )
                for step in round["funnel"]
            ],
            round.get("empty", ""),
        )
        for round in rounds
        if round.get("funnel")
    ]


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
    return None if first is None else moment(first)


def signed(gain: float) -> str:
    """A gain with its sign."""
    return f"{gain:+z.3f}".replace("-", "−")


def interval(compared: Compared) -> str:
    """A gain with the bounds of its interval."""
    return f"{signed(compared['gain'])} [{signed(compared['lower'])}, {signed(compared['upper'])}]"


def by_test(compared: Compared) -> str:
    """The test that a suite was put to, with its p-value where it has one."""
    p = compared["p_value"]
    if p is None:
        return "bootstrap"
    return f"McNemar, p = {p:.2g}" if p >= 0.0001 else "McNemar, p < 0.0001"


def asked(compared: Compared, confidence: float) -> str:
    """What the test had to come to."""
    if compared["p_value"] is not None:
        return f"p ≤ {1 - confidence:.2g}"
    return f"≥ {signed(compared['bar'])}"


def reading(value: float | None) -> str:
    """What a guard measured."""
    if value is None:
        return "–"
    return f"{value:z.3f}".replace("-", "−") if abs(value) < 100 else f"{value:,.0f}".replace("-", "−")


def error(value: float | None) -> str:
    """An error of calibration."""
    return "—" if value is None else f"{value:.3f}"


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
