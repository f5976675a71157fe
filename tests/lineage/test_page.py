"""The lineage's page and its drawing in a terminal, from versions and moves made by hand; the page in a browser."""

import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from rich.console import Console
from selfloop.cli import lineage
from selfloop.lineage.page import facts, nodes, page, steps
from selfloop.lineage.registry import Move, Version
from selfloop.lineage.tree import Tree, grown

from .. import browser as pages

pytestmark = pytest.mark.slow

browser = pages.browser
EVIL = '</code><script>alert("now")</script><img src=x onerror=alert(1)>'
PARENTS = {1: None, 2: 1, 3: 2, 4: 2, 5: 3, 6: 4, 7: 4, 8: 7, 9: 7}
VERDICTS = dict(
    enumerate(
        ["start", "promoted", "promoted", "pending", "halted", "rejected", "promoted", "rejected", "pending"], 1
    )
)  # fmt: skip
ALIASES = {"champion": 7, "previous": 4, "candidate": 9}


def a_version(number: int, **tags: str) -> Version:
    told = {
        "verdict": VERDICTS[number],
        "parent": str(PARENTS[number] or ""),
        "reason": f"said of {number}",
        "round": str(number - 1),
        "digest": f"{number}" * 64,
        "code": "c0de" * 16,
        "version": "0.9.1",
        "run": "run-a" if number < 6 else "run-b",
    } | tags
    return Version(number, "s3://store/x", "", 1.79e9, {f"selfloop.{name}": value for name, value in told.items()})


def a_move(number: int, version: int, kind: str, reason: str, by: str = "ada@desk") -> Move:
    return Move(number, version, number - 1, kind, reason, by, 1.79e9 + 60 * number, {})


MOVES = [
    a_move(1, 1, "start", "the loop began", "pod"),
    a_move(2, 2, "promote", "said of 2", "pod"),
    a_move(3, 3, "promote", "said of 3", "pod"),
    a_move(4, 2, "rollback", "3 fails\non long prompts"),
    a_move(5, 4, "approve", "looked at forty samples"),
    a_move(6, 7, "promote", "the gate is too strict"),
]


def a_tree(**reasons: str) -> Tree:
    """Nine versions: the champion's line is 1, 2, 4, 7; 3 was rolled back, after which 5 was halted."""
    versions = {number: a_version(number, **reasons) for number in PARENTS}
    return grown("adder", versions, MOVES, ALIASES)


def a_tree_in_lanes() -> Tree:
    """The same of a loop with two policies: the sixth version's proposer is its parent's."""
    told = {
        number: {"roles": json.dumps({"solver": number, "proposer": number}), "digests": f"{number}" * 64 + ",p" + of}
        for number, of in zip(PARENTS, "123454789", strict=True)
    }
    return grown("pair", {number: a_version(number, **told[number]) for number in PARENTS}, MOVES, ALIASES)


def a_long_tree(rounds: int = 60) -> Tree:
    """Every version branches off the one before, so that the graph is as wide as it can be."""
    tags = {"selfloop.verdict": "rejected", "selfloop.reason": "no word is longer " + "x" * 200}
    versions = {
        number: Version(number, "", "", 1.79e9, tags | {"selfloop.parent": str(number - 1) if number > 1 else ""})
        for number in range(1, rounds + 1)
    }
    return grown("wide", versions, [], {})


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
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_people_typed_is_escaped() -> None:
    moves = [*MOVES, a_move(7, 8, EVIL, EVIL, EVIL)]
    versions = {1: a_version(1), 8: a_version(8, reason=EVIL, digest=EVIL, run=EVIL, round=EVIL, verdict=EVIL)}
    text = page(grown(EVIL, versions, moves, ALIASES))
    assert not Tags(text).seen & {"script", "img"}
    assert text.count("&lt;script&gt;alert(&#34;now&#34;)") >= 12


def test_markup_is_balanced_and_holds_nothing_from_elsewhere() -> None:
    for tree in (a_tree(), a_tree_in_lanes(), a_long_tree(), grown("empty", {}, [], {})):
        text = page(tree)
        tags = Tags(text)
        assert tags.open == []
        assert not tags.seen & {"script", "link", "img", "iframe", "object"}
        assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
        ids = {value for name, value in tags.attributes if name == "id"}
        assert {value.removeprefix("#") for name, value in tags.attributes if name == "href"} <= ids


