"""The report, from histories made by hand, in Python and in a real browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from selfloop.memory import entry
from selfloop.propose.arms import ArmFeedback, ArmState
from selfloop.propose.curricula import LevelCurriculum
from selfloop.propose.curricula.ordered import Ordered
from selfloop.propose.curricula.uniform import Uniform
from selfloop.report.formats import Axis, axis, duration, interval, percent, reading, short
from selfloop.report.render import NEWEST, brief, facts, render
from selfloop.report.sections.accuracy import frontiers, heatmap
from selfloop.report.sections.arms import COLUMNS, MARKED, Column, area, curriculum, in_columns, rate_paths
from selfloop.report.sections.audit import AUDITS_BY_DIFFICULTY, audits
from selfloop.report.sections.gate import asked, by_test, scores, spent, target_first
from selfloop.report.sections.guards import warned, watched
from selfloop.report.sections.kept import funnels, reasons, selections
from selfloop.report.sections.roles import lanes
from selfloop.report.sections.samples import DISTINCT_ATTEMPTS, TEXT_HEAD, TEXT_TAIL, clipped, sample, samples
from selfloop.report.sections.time import times

from .. import browser as chromium
from ..browser import LUMINANCES, contrasts, opened

pytestmark = pytest.mark.slow

browser = chromium.browser
STAGES = ["propose_tasks", "generate_rollouts", "finetune_policy", "evaluate_policies"]


def attempt(
    completion: str, ok: bool | None = True, truth: bool | None = True, reason: str = "correct"
) -> dict[str, Any]:
    return {"completion": completion, "ok": ok, "truth": truth, "reason": reason}


def a_task(*attempts: dict[str, Any], prompt: str = "12+34=") -> dict[str, Any]:
    return {"level": 2, "prompt": prompt, "answer": "460", "attempts": list(attempts or [attempt("460")])}


def a_suite(gain: float = 0.052, bar: float = 0.0, passed: bool = True, **given: Any) -> dict[str, Any]:
    """The gate's numbers of a suite in which the champion solves half of the items."""
    return {
        "items": 600,
        "samples": 1,
        "champion": {"pass@1": 0.5},
        "candidate": {"pass@1": 0.5 + gain},
        "gain": gain,
        "lower": gain - 0.021,
        "upper": gain + 0.021,
        "p_value": None if bar else 0.00213,
        "level": None if bar else 0.05,
        "test": "bootstrap" if bar else "mcnemar",
        "bar": bar,
        "passed": passed,
        "by_seed": {"7": gain},
        "against": "champion",
        "by_level": {},
    } | given


def an_alarm(value: float | None, level: str = "green", says: str = "9 of 10 are true", **given: Any) -> dict[str, Any]:
    lines = {"warn": 0.9, "halt": 0.7}
    return {"value": value, "level": level, "says": says, **lines, "look": "the samples", "memory": None} | given


def a_decision(verdict: str = "promoted", **given: Any) -> dict[str, Any]:
    suites = {
        "target": a_suite(passed=verdict != "rejected"),
        "old": a_suite(-0.004, bar=-0.03),
        "far": a_suite(0.01, -0.03, samples=4, champion=SCORES, candidate={k: v + 0.01 for k, v in SCORES.items()}),
    }
    return {
        "promoted": verdict == "promoted",
        "verdict": verdict,
        "reason": "target +0.052 [+0.031, +0.073], p = 0.0021 (McNemar, 600 items)",
        "confidence": 0.95,
        "suites": suites,
        "budget": {},
        "guards": {
            "precision": an_alarm({"pending": 0.85, "halted": 0.6}.get(verdict, 0.99), LEVELS.get(verdict, "green")),
            "length": an_alarm(0.02, warn=0.58, halt=1.0),
            "gap": an_alarm(None, says="no truth is known"),
        },
        "accuracy": {},
    } | given


def measured(tp: int, fp: int, fn: int, tn: int, **given: Any) -> dict[str, Any]:
    return {
        "rollouts": tp + fp + fn + tn,
        "true_positive": tp,
        "false_positive": fp,
        "false_negative": fn,
        "true_negative": tn,
        "undecided": 0,
        "precision": tp / (tp + fp) if tp + fp else None,
        "recall": tp / (tp + fn) if tp + fn else None,
        "ece": 0.055,
        "brier": 0.051,
    } | given


def an_audit(**given: Any) -> dict[str, Any]:
    """Of a verifier that is sure where it is right, and somewhat wrong in the middle."""
    bins = [(440, 0.02, 0.0), (60, 0.55, 0.85), (500, 0.98, 0.99)]
    return {
        **measured(495, 5, 50, 450),
        "strata": [
            {"name": "level 2", **measured(300, 0, 0, 0)},
            {"name": "level 10", **measured(195, 5, 50, 450, undecided=40, ece=None, brier=None)},
        ],
        "bins": [{"rollouts": number, "score": score, "right": right} for number, score, right in bins],
        "notes": {},
    } | given


SCORES = {"pass@1": 0.5, "pass@2": 0.6, "pass@4": 0.7, "maj@4": 0.65}
LEVELS = {"pending": "yellow", "halted": "red"}


def a_round(number: int, verdict: str = "promoted", **given: Any) -> dict[str, Any]:
    """A round at the frontier ``number + 1``: old levels up to there, two target levels beyond."""
    frontier = number + 1
    old, target = list(range(1, frontier + 1)), [frontier + 1, frontier + 2]
    accuracy = {str(level): 1.0 for level in old} | {str(target[0]): 0.75, str(target[1]): 0.0}
    return {
        "round": number,
        "tasks": 100,
        "rollouts": 1000,
        "accuracy": {"candidate": accuracy, "champion": accuracy | {str(target[0]): 0.25}},
        "suites": {"old": old, "target": target},
        "kept": {str(target[0]): 400, str(target[1]): 100},
        "rejected": {"wrong answer": 450, "duplicate": 50},
        "audit": an_audit(),
        "contaminated": {"newest": 0, "replay_pool": 0, "seed_data": 0},
        "decision": a_decision(verdict),
        "state": {"progress": {"frontier": frontier + (verdict == "promoted")}},
        "samples": [a_task(attempt("460"), attempt("461", False, False, "wrong answer"))],
    } | given


