"""What the report tells of the tasks that a policy proposed, from bands that ``band_tasks`` counted."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser
from selfloop.filter.band import BINS, BandParams, Measured, Tally
from selfloop.filter.band import frontier as banded
from selfloop.report.render import render
from selfloop.report.sections.frontier import BY_LEVEL, FATES, frontier, proposals

from .. import browser as chromium
from ..browser import contrasts, opened
from .test_render import Tags, a_history, a_round, an_audit, measured

pytestmark = pytest.mark.slow

browser = chromium.browser

Proposed = tuple[int, float | None]
"""A task's level, and its rate, which it has not where no attempt can be read."""

NO_TRUTH = an_audit(**measured(0, 0, 0, 0), strata=[], bins=[])
BAND = {"band_tasks": BandParams(min_rate=0.25, max_rate=0.75).model_dump()}
FIRST: list[Proposed] = [(1, 1.0), (2, 0.5), (2, 0.25), (2, 0.11), (10, None)]
SECOND: list[Proposed] = [(2, 0.5), (3, 0.55), (3, 0.6), (4, 0.11)]


def a_band(proposed: Sequence[Proposed], room: int = 1000) -> dict[str, Any]:
    """What the stage tells of such tasks, of which it keeps as many as there is room for."""
    levels, rates = [level for level, _ in proposed], [rate for _, rate in proposed]
    columns = {"id": map(str, range(len(levels))), "level": levels, "metadata": ["{}"] * len(levels)}
    types = {"id": pa.string(), "level": pa.int64(), "metadata": pa.string()}
    tasks = pa.record_batch([pa.array(columns[name], types[name]) for name in types], names=list(types))
    label = pa.array([None if rate is None else "x" for rate in rates], pa.string())
    tally = Tally()
    found = Measured(tasks, pa.array([rate or 0.0 for rate in rates], pa.float64()), label)
    kept = banded(found, BandParams(min_rate=0.25, max_rate=0.75), tally)
    tally.keep(kept["level"][:room])
    told: dict[str, Any] = json.loads(json.dumps(tally.report()))
    return told


def a_loop(*rounds: Sequence[Proposed], **given: Any) -> dict[str, Any]:
    """A history with such proposals, a round each; where there are none, nothing was trained on either."""
    told = [
        a_round(number, band=a_band(proposed), **(given if proposed else given | {"audit": NO_TRUTH}))
        for number, proposed in enumerate(rounds, 1)
    ]
    return a_history(*told) | {"stages": BAND}


def test_a_round_s_proposals_are_told_with_their_means_and_what_became_of_them() -> None:
    told = frontier(a_loop(FIRST, SECOND)["rounds"])
    assert told is not None
    first, second = told.rows
    assert (first.round, first.tasks, first.level) == (1, 5, 3.4)
    assert first.rate == pytest.approx(1.86 / 5)
    assert first.fates == {"kept": 2, "below": 1, "above": 1, "unanswered": 1}
    assert (
        first.spread == "1 from 0% to 10%, 1 from 10% to 20%, 1 from 20% to 30%, 1 from 50% to 60%, 1 from 90% to 100%"
    )
    assert first.bars[1] == pytest.approx(0.2 / 0.5)
    assert second.bars == [0, 0.5, 0, 0, 0, 1, 0.5, 0, 0, 0]
    assert second.level == 3
    assert first.precision == 0.99
    assert list(told.tones) == ["kept", "below", "above", "unanswered"]
    assert told.levels == [1, 2, 3, 4, 10]


def test_what_the_band_has_no_room_for_is_told() -> None:
    told = frontier([a_round(1, band=a_band(SECOND, room=1))])
    assert told is not None
    assert told.rows[0].fates == {"kept": 1, "below": 1, "capped": 2}


def test_a_round_that_proposed_nothing_has_no_mean() -> None:
    told = frontier(a_loop(SECOND, [])["rounds"])
    assert told is not None
    nothing = told.rows[1]
    assert (nothing.tasks, nothing.level, nothing.rate, nothing.fates, nothing.precision) == (0, None, None, {}, None)
    assert nothing.bars == [0] * BINS
    assert [row.round for row in told.newest] == [1]


def test_a_round_without_a_band_is_left_out_and_a_loop_without_one_has_no_frontier() -> None:
    told = frontier([a_round(1), a_round(2, band={}), a_round(3, band=a_band(SECOND))])
    assert told is not None
    assert [row.round for row in told.rows] == [3]
    for rounds in ([], [a_round(1), a_round(2, band={})], [a_round(1, band=a_band([]))]):
        assert frontier(rounds) is None


def test_only_the_newest_rounds_are_told_by_level() -> None:
    told = frontier(a_loop(FIRST, *[SECOND] * BY_LEVEL, [])["rounds"])
    assert told is not None
    assert [row.round for row in told.newest] == list(range(2, BY_LEVEL + 2))
    assert (told.older, told.levels) == (True, [2, 3, 4])
    fewer = frontier(a_loop(*[SECOND] * BY_LEVEL, [])["rounds"])
    assert fewer is not None
    assert not fewer.older


