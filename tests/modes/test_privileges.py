"""What pods ask for beyond others is what the settings of their loop need."""

import ast
from pathlib import Path
from typing import Any

import pytest
import selfloop
from selfloop.modes.privileges import GENERATED_CODE, NODES, privileges
from selfloop.recipe import find_recipe, recipes

ROOT = Path(selfloop.__file__).parent
MAKING = {"Program", "run_programs", "graded"}
"""What of the sandbox runs a program."""


@pytest.mark.parametrize("name", recipes())
def test_no_recipe_asks_for_anything_by_itself(name: str) -> None:
    assert privileges(find_recipe(name).resolve()) == set()


@pytest.mark.parametrize(
    ("name", "settings", "asked"),
    [
        ("expert-iteration", {"environment": "code"}, GENERATED_CODE),
        ("expert-iteration", {"verify": {"environment": "code"}}, GENERATED_CODE),
        ("expert-iteration", {"verify": {"verifier": "code"}}, GENERATED_CODE),
        ("agent0", {"generate": {"protocol": "tools,tools=calc+python"}}, GENERATED_CODE),
        ("agent0", {"reinforce": {"reward": "agent0,protocol=tools,protocol.tools=python"}}, GENERATED_CODE),
        ("length-generalization", {"finetune": {"nodes": 2}}, NODES),
        ("sec", {"reinforce": {"nodes": 4}}, NODES),
    ],
)
def test_what_runs_programs_or_spans_nodes_asks_for_it(name: str, settings: dict[str, Any], asked: str) -> None:
    """However deep it stands in the settings."""
    assert privileges(find_recipe(name).resolve(settings)) == {asked}


def test_every_class_that_runs_programs_says_so() -> None:
    found = 0
    for place in (each for each in ROOT.rglob("*.py") if not each.is_relative_to(ROOT / "sandbox")):
        tree = ast.parse(place.read_text())
        imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {
            each.name for node in imported if (node.module or "").startswith("selfloop.sandbox") for each in node.names
        }
        if names & MAKING:
            found += 1
            assert "runs_code = True" in place.read_text(), place
    assert found >= 2
