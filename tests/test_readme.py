"""The files in the README and in docs, run as they stand there; and what the README says of what there is."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from kfp.dsl import Artifact
from selfloop.artifacts import read_json
from selfloop.environments import find_environment
from selfloop.filter import FilterParams
from selfloop.recipe import find_recipe
from selfloop.records import Rollout, Task
from selfloop.verify import judge

from .conftest import sealed_table
from .filter.conftest import Filtered, group

pytestmark = pytest.mark.slow

HERE = Path(__file__).parents[1]
README = (HERE / "README.md").read_text()
DOCS = {str(path.relative_to(HERE / "docs")): path.read_text() for path in (HERE / "docs").rglob("*.md")}
WHOLE = "\n".join([README, *DOCS.values()])
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", WHOLE, re.DOTALL))


@pytest.mark.parametrize(
    ("file", "test"),
    [
        ("brief.py", "test_brief.py"),
        ("copying.py", "test_copying.py"),
        ("repeats.py", "test_repeats.py"),
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


def test_a_verifier_in_a_file_of_its_own_is_found_with_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lengths.py").write_text(FILES["lengths.py"])
    (tmp_path / "star.py").write_text(FILES["star.py"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    settings = find_recipe("star.py").resolve({"verify": {"verifier": "lengths.py:short_enough,most=12"}})
    rollouts = [Rollout("t", 1, n, "1,2=3:", text, True, 3) for n, text in enumerate(("1+2", "(((1)+((2))))"))]
    task = Task("t", 1, "train", "1,2=3:", "1+2")
    judged = judge(rollouts, [task], settings.verify.model_copy(update={"environment": "countdown"}))
    assert [(each.ok, each.reason) for each in judged] == [(True, "correct"), (False, "too long")]


def test_a_selector_in_a_file_of_its_own_is_added_to_those_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("short.py", "star.py"):
        (tmp_path / name).write_text(FILES[name])
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    star = find_recipe("star.py")
    select = star.resolve({"filter": {"select": "+short.py:short,longest=4"}}).filter.select
    assert select[:-1] == star.resolve().filter.select
    kept = Filtered(tmp_path / "kept", FilterParams(select=select[-1:]), group("t", ("1+2", True), ("1+1+1", True)))
    assert (kept.texts, kept.rejected) == (["1+2"], {"too many tokens": 1})


def test_a_stage_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(FILES["counting.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    counting = importlib.import_module("counting")
    rollouts = sealed_table(tmp_path / "rollouts", Rollout, [Rollout("t", 1, 0, "p", "a=b=c", True, 5)])
    made = counting.count_words.into(
        counting.Counted(Artifact(uri=str(tmp_path / "count"))), counting.CountParams(), rollouts
    )
    assert read_json(made.count.path) == 2


def test_the_form_of_the_example_lies_under_what_a_person_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "star.py").write_text(FILES["star.py"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "star", raising=False)
    recipe = find_recipe("star.py")
    assert recipe.resolve({"form": "wide"}).draw.attempts == 16
    assert recipe.resolve({"form": "wide"}, {"draw": {"attempts": 4}}).draw.attempts == 4
    assert recipe.resolve().loop == "star-countdown"


def test_the_configuration_for_a_model_of_the_hub_is_one() -> None:
    (text,) = re.findall(r"```toml\n# gsm8k\.toml(.*?)```", DOCS["gpu.md"], re.DOTALL)
    settings = find_recipe("expert-iteration").resolve(tomllib.loads(text.partition("\n")[2]))
    assert settings.draw.levels == settings.measure.levels
    assert settings.finetune.seed_share == 0


def test_readme_and_docs_name_only_commands_that_exist() -> None:
    from selfloop.cli import app

    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    known = {name.rstrip("_") for name in known} | {group.name for group in app.registered_groups}
    named = set(re.findall(r"^    selfloop (\w+)", WHOLE, re.MULTILINE))
    assert named <= known


def test_the_front_page_is_a_page() -> None:
    assert len(README.splitlines()) <= 150


def test_the_environment_of_the_front_page_can_be_run_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shifting.py").write_text(FILES["shifting.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    shifting = find_environment("shifting:Shifting")
    (task,) = shifting.tasks(level=3, count=1, seed=0)
    assert shifting.check(task, "".join("1234567890"[int(digit)] for digit in task.prompt[:-1])).ok
    assert not shifting.check(task, task.prompt[:-1]).ok
    recipe = find_recipe("length-generalization")
    recipe.check(recipe.resolve({"environment": "shifting:Shifting"}))


def test_the_front_page_lists_the_recipes_and_how_many_of_their_claims_hold() -> None:
    from selfloop.claims.table import as_markdown

    assert as_markdown() in README


def test_links_between_files_lead_somewhere() -> None:
    pages = [HERE / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    pages += [*(HERE / "docs").rglob("*.md"), *(HERE / "components").rglob("README.md")]
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", text):
            assert (page.parent / link).exists(), f"{page} links to {link}"
