"""The verifier that believes a task's pseudo-label, and the audit that holds it against the truth."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Dataset
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.records import Audit, Rollout, Task, rows
from selfloop.verify import VerifyParams, verify_rollouts

from ..conftest import sealed_table
from .conftest import a_task, attempts, said


class Worded(Addition):
    """Addition in words: the answer is what stands behind the last colon."""

    def extract_answer(self, completion: str) -> str:
        return completion.rpartition(":")[2].strip() if ":" in completion else ""


@pytest.fixture(autouse=True)
def _worded(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "worded", sys.modules[__name__])


def labelled(id: str, label: str, **given: Any) -> Task:
    return a_task(id, metadata=json.dumps({"label": label, "rate": 0.5}), **given)


def test_good_is_what_gives_the_label_whatever_the_truth_is() -> None:
    right, rotten = labelled("right", "3"), labelled("rotten", "4")
    rollouts = [*attempts(right, "3", "4", "3"), *attempts(rotten, "3", "4")]
    rollouts[2] = rollouts[2]._replace(finished=False)
    made = said([right, rotten], rollouts, "label")
    assert [(verdict.ok, verdict.score, verdict.reason) for verdict in made] == [
        (True, 1.0, "the label"),
        (False, 0.0, "another answer"),
        (False, 0.0, "no end token"),
        (False, 0.0, "another answer"),
        (True, 1.0, "the label"),
    ]


def test_answers_are_compared_in_the_environment_s_form_and_a_readable_one_may_earn_something() -> None:
    task = labelled("t", "4")
    rollouts = attempts(task, "surely: 4", "well:  3", "I do not know", "so: 4")
    rollouts[3] = rollouts[3]._replace(finished=False)
    made = said([task], rollouts, "label,format_weight=0.1", environment="worded:Worded")
    assert [verdict.ok for verdict in made] == [True, False, False, False]
    assert [verdict.score for verdict in made] == pytest.approx([1.0, 0.1, 0.0, 0.0])


def test_the_label_in_another_spelling_is_the_label_and_an_empty_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"prompt": "q", "answer": "5"}\n' * 2)
    task = labelled("t", "\\frac{1}{2}")
    rollouts = attempts(task, "\\boxed{0.5}", "\\boxed{1/2}", "\\boxed{\\frac{1}{3}}", "\\boxed{}")
    made = said([task], rollouts, "label", environment=f"dataset:{tmp_path}/data.jsonl?check=math")
    assert [verdict.ok for verdict in made] == [True, True, False, False]
    assert not said([labelled("t", "")], attempts(task, ""), "label")[0].ok


@pytest.mark.parametrize("metadata", ["{}", "{", "[]", '{"label": 3}', "null"])
def test_a_task_without_a_label_is_one_sentence(metadata: str) -> None:
    tasks = [labelled("a", "3"), a_task("b", metadata=metadata)]
    with pytest.raises(UserError, match="The task 'b' carries no label in its metadata: have band_tasks"):
        said(tasks, [*attempts(tasks[0], "3"), *attempts(tasks[1], "3")], "label")


def test_the_audit_holds_pseudo_labels_against_the_truth(tmp_path: Path) -> None:
    tasks = [labelled(f"t{number}", "3" if number < 6 else "4") for number in range(10)]
    audit = Dataset(uri=str(tmp_path / "audit"))
    verify_rollouts.into(
        verify_rollouts.out(verdicts=Dataset(uri=str(tmp_path / "verdicts")), audit=audit),
        VerifyParams(verifier="label"),
        tasks=sealed_table(tmp_path / "tasks", Task, tasks),
        rollouts=sealed_table(tmp_path / "rollouts", Rollout, [r for task in tasks for r in attempts(task, "3", "4")]),
    )
    told = audit.metadata["audit"]
    assert (told["precision"], told["true_positive"], told["false_positive"]) == (0.6, 6, 4)
    assert [row.truth for row in rows(audit.path, Audit)] == [True, False] * 10