def a_history(*rounds: dict[str, Any]) -> dict[str, Any]:
    """As it is read: JSON has its keys in order."""
    told = {"title": "A <run>", "stages": {"generate_rollouts": {"temperature": 1.0}}, "rounds": list(rounds)}
    read: dict[str, Any] = json.loads(json.dumps(told, sort_keys=True))
    return read


def a_moment(number: int) -> dict[str, Any]:
    entries = [
        {"stage": stage, "seconds": 10.0 * place, "peak_bytes": 2**30, "began": 1.79e9 + number}
        for place, stage in enumerate(STAGES, 1)
    ]
    first = {"stage": "pretrain_policy", "seconds": 100.0, "peak_bytes": 2**31, "began": 1.79e9}
    return {"round": number, "stages": [first, *entries] if number == 1 else entries}


def a_large_run(rounds: int = 40, levels: int = 100) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every level is evaluated and kept in every round, and the samples are long and costly to escape."""
    accuracy = {str(level): 0.987 for level in range(1, levels + 1)}
    told = [
        a_round(
            number,
            accuracy={"candidate": accuracy, "champion": accuracy},
            suites={"old": list(range(1, 50)), "target": list(range(50, levels + 1))},
            kept=dict.fromkeys(accuracy, 1234),
            state={"progress": {"frontier": 49}},
            decision=a_decision(guards={f"guard {i}": an_alarm(0.5, "yellow", "x" * 80) for i in range(9)}),
            samples=[a_task(*(attempt('<"&' * 1000 + str(i)) for i in range(5)), prompt="<" * 3000) for _ in range(6)],
        )
        for number in range(1, rounds + 1)
    ]
    return a_history(*told), [a_moment(number) for number in range(1, rounds + 1)]


class Tags(HTMLParser):
    """The elements of a document that are open at its end, and every attribute that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_completions_are_escaped() -> None:
    evil = '</code><script>alert("now")</script><img src=x onerror=alert(1)>'
    task = a_task(attempt(evil, reason=evil), prompt=evil) | {"answer": evil}
    alarm = an_alarm(0.5, "red", evil, look=evil)
    decision = a_decision("halted", reason=evil, suites={"target": a_suite(), evil: a_suite()}, guards={evil: alarm})
    told = a_round(1, samples=[task], rejected={evil: 1}, contaminated={evil: 1}, decision=decision)
    text = render(a_history(told), [])
    assert not Tags(text).seen & {"script", "img"}
    assert text.count("&lt;script&gt;alert(&#34;now&#34;)&lt;/script&gt;") >= 11
    assert "A &lt;run&gt;" in text


def test_markup_is_balanced_and_holds_nothing_from_elsewhere() -> None:
    some = a_history(a_round(1), a_round(2, "halted"), a_round(3, decision=a_decision(guards={})))
    for history, moments in [(some, [a_moment(1), a_moment(2)]), (a_history(), [])]:
        text = render(history, moments)
        tags = Tags(text)
        assert tags.open == []
        assert not tags.seen & {"script", "link", "img", "iframe", "object"}
        assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
        assert all(value.startswith("#") for name, value in tags.attributes if name in ("href", "src"))


def test_a_hundred_levels_over_forty_rounds_stay_under_a_megabyte() -> None:
    assert len(render(*a_large_run()).encode()) < 1_000_000


def test_what_is_written_after_each_round_of_a_long_loop_stays_as_long() -> None:
    def written(rounds: int) -> str:
        alike = a_round(1)
        return render(brief(a_history(*(alike | {"round": number} for number in range(1, rounds + 1)))), [])

    short, long = (written(rounds) for rounds in (2 * NEWEST, 10 * NEWEST))
    assert "Below are" not in short
    assert f"Below are {2 * NEWEST} of the {10 * NEWEST} rounds" in long
    assert len(long) < 1.1 * len(short)


def test_a_run_without_rounds_says_so() -> None:
    text = render(a_history(), [])
    assert "No round has ended yet" in text
    assert "<table" not in text


def test_a_rejected_candidate_leaves_the_champion_s_accuracy() -> None:
    told = heatmap([a_round(1), a_round(2, verdict="rejected")])
    assert told.levels == [1, 2, 3, 4, 5]
    assert [line.name for line in told.lines] == ["base", "1", "2"]
    assert [[cell.accuracy for cell in line.cells] for line in told.lines] == [
        [1.0, 1.0, 0.25, 0.0, None],
        [1.0, 1.0, 0.75, 0.0, None],
        [1.0, 1.0, 1.0, 0.25, 0.0],
    ]
    assert [[cell.level for cell in line.cells if cell.frontier] for line in told.lines] == [[2], [3], [3]]


def test_levels_are_in_the_order_of_numbers() -> None:
    accuracy = {"10": 0.5, "2": 0.5, "1": 1.0}
    assert heatmap([a_round(1, accuracy={"candidate": accuracy, "champion": accuracy})]).levels == [1, 2, 10]


def test_a_loop_without_a_frontier_has_no_frontier_in_its_report() -> None:
    rounds = [a_round(1, state={"weights": {"even": 0.5}}), a_round(2, state={})]
    assert frontiers(rounds) == [None, None, None]
    text = render(a_history(*rounds), [])
    assert "Frontier" not in text
    assert ">frontier" not in text


def test_precision_of_what_was_kept_is_over_all_rounds() -> None:
    nothing = measured(0, 0, 3, 7) | {"strata": [], "bins": [], "notes": {}}
    rounds = [a_round(1), a_round(2, verdict="rejected", audit=nothing)]
    told = {fact.name: (fact.value, fact.note) for fact in facts(rounds, [a_moment(1), a_moment(2)])}
    assert told == {
        "Rounds": ("2", "200 tasks"),
        "Frontier": ("2 → 3", "level mastered"),
        "Promoted": ("1", "1 rejected"),
        "Rollouts": ("2,000", "drawn"),
        "Kept": ("1,000", "50.0% of rollouts"),
        "Precision of kept": ("99.0%", "of 500 believed"),
        "Time": ("5 min 0 s", "in all stages"),
    }