@given(st.lists(st.tuples(st.integers(1, 12), st.none() | st.floats(0, 1)), min_size=1), st.integers(0, 20))
def test_every_proposal_is_told_once(proposed: list[Proposed], room: int) -> None:
    round = a_round(1, band=a_band(proposed, room))
    highest = max(round["band"]["histogram"]) / len(proposed)
    row = proposals(round, highest)
    assert sum(row.fates.values()) == row.tasks == len(proposed)
    assert set(row.fates) <= set(FATES)
    assert row.level == pytest.approx(sum(level for level, _ in proposed) / len(proposed))
    assert sum(int(count) for count in re.findall(r"(\d+) from", row.spread)) == len(proposed)
    assert max(row.bars) == 1
    assert [bar > 0 for bar in row.bars] == [count > 0 for count in row.histogram]


def test_a_report_without_proposals_is_as_it_is_without_bands() -> None:
    plain = render(a_history(a_round(1), a_round(2)), [])
    assert render(a_history(a_round(1, band={}), a_round(2, band=a_band([]))), []) == plain
    assert not re.search("frontier-by-level|#frontier|[.]spread", plain)


def test_a_report_of_proposals_is_balanced_and_names_the_band_where_it_is_known() -> None:
    history = a_loop(FIRST, [], SECOND)
    text = render(history, [])
    assert Tags(text).open == []
    assert "give its most frequent answer. Kept are those from 25.0% to 75.0%" in text
    right = BandParams(rate="correct").model_dump()
    assert "attempts that are right. Kept" in render(history | {"stages": {"band_tasks": right}}, [])
    unknown = render(history | {"stages": {}}, [])
    assert "Kept are those in the band, neither" in unknown
    assert "the band of rates" not in unknown


def test_one_task_among_thousands_has_a_bar() -> None:
    text = render(a_loop([(1, 0.11), *[(1, 0.5)] * 4000]), [])
    assert text.count('<i class="none"') == BINS - 2


# In a browser


@pytest.mark.debian("chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_frontier_is_told_by_round_and_by_level(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    page = opened(browser, tmp_path, render(a_loop(FIRST, [], SECOND, [(5, 0.1)]), []), width, scheme)
    assert page.get_by_role("navigation").get_by_role("link", name="Frontier").get_attribute("href") == "#frontier"
    section = page.locator("section", has=page.locator("h2#frontier"))
    section.locator("summary").click()
    cells = "(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.innerText))"
    whole = section.get_by_role("table", name="What each round proposed").evaluate(cells)
    assert [[re.sub(r"\s+", " ", cell) for cell in row] for row in whole] == [
        ["1", "5", "3.40", "37.2%", "", "kept 2 below 1 above 1 unanswered 1", "99.0%"],
        ["2", "0", "—", "—", "", "nothing proposed", "—"],
        ["3", "4", "3.00", "44.0%", "", "kept 3 below 1", "99.0%"],
        ["4", "1", "5.00", "10.0%", "", "kept 0 below 1 nothing kept", "99.0%"],
    ]
    levels = section.get_by_role("table", name="Of each level").evaluate(cells)
    assert levels[1] == ["3", "", "1\n50.0%\n1 kept", "2\n57.5%\n2 kept", "1\n11.0%\n0 kept", "", ""]
    assert section.locator(".legend li").all_inner_texts() == [
        "kept", "below the band", "above the band", "unanswered: no attempt can be read", "the band of rates"
    ]  # fmt: skip
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert min(contrasts(page, "section:has(#frontier) :is(p, caption, th, td, .parts *, .scores, .badge, li)")) >= 4.5
    page.close()


@pytest.mark.debian("chromium")
def test_the_rates_are_drawn_where_their_numbers_are(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, render(a_loop(FIRST, [], SECOND), []))
    charts = page.get_by_role("img", name="Tasks by rate")
    assert charts.count() == 2
    chart = page.get_by_role("img", name="Tasks by rate: 1 from 10% to 20%, 2 from 50% to 60%, 1 from 60% to 70%")
    square, *bars = chart.evaluate("(chart) => [chart, ...chart.children].map((e) => e.getBoundingClientRect())")
    inside = square["height"] - 1
    assert [bar["height"] for bar in bars] == pytest.approx([inside * n for n in (0, 0.5, 0, 0, 0, 1, 0.5, 0, 0, 0)])
    assert {bar["bottom"] for bar in bars} == {square["bottom"] - 1}
    line = chart.evaluate("(e) => { const s = getComputedStyle(e, '::after'); return [s.left, s.width]; }")
    assert [float(each.removesuffix("px")) / square["width"] for each in line] == pytest.approx([0.25, 0.5])
    kept = page.locator("section", has=page.locator("h2#frontier")).locator(".bar .t0")
    shares = kept.evaluate_all(
        "(all) => all.map((e) => e.getBoundingClientRect().width / e.parentElement.getBoundingClientRect().width)"
    )
    assert shares == pytest.approx([2 / 5, 3 / 4], abs=0.01)
    page.close()
