"""docs/guards.md says what the guards are and what was measured of them."""

from selfloop.artifacts import read_json

from .page import PAGE, RESULT, tables
from .simulated import BEGINS, GATE, PLANTED, WITHIN


def test_the_tables_of_the_page_are_those_of_the_committed_numbers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [table for table in tables() if table not in page]
    assert not missing, "python -m tests.guards.page prints them anew"


def test_the_committed_numbers_are_of_the_faults_and_the_budget_of_today() -> None:
    found = read_json(RESULT, "guard_life.json")
    assert not found["small"]
    assert (found["alpha"], found["begins"], found["within"]) == (GATE.guard_alpha, BEGINS, WITHIN)
    assert found["faults"] == PLANTED


def test_what_is_promised_was_met() -> None:
    found = read_json(RESULT, "guard_life.json")
    assert max(case["rate"] for case in found["healthy"]) <= 0.01
    assert all(case["loops"] >= 1000 for case in found["healthy"] if case["loop"] != "default sizes")
    assert min(case["rate"] for case in found["planted"] if case["size"] == "usual") >= 0.95