def test_candidates_that_were_not_promoted_are_counted_by_verdict() -> None:
    rounds = [
        a_round(number, verdict) for number, verdict in enumerate(["promoted", "rejected", "pending", "halted"], 1)
    ]
    for some, note in [(rounds, "1 rejected, 1 pending, 1 halted"), (rounds[:1], "none rejected")]:
        assert next(fact for fact in facts(some, []) if fact.name == "Promoted")[1:] == ("1", note)


def test_an_axis_holds_every_interval_and_bar_and_zero() -> None:
    gains = axis([a_suite(0.052, bar=0.0), a_suite(-0.1, bar=-0.03)])
    assert gains.low < -0.121
    assert gains.high > 0.073
    assert axis([a_suite(0.5)]).low < 0
    assert axis([]) == Axis(-1, 1)
    assert Axis(-1, 1).at(0) == 50
    assert Axis(-0.1, 0.1).place(a_suite(0.029, bar=-0.05)) == {"l": 54, "w": 21, "g": 64.5, "b": 25}


def test_a_suite_is_told_with_its_interval_its_test_and_what_was_asked() -> None:
    exact, guard = a_suite(0.052), a_suite(-0.004, bar=-0.03)
    assert interval(exact) == "+0.052 [+0.031, +0.073]"
    assert interval(guard) == "−0.004 [−0.025, +0.017]"
    assert interval(a_suite(-1e-9))[:6] == "+0.000"
    assert (by_test(exact), asked(exact)) == ("McNemar, p = 0.0021", "p ≤ 0.05")
    assert by_test(a_suite(p_value=1e-9)) == "McNemar, p < 0.0001"
    assert (by_test(guard), asked(guard)) == ("bootstrap", "≥ −0.030")


def test_a_round_says_what_it_did_with_the_error_budget() -> None:
    budget = {"screened": True, "confirmed": True, "level": 0.025, "alpha": 0.05, "spent": 0.0, "left": 0.05}
    left = "of the error budget 0.05, 0 is spent and 0.05 left"
    assert spent(budget) == f"passed the first look, confirmed at the level 0.025; {left}"
    assert spent(budget | {"confirmed": False}) == f"passed the first look, not confirmed at the level 0.025; {left}"
    assert spent(budget | {"screened": False, "level": None}) == f"did not pass the first look; {left}"
    gone = budget | {"confirmed": False, "level": None, "spent": 0.05, "left": 0.0}
    assert spent(gone).startswith(
        "passed the first look, and no look can confirm any more; of the error budget 0.05, 0.05"
    )


def test_suites_and_scores_are_not_in_the_order_of_their_names() -> None:
    assert [name for name, _ in target_first({"far": {}, "old": {}, "target": {}})] == ["target", "far", "old"]
    found = dict.fromkeys(["maj@16", "pass@1", "pass@16", "pass@2"], 0.5)
    told = scores(a_suite(champion=found, candidate=found | {"maj@16": 0.75}))
    assert told == [("pass@1", (0.5, 0.5)), ("pass@2", (0.5, 0.5)), ("pass@16", (0.5, 0.5)), ("maj@16", (0.5, 0.75))]


def test_a_guard_is_watched_over_all_rounds_with_the_lines_it_had_last() -> None:
    first = a_decision(guards={"a": an_alarm(0.95), "b": an_alarm(None)})
    second = a_decision(guards={"a": an_alarm(0.75, "yellow", warn=0.8), "c": an_alarm(-0.1, warn=0.1, halt=0.5)})
    told = watched([a_round(1, decision=first), a_round(2, decision=second)])
    assert [(guard.name, guard.warn, guard.halt) for guard in told] == [
        ("a", "≤ 0.8", "≤ 0.7"), ("b", "≤ 0.9", "≤ 0.7"), ("c", "≥ 0.1", "≥ 0.5")
    ]  # fmt: skip
    assert [[alarm and reading(alarm["value"]) for alarm in guard.alarms] for guard in told] == [
        ["0.950", "0.750"], ["–", None], [None, "−0.100"]
    ]  # fmt: skip
    assert reading(12345.6) == "12,346"


def test_readings_beyond_a_line_are_told_by_guard() -> None:
    assert warned([a_round(1), a_round(2, "rejected")]) == []
    rounds = [a_round(1, "pending"), a_round(2), a_round(3, "halted")]
    (guard,) = warned(rounds)
    assert (guard.guard, guard.look) == ("precision", "the samples")
    assert {number: alarm["level"] for number, alarm in guard.alarms.items()} == {1: "yellow", 3: "red"}


def test_contaminated_examples_are_told_by_their_source() -> None:
    rounds = [a_round(1, contaminated={"newest": 1200, "replay_pool": 3, "seed_data": 0}), a_round(2, contaminated={})]
    assert [funnel.contaminated.get("newest") for funnel in funnels(rounds)] == [1200, None]
    text = render(a_history(*rounds), [])
    assert text.count(" contaminated</b>") == 1
    assert "<b>1,203 contaminated</b><span>newest <b>1,200</b></span><span>replay pool <b>3</b></span></p>" in text


def test_reasons_of_rejection_keep_their_colour_over_the_rounds() -> None:
    rounds = [a_round(1, rejected={"a": 1, "b": 5}), a_round(2, rejected={"a": 1})]
    assert reasons(rounds) == {"b": 1, "a": 2}
    assert [(part.name, part.number, part.tone) for part in funnels(rounds)[1].rejected] == [("a", 1, 2)]
    many = reasons([a_round(1, rejected={str(i): 100 - i for i in range(9)})])
    assert list(many.values()) == [1, 2, 3, 4, 5, 5, 5, 5, 5]


