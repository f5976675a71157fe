"""Pseudo-labels from the band to the gate: those that rot halt the loop, honest ones do not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Dataset, Model
from selfloop.artifacts import seal
from selfloop.filter import BandParams, band_tasks
from selfloop.guards import Evidence
from selfloop.promote.gate import GateParams, judge
from selfloop.records import Example, ItemResult, Rollout, Task, rows
from selfloop.verify import VerifyParams, verify_rollouts

from ..conftest import sealed_table

TASKS, ATTEMPTS = 90, 5
ANSWERS = [ItemResult(who, "target", 1, f"i{n}", 0, who == "candidate", "x")
           for n in range(40) for who in ("champion", "candidate")]  # fmt: skip
"""A candidate that is better: what the gate says is the guard's word."""


def judged(
    place: Path, tasks: Sequence[Task], is_right: Callable[[int, int], bool], verifier: str
) -> dict[str, Dataset]:
    """Attempts at tasks, and what a verifier and the audit say of them."""
    rollouts = [
        Rollout(task.id, 1, attempt, task.prompt, task.answer if is_right(number, attempt) else "wrong", True, 1)
        for number, task in enumerate(tasks)
        for attempt in range(ATTEMPTS)
    ]
    given = {
        "tasks": sealed_table(place / "tasks", Task, tasks),
        "rollouts": sealed_table(place / "rollouts", Rollout, rollouts),
    }
    made = {name: Dataset(uri=str(place / name)) for name in ("verdicts", "audit")}
    verify_rollouts.into(verify_rollouts.out(**made), VerifyParams(verifier=verifier), **given)
    return given | made


def test_diversity_is_of_answers_and_not_of_their_spellings(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("".join(f'{{"prompt": "q{n}", "answer": "7"}}\n' for n in range(9)))
    environment = f"dataset:{tmp_path}/data.jsonl?check=number"
    tasks = [Task("t", 1, "", "q0", "7")]
    texts = ["5", "5.0", "so \\boxed{5}", "6", "I do not know.", "nor do I."]
    rollouts = [Rollout("t", 1, number, "q0", text, True, 1) for number, text in enumerate(texts)]
    given = {"tasks": sealed_table(tmp_path / "tasks", Task, tasks)}
    given["rollouts"] = sealed_table(tmp_path / "rollouts", Rollout, rollouts)
    made = {name: Dataset(uri=str(tmp_path / name)) for name in ("verdicts", "audit")}
    verify_rollouts.into(verify_rollouts.out(**made), VerifyParams(environment=environment), **given)
    tables = {name: table.path for name, table in (given | made).items()}
    found = Evidence(tables, candidate={}, past=[], audited=10, seed=0).groups
    assert (found.attempts.tolist(), found.distinct.tolist()) == ([6], [3]), "5, 6, and no answer"


def decided(place: Path, wrong: int) -> dict[str, Any]:
    """The gate's word on a round whose labels were voted for, wrongly for this many of the tasks."""
    tasks = [Task(f"t{number}", 1, "", f"{number}+0=", f"{number}") for number in range(TASKS)]
    voted = judged(place / "voted", tasks, lambda number, attempt: (attempt < 3) == (number >= wrong), "exact")
    band = Dataset(uri=str(place / "band"))
    band_tasks.into(
        band_tasks.out(band=band), BandParams(), **{name: voted[name] for name in ("tasks", "rollouts", "verdicts")}
    )
    labelled = list(rows(band.path, Task))
    assert len(labelled) == TASKS
    solved = judged(place / "solved", labelled, lambda number, attempt: attempt % 2 == 0, "label")
    (place / "candidate").mkdir()
    seal(place / "candidate", "Model")
    evidence = {name: solved[name] for name in ("rollouts", "verdicts", "audit")} | {
        "examples": sealed_table(place / "examples", Example, []),
        "results": sealed_table(place / "results", ItemResult, ANSWERS),
    }
    return judge(GateParams(guards="precision"), evidence, Model(uri=str(place / "candidate")), [])


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "promoted"), (4, "promoted"), (30, "pending"), (60, "halted")])
def test_labels_that_rot_halt_the_loop_and_honest_ones_do_not(tmp_path: Path, wrong: int, verdict: str) -> None:
    told = decided(tmp_path, wrong)
    believed_rightly, believed_wrongly = 3 * (TASKS - wrong), 2 * wrong
    precision = believed_rightly / (believed_rightly + believed_wrongly)
    assert told["audit"]["precision"] == pytest.approx(precision, abs=1e-6)
    assert told["guards"]["precision"]["value"] == pytest.approx(1 - wrong / TASKS), "each task counts as one"
    assert told["verdict"] == verdict
    assert ("guard 'precision' halted the loop" in told["reason"]) == (verdict == "halted")
