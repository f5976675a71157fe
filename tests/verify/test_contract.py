"""What a verifier must keep to, and what is said where it does not."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from selfloop.errors import UserError
from selfloop.records import Verdict
from selfloop.verify import Verifier, VerifyParams

from .conftest import a_task, attempts, said

OWN = '''
import numpy as np
import pyarrow as pa
from selfloop.verify import Verifier


class Mute(Verifier):
    """Says nothing."""


def lists(rollouts, tasks, context):
    """Plain lists are columns too, and scores may be integers."""
    return [None, True], np.array([0, 1]), ["no idea", "fine"]


def empty_opinion(rollouts, tasks, context):
    return pa.nulls(len(rollouts)), [0.5] * len(rollouts), ["unsure"] * len(rollouts)


def few(rollouts, tasks, context):
    return [True], [1.0], ["fine"]


def numbers(rollouts, tasks, context):
    return [1, 0], [1.0, 0.0], ["a", "b"]


def words(rollouts, tasks, context):
    return [True, False], ["a", "b"], ["a", "b"]


def endless(rollouts, tasks, context):
    return [True, False], [1.0, float("nan")], ["a", "b"]


def unscored(rollouts, tasks, context):
    return [True, False], [1.0, None], ["a", "b"]


def pair(rollouts, tasks, context):
    return [True, False], [1.0, 0.0]


def mixed(rollouts, tasks, context):
    return [True, "yes"], [1.0, 0.0], ["a", "b"]


def nothing(rollouts, tasks, context):
    pass


def picky(rollouts, tasks, context):
    if "90" in rollouts["completion"].to_pylist():
        raise ZeroDivisionError("cannot divide\\nby the answer")
    return empty_opinion(rollouts, tasks, context)
'''


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contracts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


TASK, OTHER = a_task("t"), a_task("other")


def by(name: str) -> list[Verdict]:
    return said([TASK], attempts(TASK, "3", "90"), f"contracts:{name}")


def test_a_verifier_may_give_lists_and_have_no_opinion() -> None:
    assert [verdict[3:] for verdict in by("lists")] == [(None, 0.0, "no idea"), (True, 1.0, "fine")]
    assert [verdict.ok for verdict in by("empty_opinion")] == [None, None]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("few", "gave 1 rows of 'ok' for 2 rollouts: let it give one each"),
        ("numbers", "gave 'ok' as int64: let it be bool, or null where it has no opinion"),
        ("words", "gave 'score' as string: let it be a number"),
        ("endless", "gave a score that is not a finite number: let it give one"),
        ("unscored", "gave a 'score' that is missing: only 'ok' may be"),
        ("pair", "gave tuple of 2: let it give a tuple (ok, score, reason)"),
        ("mixed", "gave a 'ok' that is no column: let it be bool, or null where it has no opinion"),
        ("nothing", "gave NoneType: let it give a tuple (ok, score, reason)"),
    ],
)
def test_a_verifier_that_breaks_the_contract_is_said_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        by(name)
    assert str(refused.value) == f"The verifier 'contracts:{name}' {sentence}."


def test_a_verifier_that_raises_is_named_with_the_task_and_the_kind_of_error() -> None:
    with pytest.raises(UserError) as refused:
        said([OTHER, TASK], attempts(OTHER, "3") + attempts(TASK, "1", "90"), "contracts:picky")
    assert str(refused.value) == (
        "The verifier 'contracts:picky' failed on the rollouts of task 't' (ZeroDivisionError: cannot divide by the "
        "answer): mend it, or have it say so as a verdict."
    )
    assert isinstance(refused.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("verifier", "sentence"),
    [
        ("majorty", "There is no verifier 'majorty': did you mean 'majority'"),
        ("majority,slack=2", "There is no parameter of the verifier 'majority' 'slack': known are: agreement"),
        ("majority,agreement=0.5", "'agreement' of the verifier 'majority' cannot be '0.5': Input should be greater"),
        ("weighted", "needs the parameter 'weights'"),
        ("weighted,weights=exat:1", "There is no verifier 'exat': did you mean 'exact'"),
        ("weighted,weights=weighted,weights=exact:1", "gives 'weights' twice"),
        ('weighted,weights={"weighted,weights=exact:1":1}', "cannot weigh itself"),
        ("weighted,weights=exact:0", "'weights' of the verifier 'weighted' cannot be '0': Input should be greater"),
        (
            "weighted,weights=exact:inf",
            "'weights' of the verifier 'weighted' cannot be 'inf': Input should be",
        ),
        ("weighted,weights=judge:1+reward-model:1", "is handed one model, and weighs one that asks a policy and one"),
        ("contracts:Mute", "The verifier 'contracts:Mute' does nothing: define __call__"),
    ],
)
def test_what_cannot_be_verified_with_is_refused_before_anything_starts(verifier: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        VerifyParams(verifier=verifier)


def test_verdicts_in_memory_are_in_the_order_of_the_rollouts_whatever_that_of_the_tasks() -> None:
    rollouts = [*attempts(TASK, "3"), *attempts(OTHER, "4"), *attempts(TASK, "5")]
    made = said([OTHER, TASK], rollouts)
    assert [(v.task, v.ok) for v in made] == [("t", True), ("other", False), ("t", False)]
    assert said([], []) == []
    with pytest.raises(UserError, match="names the task 'other', which is not among its tasks"):
        said([TASK], rollouts)


def test_the_columns_of_a_verdict_may_be_of_any_arrow_layout(tmp_path: Path) -> None:
    from selfloop.verify.contract import called

    from .conftest import in_memory

    rollouts, tasks, context = in_memory([TASK], attempts(TASK, "3", "90"))

    class Chunked(Verifier):
        name = "chunked"

        def __call__(self, *_: Any) -> Any:
            return columns

    columns = pa.chunked_array([[True], [None]]), pa.chunked_array([[1], [0]]), pa.array(["a", "b"], pa.large_string())
    ok, score, reason = called(Chunked(), rollouts, tasks, context)
    assert (ok.to_pylist(), score.to_pylist(), reason.to_pylist()) == ([True, None], [1.0, 0.0], ["a", "b"])