def a_step(selector: str, reached: int, rejected: dict[str, int], says: str = "") -> dict[str, Any]:
    kept = reached - sum(rejected.values())
    return {"selector": selector, "in": reached, "kept": kept, "rejected": rejected, "says": says}


A_FUNNEL = [
    a_step("rate", 1000, {}),
    a_step("correct", 1000, {"wrong answer": 450}),
    a_step("budget", 550, {"duplicate": 50}, "499 of 500 tokens"),
]


def test_a_round_s_selectors_stand_in_their_order_with_what_each_rejected() -> None:
    (told,) = selections([a_round(1), a_round(2, funnel=A_FUNNEL)])
    assert (told.round, told.rollouts, told.kept, told.empty) == (2, 1000, 500, "")
    assert [(step.selector, step.reached, step.kept, step.says) for step in told.selections] == [
        ("rate", 1000, 1000, ""),
        ("correct", 1000, 550, ""),
        ("budget", 550, 500, "499 of 500 tokens"),
    ]
    tones = reasons([a_round(1)])
    assert [[(p.name, p.number, p.tone) for p in step.rejected] for step in told.selections] == [
        [], [("wrong answer", 450, tones["wrong answer"])], [("duplicate", 50, tones["duplicate"])]
    ]  # fmt: skip


def a_role(name: str, before: str, after: str, **given: Any) -> dict[str, Any]:
    told = {"stage": "finetune_policy", "method": "", "steps": 0}
    return {"role": name, "before": before * 64, "after": after * 64} | told | given


def test_a_training_on_own_attempts_tells_how_many_groups_taught_something() -> None:
    rounds = [a_round(1, roles=[a_role("champion", "a", "b", informative=0.425)]), a_round(2, roles=[])]
    page = render(a_history(*rounds), [])
    assert ">Informative</th>" in page
    assert re.findall(r'<td class="n">([^<]*)</td></tr>', page)[:2] == ["42.5%", "—"]
    assert ">Informative</th>" not in render(a_history(a_round(1)), [])


def in_lanes() -> dict[str, Any]:
    """Two rounds of a loop with two policies; the second round left the proposer as it was, and was rejected."""
    first = [
        a_role("executor", "a", "b", stage="reinforce_policy", method="adpo", steps=1400),
        a_role("proposer", "1", "2", steps=5),
    ]
    second = [a_role("executor", "b", "c"), a_role("proposer", "2", "2", steps=5)]
    return a_history(a_round(1, roles=first), a_round(2, "rejected", roles=second))


def test_each_role_has_a_lane_with_what_a_round_made_of_its_policy() -> None:
    told = [
        (bundle.round, bundle.verdict, [(lane.role, lane.before[:1], lane.after[:1], lane.stage, lane.how, lane.same)
                                        for lane in bundle.lanes])
        for bundle in lanes(in_lanes()["rounds"])
    ]  # fmt: skip
    executor, proposer = ("executor", "reinforce_policy"), ("proposer", "finetune_policy")
    assert told == [
        (1, "promoted", [(executor[0], "a", "b", executor[1], "adpo, 1,400 steps", False),
                         (proposer[0], "1", "2", proposer[1], "5 steps", False)]),
        (2, "rejected", [(executor[0], "b", "c", proposer[1], "", False),
                         (proposer[0], "2", "2", proposer[1], "5 steps", True)]),
    ]  # fmt: skip


def test_a_round_that_does_not_tell_of_a_role_leaves_its_lane_empty() -> None:
    rounds = [*in_lanes()["rounds"], a_round(3, roles=[a_role("executor", "c", "d")]), a_round(4)]
    assert [[bool(lane.after) for lane in bundle.lanes] for bundle in lanes(rounds)] == [
        [True, True], [True, True], [True, False], [False, False]
    ]  # fmt: skip


def test_a_loop_with_one_policy_has_no_lanes() -> None:
    history = a_history(a_round(1, roles=[a_role("champion", "a", "b")]))
    assert lanes(history["rounds"]) == []
    assert 'id="roles"' not in render(history, [])


def test_without_a_funnel_no_selectors_are_shown() -> None:
    assert selections([a_round(1)]) == []
    assert "Through the selectors" not in render(a_history(a_round(1)), [])


def test_attempts_that_are_alike_are_counted() -> None:
    differing = attempt("2", False, True, "no majority")
    told = sample(a_task(attempt("1", None), differing))
    assert [(a.completion, a.ok, a.differs) for a in told.attempts] == [("1", None, False), ("2", False, True)]
    told = sample(a_task(attempt("1"), differing, attempt("1"), attempt("1", truth=None)))
    assert [(a.completion, a.times, a.differs) for a in told.attempts] == [("1", 3, False), ("2", 1, True)]
    crowd = sample(a_task(*(attempt(str(i)) for i in range(DISTINCT_ATTEMPTS + 3))))
    assert (len(crowd.attempts), crowd.more) == (DISTINCT_ATTEMPTS, 3)


def test_long_texts_lose_their_middle() -> None:
    assert clipped("short") == ("short", "", "")
    assert clipped("a" * TEXT_HEAD + "b" * 1234 + "c" * TEXT_TAIL) == ("a" * TEXT_HEAD, "1,234", "c" * TEXT_TAIL)


def a_course(
    rounds: int = 2, steps: int = 4, levels: int = 2, asked: LevelCurriculum | None = None
) -> list[dict[str, Any]]:
    """Rounds whose states are those of a real curriculum: each step draws the level that has most mass."""
    asked, numbers = asked or Ordered(horizon=rounds * steps), range(1, levels + 1)
    arms, told = ArmState.begin(numbers), list[dict[str, Any]]()
    for number in range(1, rounds + 1):
        arms = arms.for_round(numbers, "stop")
        for step in range(steps):
            mass = asked.mass(arms)
            seen = {max(mass, key=lambda level: mass[level]): ArmFeedback(0.5, step / steps, 8)}
            arms = asked.observed(arms, seen)
        told.append(a_round(number, state={"training": {"curriculum": entry(asked, arms)}}))
    return told


