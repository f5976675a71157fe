"""The README's own files, run as they stand there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from selfloop.recipe import find_recipe

README = (Path(__file__).parents[1] / "README.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.DOTALL))


@pytest.mark.parametrize(
    ("file", "test"),
    [
        ("copying.py", "test_copying.py"),
        ("star.py", "test_star.py"),
        ("mine.py", "test_mine.py"),
        ("sums.py", "test_sums.py"),
    ],
)
def test_the_example_works_and_is_short(tmp_path: Path, file: str, test: str) -> None:
    for name in (file, test):
        (tmp_path / name).write_text(FILES[name])
    assert len([line for line in FILES[file].splitlines() if line.strip()]) <= 60
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_recipe_of_ones_own_compiles(tmp_path: Path) -> None:
    (tmp_path / "star.py").write_text(FILES["star.py"])
    command = [sys.executable, "-c", "from selfloop.cli import main; main()", "compile", "star.py", "-o", "star.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "star.yaml").stat().st_size > 10_000


def test_the_configuration_for_a_model_of_the_hub_is_one() -> None:
    (text,) = re.findall(r"```toml\n# gsm8k\.toml(.*?)```", README, re.DOTALL)
    settings = find_recipe("expert-iteration").resolve(tomllib.loads(text.partition("\n")[2]))
    assert settings.draw.levels == settings.measure.levels
    assert settings.finetune.base_share == 0


def test_the_readme_names_only_commands_that_exist() -> None:
    from selfloop.cli import app

    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    known = {name.rstrip("_") for name in known}
    named = set(re.findall(r"^    selfloop (\w+)", README, re.MULTILINE))
    assert named <= known


def test_the_readme_lists_the_stages_that_there_are() -> None:
    from selfloop.stages import as_markdown

    assert as_markdown() in README


def test_the_readme_lists_the_recipes_and_what_was_measured_of_their_claims() -> None:
    from selfloop.claims.table import as_markdown

    assert as_markdown() in README


def test_no_place_of_the_readme_waits_to_be_filled() -> None:
    assert "<!--" not in README
