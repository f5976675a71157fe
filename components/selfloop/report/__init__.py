"""The report of a run: one self-contained HTML file, written anew after each round from the run's history.

The history is loop state: see ``history``. What is written after a round takes as long for the thousandth as for the
hundredth: of a long loop it shows some of the rounds (``brief``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from kfp.dsl import HTML, Artifact, Dataset
from pydantic import Field

from selfloop.artifacts import as_read, manifest_of
from selfloop.costs import Price, parsed, priced
from selfloop.metering import round_of, spent_for
from selfloop.records import Audit, ItemResult, Rollout, Task, Verdict, count, read, rows
from selfloop.report.history import write_history, write_moments
from selfloop.report.sections import SECTIONS, Section
from selfloop.report.sections.samples import Samples, clipped
from selfloop.stages import Params, stage
from selfloop.texts import plain, reason


class BeginParams(Params):
    """What the report calls the run."""

    title: str = Field("selfloop", description="Heading of the report.")
    price: str = Field("", description="What an hour of the hardware costs, in USD, such as gpu_hour=2.5.")


class ReportParams(Params):
    """What the report shows."""

    inherits = frozenset({"round"})

    sections: list[Section] = Field(
        default_factory=lambda: [Section.parse(name) for name in SECTIONS],
        description="What the report shows, such as +samples,tasks=20+own.py:section.",
    )
    round: int = Field(0, ge=0, description="The number of the round.")


class Role(NamedTuple):
    """What a round made of one of a loop's roles: what was in force, and its candidate."""

    name: str
    champion: Artifact
    candidate: Artifact


class InitialReport(NamedTuple):
    """The history without a round, and its report."""

    history: Artifact
    report: HTML


@stage()
def begin_report(out: InitialReport, params: BeginParams, champion: Artifact) -> None:
    """Begin the run's history with what it starts from, and a report that says that no round has ended."""
    manifest = manifest_of(champion.path)
    history = {"title": params.title, "stages": {manifest.stage: manifest.params}, "rounds": []}
    stages = priced(spent_for([champion.path], round_of(params)), parsed(Price, params.price))
    publish(history, [{"round": 0, "stages": stages}], out.history, out.report)


def add_round(
    params: ReportParams,
    history: dict[str, Any],
    evidence: Mapping[str, Dataset],
    roles: Sequence[Role],
    state: Mapping[str, Any],
    decision: Mapping[str, Any],
) -> None:
    """Add a round to a run's history.

    ``evidence`` holds the round's tables by name, as many as there are; ``state`` the values of the loop's state.
    """
    trained = [role for role in roles if role.candidate.metadata.get("digest") != role.champion.metadata.get("digest")]
    made = [*evidence.values(), *(role.candidate for role in trained)]
    new = {manifest.stage: manifest.params for manifest in (manifest_of(each.path) for each in made)}
    history["stages"] = dict(sorted((history["stages"] | new).items()))
    history["sections"] = [str(each) for each in params.sections]
    about = {name: table.metadata for name, table in evidence.items()}
    examples = about.get("examples", {})
    history["rounds"].append(
        as_read(
            {
                "round": params.round,
                "tasks": _rows(evidence, "tasks"),
                "rollouts": _rows(evidence, "rollouts"),
                "accuracy": decision["accuracy"],
                "suites": _levels_of_suites(evidence),
                "kept": examples.get("kept", {}),
                "rejected": examples.get("rejected", {}),
                "funnel": examples.get("funnel", []),
                "empty": examples.get("empty", _empty(evidence)),
                "band": about.get("tasks", {}).get("band", {}),
                "games": about.get("results", {}).get("games", {}),
                "contaminated": roles[0].candidate.metadata.get("contaminated", {}),
                "audit": decision["audit"],
                "decision": decision,
                "roles": [_trained(role) for role in roles],
                "state": state,
                "samples": _samples(evidence, sum(each.tasks for each in params.sections if isinstance(each, Samples))),
            }
        )
    )


def _rows(evidence: Mapping[str, Dataset], name: str) -> int:
    return count(evidence[name].path) if name in evidence else 0