def test_the_arms_are_told_over_the_steps_of_all_rounds() -> None:
    told = curriculum([*a_course(), a_round(3)])
    assert told is not None
    assert told.steps == 8
    assert [(mark.at, mark.round) for mark in told.marks] == [(0, 1), (50, 2)]
    first, second = told.curves
    assert (first.level, first.shade, first.first, first.last) == (1, 0, 1, 0)
    assert (second.level, second.shade, second.first, second.last) == (2, 1, 0, 1)
    assert first.lines == "M6.25 100.0L18.75 75.0L31.25 50.0L43.75 25.0"
    assert second.lines == "M56.25 100.0L68.75 75.0L81.25 50.0L93.75 25.0"
    assert [(row.round, row.strategy, row.mean) for row in told.rows] == [
        (1, "ordered,horizon=8", Column({1: 1.0, 2: 0.0}, {1: 0.375})),
        (2, "ordered,horizon=8", Column({1: 0.0, 2: 1.0}, {2: 0.375})),
    ]


def test_the_areas_of_the_arms_stand_on_one_another() -> None:
    assert area([0.0, 0.25], [0.5, 0.75]) == "M0 100.0V50.0H50.0V25.0H100.0V75.0H50.0V100.0H0.0Z"
    told = curriculum(a_course(rounds=1, steps=1, levels=3, asked=Uniform()))
    assert told is not None
    assert [curve.area for curve in told.curves] == [
        "M0 100.0V66.67H100.0V100.0H0.0Z", "M0 66.67V33.33H100.0V66.67H0.0Z", "M0 33.33V0.0H100.0V33.33H0.0Z"
    ]  # fmt: skip


def test_a_pass_rate_is_a_line_where_it_was_seen_on_and_a_dot_where_it_was_not() -> None:
    assert rate_paths([0.0, 0.5, None, None, 1.0]) == (
        "M10.0 100.0L30.0 50.0", "M90.0 0.0h0", "M10.0 100.0L30.0 50.0L90.0 0.0"
    )  # fmt: skip
    assert rate_paths([None, 0.5]) == ("", "M75.0 50.0h0", "")
    assert rate_paths([None]) == ("", "", "")


def test_many_steps_are_told_as_few_columns_and_gaps_between_points_are_filled() -> None:
    told = curriculum(a_course(rounds=3, steps=300))
    assert told is not None
    assert told.steps == 900
    assert told.curves[0].area.count("H") == 2 * COLUMNS
    assert told.curves[0].area.startswith("M0 100.0V0.0H")
    marks = curriculum(a_course(rounds=33, steps=1))
    assert marks is not None
    assert [mark.round for mark in marks.marks] == list(range(1, 34, 4))
    assert len(marks.marks) <= MARKED
    low, high = ({"mass": {"1": mass}, "rate": {"1": None}} for mass in (0.25, 0.75))
    assert [column.mass[1] for column in in_columns([(0.0, low), (0.1, high), (0.8, high)], 4)] == [
        0.5, 0.5, 0.5, 0.75
    ]  # fmt: skip


def test_a_loop_without_arms_has_none_in_its_report() -> None:
    assert curriculum([]) is None
    assert curriculum([a_round(1), a_round(2, state={"weights": {"even": 0.5}})]) is None
    assert 'id="arms"' not in render(a_history(a_round(1)), [])
    assert 'href="#arms"' not in render(a_history(a_round(1)), [])


def test_arms_that_change_between_rounds_are_told_together() -> None:
    (before,), (after,) = a_course(rounds=1, levels=2), a_course(rounds=1, levels=3, asked=Uniform())
    told = curriculum([before, after | {"round": 2}])
    assert told is not None
    assert [(curve.level, curve.first) for curve in told.curves] == [(1, 1), (2, 0), (3, 0)]
    text = render(a_history(before, after | {"round": 2}), [])
    assert "as <b>ordered,horizon=4, uniform</b> drew them" in text
    assert Tags(text).open == []


def test_only_the_newest_samples_are_shown_where_room_is_scarce() -> None:
    history, _ = a_large_run(rounds=20)
    shown = [round.round for round in samples(history["rounds"])]
    assert 0 < len(shown) < 20
    assert shown == list(range(21 - len(shown), 21))


def test_times_sum_to_the_whole_run() -> None:
    told = times([a_moment(1), a_moment(2)])
    assert [row.stage for row in told] == ["pretrain_policy", *STAGES]
    assert [row.seconds for row in told] == [100, 20, 40, 60, 80]
    assert sum(row.share for row in told) == pytest.approx(1)
    assert told[0].peak_bytes == 2**31


def test_an_artifact_without_moments_is_no_obstacle() -> None:
    assert times([{"round": 1, "stages": [{}]}]) == []
    assert "No times were noted" in render(a_history(a_round(1)), [{"round": 1, "stages": [{}]}])


def test_only_exact_values_look_exact() -> None:
    assert [short(value) for value in (0.0, 0.004, 0.97, 0.996, 1.0)] == ["0", ".00", ".97", ".99", "1"]
    assert [percent(value) for value in (None, 0.0, 0.0001, 0.5, 0.9999, 1.0)] == [
        "—", "0%", "0.1%", "50.0%", "99.9%", "100%"
    ]  # fmt: skip


def test_durations_are_said_as_a_person_says_them() -> None:
    assert [duration(seconds) for seconds in (0.0082, 1.43, 36.31, 59.96, 754, 7320)] == [
        "8 ms", "1.43 s", "36.3 s", "1 min 0 s", "12 min 34 s", "2 h 2 min"
    ]  # fmt: skip


# In a browser


@pytest.fixture(scope="module")
def small() -> str:
    """Three rounds; the last one's champion has every shade of accuracy, and its samples every kind of verdict."""
    shades = {str(level): level / 10 for level in range(11)}
    wrong = a_task(attempt("4\u202e60", truth=False), attempt("", False, True, "no end token"), *[attempt("7")] * 4)
    third = a_round(3, "rejected", accuracy={"candidate": {}, "champion": shades}, samples=[wrong])
    return render(a_history(a_round(1), a_round(2), third), [a_moment(number) for number in (1, 2, 3)])


