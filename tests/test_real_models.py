"""What docs/real-model.md and docs/datasets.md name is there: the form, the claim, the settings of every command."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from selfloop.claims import measuring
from selfloop.cli.options import overrides
from selfloop.environments import environments
from selfloop.recipe import find_recipe

from .containers import ROOT

PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(text.replace("\\\n", " "))[3:]
    for text in re.findall(r"^    selfloop run expert-iteration (?:.*\\\n)*.*$", PAGE, re.MULTILINE)
]


def test_the_real_demo_is_a_form_that_can_run() -> None:
    recipe = find_recipe("expert-iteration")
    settings = recipe.resolve({"form": "smollm2"})
    recipe.check(settings)
    assert settings.policy.startswith("gguf:")
    assert settings.rounds in (2, 3)


def test_the_claim_has_five_seeds_and_a_control_that_differs_by_what_it_believes() -> None:
    recipe = find_recipe(str(ROOT / "examples" / "real_model.py"))
    assert recipe.claims is not None
    assert len(recipe.claims.seeds) >= 5
    runs = measuring.planned(recipe, recipe.claims.seeds[:1])
    settings: list[Any] = [measuring.settings_of(recipe, run) for run in runs]
    loop, control = settings
    assert {str(loop.verify.verifier), str(control.verify.verifier)} == {"exact", "accept-all"}
    assert loop.finetune == control.finetune
    recipe.check(control)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[words.index("--environment") + 1][:12])
def test_a_command_for_a_data_set_says_what_there_is(command: list[str], tmp_path: Path) -> None:
    config = tmp_path / "real.toml"
    config.write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    assert tomllib.loads(config.read_text())
    words = iter(command)
    given = [(word, next(words)) for word in words]
    options = dict(given)
    assert options.keys() <= {"--environment", "--policy", "--engine", "--rounds", "-c", "--set"}
    assert options["--environment"].partition(":")[0] in environments()
    named = {name: options[f"--{name}"] for name in ("environment", "policy", "engine")}
    sets = [value for option, value in given if option == "--set"]
    recipe = find_recipe("expert-iteration")
    settings: Any = recipe.resolve(*overrides(recipe, config, sets, named | {"rounds": 4}))
    assert settings.environment == options["--environment"]
    assert set(settings.draw.levels) == set(settings.measure.levels)


def test_there_is_a_command_for_each_data_set() -> None:
    assert len(COMMANDS) == 3
