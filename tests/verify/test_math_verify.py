"""math-verify in its killable processes, and the processes by themselves."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selfloop.answers import CHECKS
from selfloop.errors import UserError
from selfloop.verify.verifiers.math_verify import MathVerify
from selfloop.workers import Outcome, Pool

from .conftest import a_task, attempts, in_memory, said

pytestmark = pytest.mark.slow

QUICK = MathVerify(workers=1, time_limit=3.0)
TOWER = r"$9^{9^{9^{9}}}$"
"""Its own time limits do not end this one: Python computes the power in one call that no signal interrupts."""


@pytest.mark.parametrize(
    ("answer", "completion", "ok"),
    [
        ("1/2", r"The answer is $\frac{1}{2}$", True),
        (r"\frac{1}{2}", "so it is 0.5", True),
        ("(1,2]", r"$(1,2]$", True),
        ("(1,2]", r"$[1,2]$", False),
        (r"\{1,2,3\}", r"\boxed{\{3,2,1\}}", True),
        ("x^2+1", "$1+x^2$", True),
        ("3,000", "3000", True),
        ("42", "7", False),
        (r"\$32", r"so \boxed{32}", True),
        (r"\$18.90", r"so \boxed{\$18.90}", True),
        ("18", r"so \boxed{9}. Wait, no: so \boxed{18}", True),
        ("9", r"so \boxed{9}. Wait, no: so \boxed{18}", False),
        ("2", "First \\boxed{1}, then \\boxed{2}", True),
        ("4", "2+2\n#### 4\n\nIt took 3 steps.", True),
    ],
)
def test_answers_are_compared_as_mathematics(answer: str, completion: str, ok: bool) -> None:
    task = a_task("t", answer=answer)
    [made] = said([task], attempts(task, completion), QUICK)
    assert (made.ok, made.score, made.reason) == (ok, float(ok), "correct" if ok else "wrong answer")
    assert CHECKS["math"](answer, completion).ok is ok, "the check of that name says the same"


def test_what_never_ends_is_cut_off_and_the_next_is_judged() -> None:
    task = a_task("t", answer="3")
    texts = ["3", TOWER, "3", "$100000000000!$", "4", "3"]
    rollouts, tasks, context = in_memory([task], attempts(task, *texts))
    ok, score, reason = QUICK(rollouts, tasks, context)
    assert reason.to_pylist() == ["correct", "timeout", "correct", "timeout", "wrong answer", "correct"]
    assert ok.to_pylist() == [True, False, True, False, False, True]
    assert score.to_pylist() == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert context.timings.timeouts == 2
    assert context.timings.slowest >= 3


def test_what_cannot_be_compared_has_a_reason() -> None:
    task, broken = a_task("t", answer="3"), a_task("broken", answer="")
    rollouts = [*attempts(task, "no idea", "3"), *attempts(broken, "3")]
    rollouts[1] = rollouts[1]._replace(finished=False)
    made = said([task, broken], rollouts, QUICK)
    assert [(v.ok, v.reason) for v in made] == [
        (False, "no final answer"),
        (False, "no end token"),
        (None, "the task's answer cannot be read"),
    ]


# The processes

TROUBLE = """
import ctypes
import os
import time


def trouble(what, number=0):
    if what == "sleep":
        time.sleep(1000)
    if what == "memory":
        return len(bytearray(number * 2**20))
    if what == "die":
        ctypes.string_at(0)
    if what == "die once" and not os.path.exists(number):
        os.close(os.open(number, os.O_CREAT))
        ctypes.string_at(0)
    if what == "die once":
        return what
    if what == "print":
        os.write(1, b"[]\\\\n")
        print("not an answer")
    if what == "raise":
        raise KeyError(what)
    if what == "deep":
        return trouble(what)
    if what == "pid":
        return os.getpid()
    return what * number
"""


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    (tmp_path / "trouble.py").write_text(TROUBLE)
    monkeypatch.syspath_prepend(tmp_path)
    made = Pool("trouble:trouble", 2, time_limit=1.0, memory_limit=512)
    yield made
    made.close()


def test_every_kind_of_trouble_is_an_outcome_and_others_continue(pool: Pool) -> None:
    items: list[list[Any]] = [
        ["sleep"],
        ["memory", 4096],
        ["die"],
        ["print", 2],
        ["raise"],
        ["deep"],
        ["memory", 8],
        ["é\n", 2],
    ]
    outcomes = pool.map(items)
    assert [outcome.failure for outcome in outcomes] == [
        "timeout", "out of memory", "crashed", "", "KeyError", "RecursionError", "", ""
    ]  # fmt: skip
    assert [outcomes[number].value for number in (3, 6, 7)] == ["printprint", 8 * 2**20, "é\né\n"]
    assert pool.map([]) == []


def test_an_item_whose_child_was_killed_is_given_to_another_once(pool: Pool, tmp_path: Path) -> None:
    before = len(pool.map([["a", 1], ["b", 1]]))
    assert [outcome.failure for outcome in pool.map([["die once", str(tmp_path / "mark")], ["c", 1]])] == ["", ""]
    assert before == len(pool.children) == 2


def test_outcomes_are_in_the_order_of_the_items_and_children_live_on(pool: Pool) -> None:
    assert [outcome.value for outcome in pool.map([["a", number] for number in range(50)])] == [
        "a" * number for number in range(50)
    ]
    first, second = ({outcome.value for outcome in pool.map([["pid"]] * 20)} for _ in range(2))
    assert first | second <= {*pool.children}
    assert len(pool.children) == 2


def test_a_large_item_goes_through(pool: Pool) -> None:
    text = "x" * 3_000_000
    assert pool.map([[text, 1]])[0].value == text


def test_a_killed_child_is_gone(pool: Pool) -> None:
    before = pool.map([["pid"]])[0].value
    pool.map([["sleep"]] * 2)
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)


def test_an_orphan_that_computes_is_ended_by_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("def spin():\n    while True:\n        pass\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from selfloop.workers import Worker\n"
        "worker = Worker('endless:spin', 1024)\n"
        "while worker.hear() is None: pass\n"
        "worker.give([], 0.1)\n"
        "print(worker.pid)\n"
        "sys.stdout.flush()\n"
        "import os; os._exit(0)\n"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    child = int(done.stdout)
    for _ in range(200):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    os.kill(child, 9)
    pytest.fail("the orphan still computes")


def test_children_that_cannot_start_are_said_in_one_sentence() -> None:
    broken = Pool("no_such_module:function", 1, time_limit=1.0, memory_limit=512)
    with pytest.raises(UserError, match="A process that shall check answers with no_such_module:function cannot start"):
        broken.map([[1]])
    assert broken.children == []


def test_an_outcome_knows_its_seconds(pool: Pool) -> None:
    [outcome] = pool.map([["a", 3]])
    assert outcome == Outcome("aaa", "", outcome.seconds)
    assert 0 < outcome.seconds < 1