@pytest.fixture(scope="module")
def every_verdict() -> str:
    verdicts = ["promoted", "rejected", "pending", "halted"]
    return render(a_history(*(a_round(number, verdict) for number, verdict in enumerate(verdicts, 1))), [])


@pytest.mark.debian("chromium")
def test_the_heatmap_has_a_row_a_round_and_a_cell_a_level(browser: Browser, tmp_path: Path, small: str) -> None:
    page = opened(browser, tmp_path, small)
    table = page.get_by_role("table", name="Share of held-out items")
    told = table.evaluate("(table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent))")
    assert told == [
        ["Round", "Level"],
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
        ["base", "", "1", "1", ".25", "0", *[""] * 6],
        ["1", "", "1", "1", ".75", "0", *[""] * 6],
        ["2", "", "1", "1", "1", ".75", "0", *[""] * 5],
        ["3", "0", ".10", ".20", ".30", ".40", ".50", ".60", ".70", ".80", ".90", "1"],
    ]
    assert table.get_by_title("round 2, level 4: 0.75").inner_text() == ".75"
    left = [each.evaluate("(e) => e.getBoundingClientRect().left") for each in (table, table.locator("tbody th").first)]
    assert left[1] - left[0] < 8  # nothing stretches the first column
    page.close()


@pytest.mark.debian("chromium")
def test_every_section_is_there_and_the_last_round_s_samples_are_open(
    browser: Browser, tmp_path: Path, small: str
) -> None:
    page = opened(browser, tmp_path, small)
    headings = [heading.inner_text() for heading in page.get_by_role("heading", level=2).all()]
    assert headings == [
        "Accuracy by level over rounds", "Rounds", "The gate", "Distance from the anchor", "Guards",
        "Kept and rejected", "Label audit", "Samples", "Time by stage", "What it cost", "Parameters",
    ]  # fmt: skip
    links = page.get_by_role("navigation").get_by_role("link").all()
    assert len(links) == len(headings)
    assert all(page.locator(f"h2{link.get_attribute('href')}").count() == 1 for link in links)
    gates = page.get_by_role("table", name="What the gate decided").locator("tbody tr")
    assert [row.locator(".badge").inner_text() for row in gates.all()] == ["promoted", "promoted", "rejected"]
    samples = page.locator("section", has=page.locator("#samples"))
    assert samples.locator("details[open] summary").all_inner_texts() == ["Round 31 tasks 2 judged against the truth"]
    attempts = samples.locator("details[open] li")
    assert [re.sub(r"\s+", " ", text) for text in attempts.all_inner_texts()] == [
        "1× 4\u202e60 ✓ correct but wrong in truth",
        "1× (nothing) ✗ no end token but right in truth",
        "4× 7 ✓ correct",
    ]
    page.close()