def test_a_branch_is_drawn_in_a_column_of_its_own() -> None:
    told = [
        (node.row.version.number, [rail.kind for rail in node.rails], node.above, node.below)
        for node in nodes(a_tree())
    ]
    assert told == [
        (1, [], False, True),
        (2, [], True, True),
        (3, ["tee"], False, True),
        (5, ["through", "end"], False, False),
        (4, [], True, True),
        (6, ["tee"], False, False),
        (7, [], True, True),
        (8, ["tee"], False, False),
        (9, ["end"], False, False),
    ]


def test_the_champion_s_line_leads_to_the_champion_and_no_further() -> None:
    found = list(nodes(a_tree()))
    assert [node.row.version.number for node in found if node.comes] == [1, 2, 4, 7]
    assert [node.row.version.number for node in found if node.leads] == [1, 2, 4]
    assert [node.row.version.number for node in found if any(rail.leads for rail in node.rails)] == [3, 5, 6]
    assert not any(node.comes or node.leads for node in nodes(a_long_tree()))


def test_each_policy_of_a_version_has_a_lane_and_an_origin() -> None:
    lanes = {bundle.row.version.number: bundle.lanes for bundle in a_tree_in_lanes().bundles}
    assert list(lanes) == sorted(PARENTS)
    for number, (solver, proposer) in lanes.items():
        parent = PARENTS[number]
        assert (solver.role, solver.digest) == ("solver", f"{number}" * 64)
        assert solver.origin == (f"{parent}" * 64 if parent else "")
        assert (proposer.role, proposer.digest) == ("proposer", f"p{4 if number == 6 else number}")
    assert [number for number, both in lanes.items() if any(lane.same for lane in both)] == [6]
    assert a_tree().bundles == []
    assert 'id="roles"' not in page(a_tree())


def test_moves_by_people_are_told_from_those_of_a_run() -> None:
    told = [(step.move.number, step.before, step.by_person) for step in steps(a_tree())]
    assert told == [(1, None, False), (2, 1, False), (3, 2, False), (4, 3, True), (5, 2, True), (6, 4, True)]
    assert {fact.name: (fact.value, fact.note) for fact in facts(a_tree())} == {
        "Champion": ("version 7", "round 6"),
        "Versions": ("9", "2 rejected, 1 pending, 1 halted"),
        "Moves": ("6", "3 by people"),
        "Runs": ("2", "of the loop"),
    }


def shown(monkeypatch: pytest.MonkeyPatch, tree: Tree, width: int, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=terminal)
    monkeypatch.setattr(lineage, "console", console)
    monkeypatch.setattr("selfloop.lineage.tree.tree", lambda registry, run: tree)
    lineage.show(tree.name)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_terminal_s_drawing_has_a_line_a_version_and_one_a_move_by_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.rstrip() for line in shown(monkeypatch, a_tree(), 80, True)] == [
        "Lineage of adder",
        "●       1 round 0  start    said of 1",
        "●       2 round 1  promoted said of 2",
        "│         rollback by ada@desk: 3 fails on long prompts",
        "├─●     3 round 2  promoted said of 3",
        "│ └─✗   5 round 4  halted   said of 5",
        "●       4 round 3  approved previous said of 4",
        "│         approve by ada@desk: looked at forty samples",
        "├─○     6 round 5  rejected said of 6",
        "●       7 round 6  promoted champion said of 7",
        "│         promote by ada@desk: the gate is too strict",
        "├─○     8 round 7  rejected said of 8",
        "└─◌     9 round 8  pending  candidate said of 9",
    ]


def test_a_terminal_s_drawing_joins_the_policies_of_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.rstrip() for line in shown(monkeypatch, a_tree_in_lanes(), 120, True)] == [
        "Lineage of pair",
        "                            solver        proposer",
        "●       1 round 0  start    ● 11111111 ── ● p1 said of 1",
        "●       2 round 1  promoted ● 22222222 ── ● p2 said of 2",
        "│         rollback by ada@desk: 3 fails on long prompts",
        "├─●     3 round 2  promoted ● 33333333 ── ● p3 said of 3",
        "│ └─✗   5 round 4  halted   ✗ 55555555 ── ✗ p5 said of 5",
        "●       4 round 3  approved ● 44444444 ── ● p4 previous said of 4",
        "│         approve by ada@desk: looked at forty samples",
        "├─○     6 round 5  rejected ○ 66666666 ── │ p4 said of 6",
        "●       7 round 6  promoted ● 77777777 ── ● p7 champion said of 7",
        "│         promote by ada@desk: the gate is too strict",
        "├─○     8 round 7  rejected ○ 88888888 ── ○ p8 said of 8",
        "└─◌     9 round 8  pending  ◌ 99999999 ── ◌ p9 candidate said of 9",
    ]


