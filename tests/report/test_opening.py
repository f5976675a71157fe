"""The first screen of a report: whether it got better, what is in force, what next, and how to have it again."""

import shlex
from typing import Any

import pytest
from selfloop.cli.options import overrides
from selfloop.recipe import find_recipe
from selfloop.report.opening import Opening, about, command, opening

LENGTH = "length-generalization"
LOOK = {"gain": 0.1, "lower": 0.05, "upper": 0.15, "items": 400, "passed": True}


def decided(verdict: str, reason: str = "a reason", **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "reason": reason, "promoted": verdict == "promoted", "suites": {}, "budget": {}} | more


def said(*decisions: dict[str, Any], ends: str = "") -> Opening:
    recipe = find_recipe(LENGTH)
    rounds = [{"round": number, "decision": each} for number, each in enumerate(decisions, 1)]
    noted = about(recipe, recipe.resolve()) | {"machine": "a machine"}
    found = opening({"rounds": rounds}, [{"round": 0}, {"about": noted, "ends": ends}], "/somewhere/champion")
    assert found is not None
    return found


BETTER = decided("promoted", suites={"target": LOOK | {"gain": 0.3}, "confirm": LOOK}, budget={"ledger": {}})


def test_it_says_whether_it_got_better_by_how_much_and_what_is_in_force() -> None:
    first = said(BETTER, BETTER, decided("rejected"))
    assert first.better.startswith("Yes: 2 of 3 candidates were shown to be better than the champion")
    assert "before them (the last in round 2: +0.100 [+0.050, +0.150] on 400 items)" in first.better
    assert first.force.startswith("In force is the candidate of round 2, ")
    assert said(decided("rejected")).better.startswith("No: none of 1 candidate was shown")
    untested = said(decided("promoted", suites={"target": LOOK}, budget=None))
    assert "by a rule that does not test" in untested.better


@pytest.mark.parametrize(
    ("decision", "ends", "next_"),
    [
        (decided("halted", "guard 'gap' halted the loop: it fell"), "", "selfloop run length-generalization --from"),
        (decided("pending"), "", "selfloop approve length-generalization-addition --reason ..."),
        (BETTER, "", "selfloop run length-generalization --from length-generalization-addition@champion"),
        (BETTER, "5 tokens of the budget are spent", "@champion --budget ..."),
    ],
)
def test_it_says_what_comes_next(decision: dict[str, Any], ends: str, next_: str) -> None:
    first = said(decision, ends=ends)
    assert next_ in first.next[0][1]
    assert first.next[-1][1] == "selfloop lineage length-generalization-addition"
    assert ("guard 'gap'" in first.force) is (decision["verdict"] == "halted")


def test_the_champion_can_be_loaded_and_the_run_be_repeated(small: dict[str, Any]) -> None:
    first = said(BETTER)
    assert [code for _, code in first.load] == [
        'mlflow.transformers.load_model("models:/length-generalization-addition@champion")',
        'AutoModelForCausalLM.from_pretrained("/somewhere/champion")',
    ]
    assert dict(first.about) | {"Machine": "a machine", "Environment": "addition"} == dict(first.about)


@pytest.mark.parametrize(
    ("name", "form", "given"),
    [
        (LENGTH, "", {"gate": {"guards": ["length,warn=0.5", "gap"], "spend": "even,looks=7"}, "seed": 5}),
        ("agent0", "r-zero", {"environment": "arithmetic:plain", "budget": "tokens=5"}),
        ("sec", "", {"reinforce": {"curriculum": "bandit,tau=0.5", "steps": 3}, "draw": {"levels": [1, 2]}}),
    ],
)
def test_the_command_has_the_settings_of_the_run(name: str, form: str, given: dict[str, Any]) -> None:
    recipe = find_recipe(name)
    settings = recipe.resolve({"form": form}, given)
    words = shlex.split(command(recipe, settings))
    assert words[:3] == ["selfloop", "run", name]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    sets = [value for option, value in pairs if option == "--set"]
    options = {option.removeprefix("--"): value for option, value in pairs if option != "--set"}
    again = recipe.resolve(*overrides(recipe, None, sets, options))
    assert again.for_round(1) == settings.for_round(1)