@pytest.mark.debian("chromium")
def test_the_gate_tells_every_suite_of_the_newest_round(browser: Browser, tmp_path: Path, every_verdict: str) -> None:
    page = opened(browser, tmp_path, every_verdict)
    gate = page.locator("section", has=page.locator("#gate"))
    assert [badge.inner_text() for badge in gate.locator("summary .badge").all()] == [
        "promoted", "rejected", "pending", "halted"
    ]  # fmt: skip
    assert gate.locator("details[open] summary b").all_inner_texts() == ["Round 4"]
    gate.locator("summary").nth(1).click()
    table = gate.get_by_role("table").first
    told = table.evaluate("(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.innerText))")
    all_scores = "0.500 → 0.510\npass@2 0.600 → 0.610\npass@4 0.700 → 0.710\nmaj@4 0.650 → 0.660"
    assert told == [
        ["target", "✗ not passed", "", "+0.052 [+0.031, +0.073]", "p ≤ 0.05", "McNemar, p = 0.0021",
         "0.500 → 0.552", "600 × 1"],
        ["far", "✓ passed", "", "+0.010 [−0.011, +0.031]", "≥ −0.030", "bootstrap", all_scores, "600 × 4"],
        ["old", "✓ passed", "", "−0.004 [−0.025, +0.017]", "≥ −0.030", "bootstrap", "0.500 → 0.496", "600 × 1"],
    ]  # fmt: skip
    page.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_lanes_of_a_round_are_joined_and_their_text_stands_out(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    page = opened(browser, tmp_path, render(in_lanes(), []), width, scheme)
    assert page.get_by_role("navigation").get_by_role("link", name="Roles").count() == 1
    table = page.get_by_role("table", name="What each round made of the loop's policies")
    words = [re.sub(r"\s+", " ", text) for text in table.locator("td.lane").all_inner_texts()]
    assert [text.strip() for text in words] == [
        "aaaaaaaa → bbbbbbbb reinforce_policy: adpo, 1,400 steps",
        "11111111 → 22222222 finetune_policy: 5 steps",
        "bbbbbbbb → cccccccc finetune_policy",
        "22222222 as it was",
    ]
    dots = [dot.bounding_box() for dot in table.locator(".dot").all()]
    middle = [(round(d["x"] + d["width"] / 2), round(d["y"] + d["height"] / 2)) for d in dots if d]
    assert middle[0][1] == middle[1][1] < middle[2][1] == middle[3][1]
    assert middle[0][0] == middle[2][0] < middle[1][0] == middle[3][0]
    joins = "(e) => { const s = getComputedStyle(e, '::after'); return [s.width, s.borderTopWidth, s.borderTopColor]; }"
    joined = [cell.evaluate(joins) for cell in table.locator("td.lane:not(.last)").all()]
    assert [float(wide.removesuffix("px")) for wide, _, _ in joined] == pytest.approx(
        [middle[1][0] - middle[0][0]] * 2, abs=1
    )
    assert [thick for _, thick, _ in joined] == ["2px"] * 2
    assert joined[0][2] != joined[1][2], "what came in force is joined in another colour"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert min(contrasts(page, ".lanes td :not(.dot), .lanes th")) >= 4.5
    page.close()


@pytest.mark.debian("chromium")
def test_an_interval_is_drawn_where_its_numbers_are(browser: Browser, tmp_path: Path, every_verdict: str) -> None:
    page = opened(browser, tmp_path, every_verdict)
    places = page.locator("section", has=page.locator("#gate")).locator("details[open] .plot").evaluate_all(
        "(all) => all.map((plot) => [plot, ...plot.children].map((e) => e.getBoundingClientRect()))"
    )  # fmt: skip
    lows, highs, dots = [], [], []
    for plot, bar, dot in places:
        assert plot["left"] < bar["left"] < bar["right"] < plot["right"]
        assert (bar["left"] + bar["right"]) / 2 == pytest.approx((dot["left"] + dot["right"]) / 2, abs=1)
        lows.append(bar["left"])
        highs.append(bar["right"])
        dots.append(dot["left"])
    assert dots[0] > dots[1] > dots[2]
    assert lows[0] == pytest.approx(highs[1], abs=1)  # both are +0.031
    page.close()


@pytest.mark.debian("chromium")
def test_a_guard_that_warns_is_told_in_signs_and_words(browser: Browser, tmp_path: Path, every_verdict: str) -> None:
    page = opened(browser, tmp_path, every_verdict)
    table = page.get_by_role("table", name="What each guard measured")
    told = table.evaluate("(table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText))")
    assert told == [
        ["Round", "gap\n⚠ ≤ 0.9\n✗ ≤ 0.7", "length\n⚠ ≥ 0.58\n✗ ≥ 1", "precision\n⚠ ≤ 0.9\n✗ ≤ 0.7"],
        ["1", "–", "0.020", "0.990"],
        ["2", "–", "0.020", "0.990"],
        ["3", "–", "0.020", "⚠ 0.850"],
        ["4", "–", "0.020", "✗ 0.600"],
    ]
    assert table.get_by_title("no truth is known").count() == 4
    beyond = page.locator(".alarms article")
    assert [text.split("\n") for text in beyond.all_inner_texts()] == [
        ["precision", "Look at the samples", "", "Round 3", "⚠ 0.850", "9 of 10 are true",
         "Round 4", "✗ 0.600", "9 of 10 are true"]
    ]  # fmt: skip
    page.close()


@pytest.mark.debian("chromium")
def test_the_funnel_narrows_from_selector_to_selector(browser: Browser, tmp_path: Path) -> None:
    why = "Nothing kept: of 1,000 rollouts 1,000 were rejected by '<b>mine</b>' (wrong answer)"
    nothing = [a_step("<b>mine</b>", 1000, {"wrong answer": 1000})]
    rounds = [
        a_round(1, funnel=A_FUNNEL),
        a_round(2, funnel=nothing, kept={}, rejected={"wrong answer": 1000}, empty=why),
    ]
    page = opened(browser, tmp_path, render(a_history(*rounds), []))
    section = page.locator("section", has=page.locator("#funnel"))
    assert [re.sub(r"\s+", " ", text) for text in section.locator("summary").all_inner_texts()] == [
        "Round 11,000 rollouts → 1,000 → 550 → 500", "Round 21,000 rollouts → 0 nothing kept"
    ]  # fmt: skip
    assert section.locator("details[open] .reason").all_inner_texts() == [f"{why}."]
    section.locator("summary").first.click()
    table = section.get_by_role("table").nth(1)
    told = table.evaluate("(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.innerText))")
    assert [[re.sub(r"\s+", " ", cell) for cell in row] for row in told] == [
        ["rate", "1,000", "none rejected", "1,000"],
        ["correct", "1,000", "wrong answer 450", "550"],
        ["budget", "550", "duplicate 50 499 of 500 tokens", "500"],
    ]
    bars = table.locator(".bar").evaluate_all("(all) => all.map((bar) => bar.getBoundingClientRect().width)")
    assert bars[0] == bars[1]
    assert bars[2] == pytest.approx(0.55 * bars[0], abs=1)
    kept = table.locator(".bar i.t0").evaluate_all("(all) => all.map((part) => part.getBoundingClientRect().width)")
    assert kept[1] == pytest.approx(bars[2], abs=2)
    page.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_arms_are_drawn_where_their_numbers_are(browser: Browser, tmp_path: Path, scheme: Any) -> None:
    page = opened(browser, tmp_path, render(a_history(*a_course(levels=4, steps=8)), []), scheme=scheme)
    section = page.locator("section", has=page.locator("h2#arms"))
    assert page.get_by_role("navigation").get_by_role("link", name="Arms").count() == 1
    mass = section.get_by_role(
        "img", name="Sampling mass by level, from the first step to the last: level 1 100% to 0%"
    )
    square, *areas = mass.evaluate(
        "(chart) => [chart, ...chart.querySelectorAll('.area')].map((e) => e.getBoundingClientRect())"
    )
    for each in areas:  # a level that is drawn alone in its phase is as high as the chart then
        assert each["height"] == pytest.approx(square["height"], abs=1)
    rate = section.get_by_role("img", name="Pass rate by level")
    square, *lines = rate.evaluate(
        "(chart) => [chart, ...chart.querySelectorAll('.lines')].map((e) => e.getBoundingClientRect())"
    )
    lefts = [(path["left"] - square["left"]) / square["width"] for path in lines]
    assert lefts == pytest.approx([0.03125, 0.28125, 0.53125, 0.78125], abs=0.01)
    tones = section.locator(".legend .shade").evaluate_all(
        "(all) => all.map((e) => getComputedStyle(e).backgroundColor)"
    )
    drawn = mass.evaluate("(chart) => [...chart.querySelectorAll('.area')].map((e) => getComputedStyle(e).fill)")
    assert tones == drawn
    assert len(set(tones)) == 4
    assert section.locator(".legend li").all_inner_texts() == [
        *(f"level {level}" for level in range(1, 5)), "not drawn in between"
    ]  # fmt: skip
    begins = section.locator(".chart").first.locator(".number").evaluate_all(
        "(all) => all.map((e) => [e.textContent, e.getBoundingClientRect().left])"
    )  # fmt: skip
    left, width = mass.evaluate("(chart) => [chart.getBoundingClientRect().left, chart.getBoundingClientRect().width]")
    assert [text for text, _ in begins] == ["1", "2"]
    assert [at for _, at in begins] == pytest.approx([left, left + width / 2], abs=1)
    page.close()


@pytest.mark.debian("chromium")
def test_the_arms_means_are_told_by_round(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, render(a_history(*a_course()), []))
    section = page.locator("section", has=page.locator("h2#arms"))
    section.locator("summary").click()
    told = section.get_by_role("table").evaluate("(t) => [...t.rows].map((r) => [...r.cells].map((c) => c.innerText))")
    assert told == [
        ["Round", "Level 1", "Level 2"], ["1", "100%\n37.5%", "0%\n—"], ["2", "0%\n—", "100%\n37.5%"]
    ]  # fmt: skip
    page.close()


@pytest.mark.debian("chromium")
def test_the_label_audit_is_told_by_round_and_by_difficulty(browser: Browser, tmp_path: Path) -> None:
    notes = {"answers": 1200, "answers that cannot be read": 7}
    unknown = an_audit(**measured(0, 0, 0, 0), strata=[], bins=[])
    rounds = [a_round(1, audit=unknown), a_round(2), a_round(3, audit=an_audit(notes=notes))]
    page = opened(browser, tmp_path, render(a_history(*rounds), []))
    section = page.locator("section", has=page.locator("#audit"))
    tables = section.locator("table").evaluate_all(
        "(all) => all.map((table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.textContent)))"
    )
    whole = ["1,000", "545", "500", "0", "99.0%", "90.8%", "0.055", "0.051"]
    assert tables[0] == [["2", *whole], ["3", *whole]]
    assert tables[2] == [
        ["level 2", "300", "300", "300", "0", "100%", "100%", "0.055", "0.051"],
        ["level 10", "700", "245", "200", "40", "97.5%", "79.6%", "—", "—"],
    ]
    assert section.locator("details[open] summary b").all_inner_texts() == ["Round 3"]
    assert "asked for 1,200 answers; 7 of them cannot be read" in section.locator("details[open]").inner_text()
    chart = section.locator("details[open]").get_by_role("img", name="0% at a score of 0.02, 85.0% at a score of 0.55")
    square, *dots = chart.evaluate("(chart) => [chart, ...chart.children].map((e) => e.getBoundingClientRect())")
    for dot, (across, up) in zip(dots, [(0.02, 0.0), (0.55, 0.85), (0.98, 0.99)], strict=True):
        assert dot["left"] + dot["width"] / 2 == pytest.approx(square["left"] + across * square["width"], abs=2)
        assert dot["top"] + dot["height"] / 2 == pytest.approx(square["bottom"] - up * square["height"], abs=2)
    page.close()


def test_only_the_newest_audits_are_told_by_difficulty() -> None:
    told = audits([a_round(number) for number in range(1, AUDITS_BY_DIFFICULTY + 3)])
    assert [bool(each.strata) for each in told] == [False, False] + [True] * AUDITS_BY_DIFFICULTY
    assert "No truth is known in this run" in render(a_history(a_round(1, audit=an_audit(rollouts=0))), [])


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_window(
    browser: Browser, tmp_path: Path, every_verdict: str, width: int
) -> None:
    long = a_round(
        1, funnel=[a_step("my_selectors:WithARatherLongName" * 2, 1000, {"a reason " * 9: 999}, "says " * 30)]
    )
    arms = render(a_history(*a_course(rounds=30, steps=9, levels=12)), [])
    large = render(*a_large_run(rounds=3))
    for text in (every_verdict, large, arms, render(a_history(long), []), render(a_history(), [])):
        page = opened(browser, tmp_path, text, width)
        page.locator("details").evaluate_all("(all) => all.forEach((details) => details.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.close()


@pytest.mark.debian("chromium")
def test_many_levels_scroll_beside_a_column_that_stays(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, render(*a_large_run(rounds=3)), width=400)
    region = page.get_by_role("region", name="Accuracy by level over rounds")
    name = region.get_by_role("rowheader", name="base")
    before = name.bounding_box()
    assert region.evaluate("(region) => { region.scrollLeft = 500; return region.scrollLeft; }") == 500
    assert name.bounding_box() == before
    page.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    browser: Browser, tmp_path: Path, small: str, every_verdict: str, scheme: str
) -> None:
    page = opened(browser, tmp_path, small, scheme=scheme)
    for selector in (".heat td[title]", ".badge", ".quiet", "caption", "dt", "th", "a", ".parts", ".verdict span"):
        assert min(contrasts(page, selector)) >= 4.5, selector
    page.close()
    page = opened(browser, tmp_path, every_verdict, scheme=scheme)
    for selector in (
        ".badge",
        ".met",
        ".scores",
        ".guards td",
        ".guards span",
        ".alarms p, .alarms li *",
        ".legend li",
    ):
        assert min(contrasts(page, selector)) >= 4.5, selector
    page.close()


@pytest.mark.debian("chromium")
def test_dark_is_dark_and_light_is_light(browser: Browser, tmp_path: Path, small: str) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = opened(browser, tmp_path, small, scheme=scheme)
        ((_, grounds[scheme]),) = page.evaluate(LUMINANCES, "body")
        page.close()
    assert grounds["light"] > 0.9
    assert grounds["dark"] < 0.02


def test_what_was_measured_at_the_end_is_told_in_four_digits() -> None:
    text = render(a_history(a_round(1)), [], {"solved": 32, "rate": 0.41939460942645795})
    assert re.findall(r"(0[.]4194|0[.]41939|>32<)", text) == [">32<", "0.4194"]