def test_long_reasons_are_cut_in_a_terminal_and_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = a_tree(reason="why " * 100)
    assert max(map(len, shown(monkeypatch, tree, 80, True))) == 80
    assert sum("why " * 99 in line for line in shown(monkeypatch, tree, 80, False)) == len(tree.rows)


# In a browser


def opened(browser: Browser, place: Path, tree: Tree, width: int = 1280, scheme: Any = "light") -> Page:
    """The page of a tree."""
    return pages.opened(browser, place, page(tree), width, scheme)


@pytest.mark.debian("chromium")
def test_a_version_tells_what_it_is_and_what_people_did(browser: Browser, tmp_path: Path) -> None:
    shown = opened(browser, tmp_path, a_tree())
    words = [re.sub(r"\s+", " ", text) for text in shown.locator(".graph > li").all_inner_texts()]
    date = "21 September 2026, 14:1"
    assert words[4] == (
        f"4 round 3 approved previous {date}3 UTC said of 4 approve by ada@desk, {date}8 UTC: looked at forty samples "
        "from 2 digest 444444444444 code c0dec0dec0de selfloop 0.9.1 run run-a"
    )
    assert shown.locator(".graph > li.champion strong").all_inner_texts() == ["7"]
    assert shown.locator(".badge.alias").all_inner_texts() == ["previous", "champion", "candidate"]
    moves = shown.get_by_role("table", name="What was put in force")
    assert moves.locator("tbody tr").count() == len(MOVES)
    assert moves.locator(".kind.person").all_inner_texts() == ["rollback", "approve", "promote"]
    shown.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lanes_tell_digest_origin_and_verdict_of_each_policy(browser: Browser, tmp_path: Path, scheme: str) -> None:
    shown = opened(browser, tmp_path, a_tree_in_lanes(), scheme=scheme)
    table = shown.get_by_role("table", name="The policies of each version")
    rows = [re.sub(r"\s+", " ", row).strip() for row in table.locator("tbody tr").all_inner_texts()]
    assert rows[0] == "1 0 start 111111111111 p1"
    assert rows[2] == "3 2 promoted 333333333333 from 2: 22222222 p3 from 2: p2"
    assert rows[5] == "6 5 rejected 666666666666 from 4: 44444444 p4 as in 4"
    assert table.locator("tr.joined th").all_inner_texts() == ["1", "2", "3", "4", "7"]
    assert min(pages.contrasts(shown, ".lanes td :not(.dot), .lanes th")) >= 4.5
    shown.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_lines_join_dots_however_tall_a_version_is(browser: Browser, tmp_path: Path, width: int) -> None:
    shown = opened(browser, tmp_path, a_tree(reason="why " * 60), width)
    boxes = shown.locator(".rails").evaluate_all(
        "(all) => all.map((r) => [r, r.querySelector('.dot')].map((e) => e.getBoundingClientRect()))"
    )  # fmt: skip
    for (upper, _), (lower, _) in pairwise(boxes):
        assert lower["top"] == pytest.approx(upper["bottom"], abs=0.5)
    columns = [round(dot["left"] - rails["left"]) for rails, dot in boxes]
    assert columns[0] == columns[1] == columns[4] == columns[6] < columns[2] == columns[5] < columns[3]
    for rails, dot in boxes:
        assert rails["left"] <= dot["left"] <= dot["right"] <= rails["right"] + 1
    shown.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_window(browser: Browser, tmp_path: Path, width: int) -> None:
    for tree in (a_tree(), a_tree_in_lanes(), a_tree(reason="x" * 500), a_long_tree()):
        shown = opened(browser, tmp_path, tree, width)
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        assert shown.locator(".version").last.bounding_box()["width"] > width / 3  # type: ignore[index]
        shown.close()


@pytest.mark.debian("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, tmp_path: Path, scheme: str) -> None:
    shown = opened(browser, tmp_path, a_tree(), scheme=scheme)
    for selector in (".badge", ".quiet", "time", ".why", ".by", ".made span, .made code", "th", "td", ".legend li"):
        assert min(pages.contrasts(shown, selector)) >= 4.5, selector
    shown.close()
