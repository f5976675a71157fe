"""``selfloop list``: every kind of thing that has a name, and one of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from selfloop.cli import app
from selfloop.cli.lists import listed
from selfloop.errors import UserError
from selfloop.strategies import as_markdown, kinds

Show = Callable[..., str]
HEAVY = {"torch", "numpy", "pyarrow", "pandas", "mlflow", "transformers", "trl"}


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    from rich.console import Console

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.chdir(tmp_path)
    for module in ("app", "lists", "describe", "made"):
        monkeypatch.setattr(sys.modules[f"selfloop.cli.{module}"], "console", Console(highlight=False, width=100))

    def run(*words: str, command: str = "list") -> str:
        app([command, *words], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_every_kind_of_strategy_is_listed_beside_recipes_and_stages(shown: Show) -> None:
    known = listed()
    assert {kind.several() for kind in kinds().values()} <= known.keys()
    assert {
        "recipes",
        "forms",
        "stages",
        "environments",
        "profiles",
        "verifiers",
        "selectors",
        "guards",
    } <= known.keys()
    assert {line.split()[0] for line in shown().splitlines() if line[:1].strip()} >= known.keys()


@pytest.mark.parametrize("kind", sorted(listed()))
def test_a_list_has_a_sentence_on_each(kind: str, shown: Show) -> None:
    rows = list(listed()[kind].rows())
    assert all(all(isinstance(cell, str) for cell in row) and row[0] and row[1] for row in rows)
    told = shown(kind)
    assert all(row[0] in told for row in rows)


@pytest.mark.parametrize("kind", [kind for kind in kinds().values() if listed() and kind.members()])
def test_a_strategy_that_comes_with_selfloop_says_what_it_is_and_describes_its_parameters(kind: type) -> None:
    table = as_markdown(kinds()[kind.kind]).splitlines()  # type: ignore[attr-defined]
    for name, member in kind.members().items():  # type: ignore[attr-defined]
        assert member.summary().endswith((".", ")")), name
        assert all(described for _, _, described in member.parameters()), name
        assert any(line.startswith(f"| `{name}` | ") for line in table)


def test_one_of_a_kind_is_described_with_its_parameters_and_what_it_needs(shown: Show) -> None:
    told = shown("verifiers", "judge")
    assert told.startswith("judge  Good is what gets marks of at least 'threshold'")
    assert "needs a policy to ask" in told
    assert "rubric       Is the answer correct and complete?  What the judge shall look at." in told
    assert "code" in shown("recipes", "agent0")
    assert "r-zero" in shown("forms", "agent0")
    assert "verdicts (Dataset)" in (told := shown("stages", "verify_rollouts"))
    assert "verifier         verifier" in told


def test_a_name_is_described_whatever_kind_of_thing_it_is_of(shown: Show) -> None:
    assert shown("judge", command="show") == shown("verifier", "judge")
    assert shown("sec", command="show") == shown("recipes", "sec")
    with pytest.raises(UserError, match="There is no name 'jugde': did you mean 'judge'"):
        shown("jugde", command="show")
    assert shown("guard") == shown("guards"), "one or several, it is the same"


def test_where_nothing_was_run_there_are_no_loops_and_no_runs(shown: Show, tmp_path: Path) -> None:
    assert shown("loops").startswith("There are no loops in the registry of this folder's runs")
    assert shown("runs") == "There are no runs in runs.\n"
    assert not list(tmp_path.iterdir()), "looking makes nothing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verifyer"], "There is no kind 'verifyer': did you mean 'verifiers'?"),
        (["verifiers", "jugde"], "There is no verifier 'jugde': did you mean 'judge'?"),
        (["forms", "spiral"], "The recipe 'spiral' has no forms"),
        (["profiles", "--markdown"], "There is no table of profiles in Markdown: leave out --markdown."),
    ],
)
def test_what_cannot_be_listed_is_a_sentence(words: list[str], said: str, shown: Show) -> None:
    with pytest.raises(UserError) as refused:
        shown(*words)
    assert said in str(refused.value)


def test_listing_imports_nothing_heavy() -> None:
    code = f"import sys; from selfloop.cli.lists import listed; listed(); print({HEAVY} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
