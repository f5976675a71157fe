from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from selfloop.guards import Alarm, Evidence, Guard, Reading, watch
from selfloop.records import Audit, Example, ItemResult, Rollout, Task, Verdict

from ..conftest import sealed_table

settings.register_profile("selfloop", deadline=None)
settings.load_profile("selfloop")

Said = tuple[str, str, bool, bool | None] | tuple[str, str, bool, bool | None, float]
"""A task, a completion, what the verifier believes, the truth, and the score where it is not 0 or 1."""

Round = Callable[..., Evidence]


@pytest.fixture
def evidence(tmp_path: Path) -> Round:
    """A round of which a guard may look at what is given."""
    made: list[Evidence] = []

    def of(
        said: Iterable[Said] = (),
        answers: Iterable[ItemResult] = (),
        candidate: Mapping[str, Any] | None = None,
        past: Sequence[Mapping[str, Any]] = (),
        audited: int = 500,
        seed: int = 0,
        clusters: Mapping[str, str] | None = None,
    ) -> Evidence:
        place = tmp_path / f"round {len(made)}"
        rollouts, verdicts, audits, seen = [], [], [], dict[str, int]()
        for task, completion, ok, truth, *score in said:
            attempt = seen[task] = seen.get(task, -1) + 1
            rollouts.append(Rollout(task, 1, attempt, f"{task}?", completion, True, 1))
            given = float(score[0] if score else ok)
            verdicts.append(Verdict(task, 1, attempt, ok, given, ""))
            audits.append(Audit(task, 1, attempt, ok, given, truth))
        tasks = [Task(task, 1, "", f"{task}?", "", cluster=(clusters or {}).get(task, "")) for task in seen]
        made.append(
            Evidence(
                {
                    "tasks": sealed_table(place / "tasks", Task, tasks).path,
                    "rollouts": sealed_table(place / "rollouts", Rollout, rollouts).path,
                    "verdicts": sealed_table(place / "verdicts", Verdict, verdicts).path,
                    "audit": sealed_table(place / "audit", Audit, audits).path,
                    "examples": sealed_table(place / "examples", Example, []).path,
                    "results": sealed_table(place / "results", ItemResult, answers).path,
                },
                candidate=candidate or {},
                past=past,
                audited=audited,
                seed=seed,
            )
        )
        return made[-1]

    return of


def reading(name: str, evidence: Evidence) -> Reading:
    return Guard.parse(name)(evidence)


def alarm(name: str, evidence: Evidence) -> Alarm:
    return watch(evidence, [Guard.parse(name)])[name]


def told(number: int, promoted: bool, **alarms: Alarm) -> dict[str, Any]:
    """A round of the history, as the gate and the report leave it."""
    guards = {name: alarm._asdict() for name, alarm in alarms.items()}
    return {"round": number, "decision": {"promoted": promoted, "guards": guards}}
