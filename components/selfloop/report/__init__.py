"""The report of a run: one self-contained HTML file, told anew after each round from the run's history.

The history is loop state: what each round did, without the times, which are of the moment and stay in its sidecar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from kfp.dsl import HTML, Artifact, Dataset, Markdown, Model
from pydantic import Field

from selfloop.artifacts import SIDECAR, manifest_of, read_json, sidecar_of, write_json
from selfloop.evaluate import accuracy_by_level
from selfloop.records import Audit, ItemResult, Rollout, Task, Verdict, count, read, rows
from selfloop.stage import Params, stage


class BeginParams(Params):
    """What the report calls the run."""

    title: str = Field("selfloop", description="Heading of the report.")


class ReportParams(Params):
    """How much of a round the report shows."""

    samples: int = Field(6, ge=0, description="Tasks of a round whose attempts are shown.")
    role: str = Field("champion", description="What the loop calls the policy that the candidate would replace.")
    round: int = Field(0, ge=0, description="The number of the round.")


class RoleParams(Params):
    """Which of several policies of a loop is told of."""

    role: str = Field(description="What the loop calls the policy.")


class InitialReport(NamedTuple):
    """The history without a round, and its report."""

    history: Artifact
    report: HTML


@stage()
def begin_report(out: InitialReport, params: BeginParams, champion: Model) -> None:
    """Begin the run's history with the policy that it starts from, and a report that says that no round has ended."""
    manifest = manifest_of(champion.path)
    told = {"title": params.title, "stages": {manifest.stage: manifest.params}, "rounds": []}
    _publish(told, [{"round": 0, "stages": [sidecar_of(champion.path)]}], out.history, out.report)


class RoleHistory(NamedTuple):
    """The history with what was made of the role."""

    history: Artifact


@stage()
def report_role(out: RoleHistory, params: RoleParams, history: Artifact, policy: Model, candidate: Model) -> None:
    """Note in the run's history what a round made of a further policy; ``report_round`` tells it with the round."""
    told, moments, made = read_json(history.path), sidecar_of(history.path), manifest_of(candidate.path)
    before, spent = manifest_of(policy.path).digest, moments.get("roles", [])
    if made.digest != before:
        told["stages"][made.stage] = made.params
        spent = [*spent, sidecar_of(candidate.path)]
    told["roles"] = [*told.get("roles", []), _trained(params.role, candidate) | {"before": before}]
    write_json(out.history.path, told)
    write_json(out.history.path, {"rounds": moments.get("rounds", []), "roles": spent}, SIDECAR)


def _trained(role: str, candidate: Model) -> dict[str, Any]:
    """A role's candidate: which policy it was trained from, by what stage and in how many steps."""
    manifest = manifest_of(candidate.path)
    return {
        "role": role,
        "before": manifest.inputs.get("policy", ""),
        "after": manifest.digest,
        "stage": manifest.stage,
        "method": manifest.metadata.get("method", ""),
        "steps": manifest.metadata.get("steps", 0),
    }


class RoundReport(NamedTuple):
    """The history with the round in it, the report, and a page of samples."""

    history: Artifact
    report: HTML
    sampled: Markdown


@stage()
def report_round(
    out: RoundReport,
    params: ReportParams,
    history: Artifact,
    tasks: Dataset,
    rollouts: Dataset,
    verdicts: Dataset,
    audit: Dataset,
    examples: Dataset,
    candidate: Model,
    results: Dataset,
    decision: Artifact,
    state: Artifact,
) -> None:
    """Add a round to the run's history, and tell the whole run as one HTML file; samples are a page of their own."""
    made = [tasks, rollouts, verdicts, examples, candidate, results, decision, state]
    told = read_json(history.path)
    told["stages"] |= {manifest.stage: manifest.params for manifest in (manifest_of(each.path) for each in made)}
    levels_of_suite: dict[str, set[int]] = {}
    for item in rows(results.path, ItemResult):
        levels_of_suite.setdefault(item.suite, set()).add(item.level)
    told["rounds"].append(
        {
            "round": params.round,
            "tasks": count(tasks.path),
            "rollouts": count(rollouts.path),
            "accuracy": accuracy_by_level(rows(results.path, ItemResult)),
            "suites": {suite: sorted(levels) for suite, levels in sorted(levels_of_suite.items())},
            "kept": examples.metadata["kept"],
            "rejected": examples.metadata["rejected"],
            "funnel": examples.metadata.get("funnel", []),
            "empty": examples.metadata.get("empty", ""),
            "band": tasks.metadata.get("band", {}),
            "contaminated": candidate.metadata.get("contaminated", {}),
            "audit": audit.metadata["audit"],
            "decision": read_json(decision.path),
            "roles": [_trained(params.role, candidate), *told.pop("roles", [])],
            "state": read_json(state.path),
            "samples": _samples(tasks.path, rollouts.path, verdicts.path, audit.path, params.samples),
        }
    )
    moments = sidecar_of(history.path)
    times = [*moments.get("roles", []), *(sidecar_of(artifact.path) for artifact in made)]
    _publish(told, [*moments.get("rounds", []), {"round": params.round, "stages": times}], out.history, out.report)
    Path(out.sampled.path).write_text(samples_page(told["rounds"][-1]), encoding="utf-8")


def samples_page(told: Mapping[str, Any]) -> str:
    """A round's samples as Markdown; what a policy wrote stands between fences that it cannot close."""
    lines = [f"# Round {told['round']}: {len(told['samples'])} tasks and what was attempted", ""]
    for sample in told["samples"]:
        lines += [f"## Level {sample['level']}", "", *_fenced(sample["prompt"])]
        lines += ["Answer:", "", *_fenced(sample["answer"])] if sample["answer"] else []
        for attempt in sample["attempts"]:
            held = {True: "right", False: "wrong", None: "not judged"}[attempt["ok"]]
            lines += [f"**{held}** ({attempt['reason']})", "", *_fenced(attempt["completion"])]
    return "\n".join(lines) + "\n"


def _fenced(text: str) -> list[str]:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [fence + "text", text, fence, ""]


def _samples(tasks: str, rollouts: str, verdicts: str, audit: str, number: int) -> list[dict[str, Any]]:
    """The first tasks of each level, with their attempts: as many as asked for, spread over the levels."""
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
    for name, completion, ok, reason, truth in zip(*(_values(*column) for column in columns), strict=True):
        if name in attempts:
            attempts[name].append({"completion": completion, "ok": ok, "truth": truth, "reason": reason})
    return [
        {"level": task.level, "prompt": task.prompt, "answer": task.answer, "attempts": attempts[name]}
        for name, task in islice(chosen.items(), number)
    ]


def _values(table: str, record: type[tuple[Any, ...]], column: str) -> Iterator[Any]:
    return (value for batch in read(table, record, [column]) for value in batch[column].to_pylist())


def _publish(told: dict[str, Any], moments: list[dict[str, Any]], history: Artifact, report: HTML) -> None:
    from selfloop.report.render import render

    write_json(history.path, told)
    write_json(history.path, {"rounds": moments}, SIDECAR)
    Path(report.path).write_text(render(read_json(history.path), moments), encoding="utf-8")