def _empty(evidence: Mapping[str, Dataset]) -> str:
    return "There were no rollouts" if "rollouts" in evidence and not _rows(evidence, "rollouts") else ""


def _levels_of_suites(evidence: Mapping[str, Dataset]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for item in rows(evidence["results"].path, ItemResult) if "results" in evidence else ():
        found.setdefault(item.suite, set()).add(item.level)
    return {suite: sorted(levels) for suite, levels in sorted(found.items())}


def _trained(role: Role) -> dict[str, Any]:
    """A role's candidate: what was in force before, by which stage it was made and in how many steps; of a training on
    its own attempts the share of groups that had an advantage.
    """
    manifest = manifest_of(role.candidate.path)
    return {
        "role": role.name,
        "before": manifest_of(role.champion.path).digest,
        "after": manifest.digest,
        "stage": manifest.stage,
        "method": manifest.metadata.get("method", ""),
        "steps": manifest.metadata.get("steps", 0),
        "informative": manifest.metadata.get("informative"),
    }


def samples_page(round: Mapping[str, Any]) -> str:
    """A round's samples as Markdown; what a policy wrote stands, cut, between fences that it cannot close."""
    lines = [f"# Round {round['round']}: {len(round['samples'])} tasks and what was attempted", ""]
    for sample in round["samples"]:
        lines += [f"## Level {sample['level']}", "", *_fenced(sample["prompt"])]
        lines += ["Answer:", "", *_fenced(sample["answer"])] if sample["answer"] else []
        for attempt in sample["attempts"]:
            held = {True: "right", False: "wrong", None: "not judged"}[attempt["ok"]]
            lines += [f"**{held}** ({reason(attempt['reason'])})", "", *_fenced(attempt["completion"])]
    return "\n".join(lines) + "\n"


def _fenced(whole: str) -> list[str]:
    head, left_out, tail = clipped(plain(whole))
    text = f"{head}\n[{left_out} characters]\n{tail}" if left_out else head
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [fence + "text", text, fence, ""]


def _samples(evidence: Mapping[str, Dataset], number: int) -> list[dict[str, Any]]:
    """The first tasks of each level, with their attempts: as many as asked for, spread over the levels."""
    if not {"tasks", "rollouts", "verdicts", "audit"} <= evidence.keys():
        return []
    tasks, rollouts, verdicts, audit = (evidence[name].path for name in ("tasks", "rollouts", "verdicts", "audit"))
    by_level: dict[int, list[Task]] = {}
    for task in rows(tasks, Task):
        by_level.setdefault(task.level, []).append(task)
    each = -(-number // max(len(by_level), 1))
    chosen = {task.id: task for of_level in by_level.values() for task in islice(of_level, each)}
    attempts: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    columns: list[tuple[str, type[tuple[Any, ...]], str]] = [
        (rollouts, Rollout, "task"),
        (rollouts, Rollout, "completion"),
        (verdicts, Verdict, "ok"),
        (verdicts, Verdict, "reason"),
        (audit, Audit, "truth"),
    ]
    for name, completion, ok, why, truth in zip(*(_values(*column) for column in columns), strict=True):
        if name in attempts:
            attempts[name].append({"completion": completion, "ok": ok, "truth": truth, "reason": why})
    return [
        {"level": task.level, "prompt": task.prompt, "answer": task.answer, "attempts": attempts[name]}
        for name, task in islice(chosen.items(), number)
    ]


def _values(table: str, record: type[tuple[Any, ...]], column: str) -> Iterator[Any]:
    return (value for batch in read(table, record, [column]) for value in batch[column].to_pylist())


def publish(
    history: Mapping[str, Any],
    moments: Sequence[Mapping[str, Any]],
    output: Artifact,
    report: HTML,
    before: Artifact | None = None,
) -> None:
    """Write a run's history, with the moments of its stages beside it, and its report as one HTML file; ``before`` is
    the history that it continues.
    """
    from selfloop.report.render import brief, render

    place = Path(output.path)
    write_history(place, history, Path(before.path) if before else None)
    write_moments(place, moments)
    Path(report.path).write_text(render(brief(history), moments), encoding="utf-8")
