"""What a person may type wrongly, made from the settings' own schema: each gets one sentence, and none passes."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import pytest
from selfloop.cli import app
from selfloop.cli.app import run_command
from selfloop.recipe import recipes
from selfloop.strategies import is_list, is_strategy
from typer.main import get_command

pytestmark = pytest.mark.slow

NO_NUMBER = ["nan", "inf", "-inf", "1e999", "'many'", "", "[1]", "{a = 1}", "true", "1979-05-27", "0x", "--5"]
NO_STRATEGY = [
    "no-such-thing",
    "'a,b'",
    ",",
    "=",
    "x=1",
    "a b",
    '"""a\nb"""',
    "no.such:thing",
    "none.py:thing",
    "[1]",
    "{a = 1}",
    "7",
]
NO_FLAG = ["maybe", "2", "[true]", "", "{a = 1}", "nan"]
NO_LIST = ["{a = 1}", "7", "true"]


def beyond(metadata: list[Any]) -> Iterator[str]:
    """Numbers out of a field's range."""
    for bound in metadata:
        low, high = (getattr(bound, word, None) for word in ("ge", "le"))
        above, below = (getattr(bound, word, None) for word in ("gt", "lt"))
        yield from ([str(low - 1), str(-(10**30))] if low is not None else [])
        yield from ([str(high + 1), str(10**30)] if high is not None else [])
        yield from (str(each) for each in (above, below) if each is not None)


def wrong(info: Any) -> Iterator[str]:
    """Values, as ``--set`` takes them, that a field cannot have."""
    kind = info.annotation
    if kind is bool:
        yield from NO_FLAG
    elif kind in (int, float):
        yield from [*NO_NUMBER, *beyond(info.metadata), *(["1.5", "1e-3"] if kind is int else [])]
    elif is_strategy(kind):
        yield from NO_STRATEGY
    elif is_list(kind):
        yield from [*NO_LIST, "no-such-thing", "+no-such-thing"]
    elif kind is str:  # which any of these is, unless the setting says more: see the options below
        return
    elif get_origin(kind) is dict:
        yield from ["no-such-thing", "7", "[1]", "{a = 'x'}"]
    else:
        yield from ["no-such-thing", "{a = 1}"]


def settable() -> Iterator[tuple[str, str]]:
    """Everything that can be set of a recipe, of all recipes once, with values that it cannot have, and names that are
    none: the recipe, and what ``--set`` is given.
    """
    known = set[tuple[type, str]]()
    for recipe in recipes().values():
        stages = recipe.settings.stages()
        for prefix, model in [("", recipe.settings), *((f"{name}.", stage) for name, stage in stages.items())]:
            fields = {name: info for name, info in model.model_fields.items() if prefix or name not in stages}
            new = {name: info for name, info in fields.items() if (model, name) not in known}
            known |= {(model, name) for name in new}
            for name, info in new.items():
                yield from ((recipe.target, f"{prefix}{name}={value}") for value in wrong(info))
        yield from ((recipe.target, f"{name}={value}") for name in stages for value in ("7", "nan", "[1]"))
        yield from ((recipe.target, f"{name}no_such_thing=1") for name in ("", *(f"{each}." for each in stages)))


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """What a command ends with and says, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(*words: str) -> tuple[int, str, str]:
        code = run_command(words)
        return code, *capfd.readouterr()

    return run


def test_what_a_setting_cannot_be_is_refused_in_one_sentence(said: Any) -> None:
    tried = list(settable())[::3]
    assert len(tried) > 1000
    for recipe, given in tried:
        code, out, err = said("run", recipe, "--set", given, "--dry-run")
        assert code == 1, f"{given}: taken as {tomllib.loads(out)}"
        assert err.startswith("selfloop: "), (given, err)
        assert err.strip().count("\n") == 0, (given, err)
        assert "not foreseen" not in err, (given, err)


NONSENSE = [
    "",
    " ",
    "no such thing",
    "../../x",
    "-1",
    "{}",
    "[/red]",
    "é",
    "x" * 3000,
    "a@b@c",
    "%(x)s",
    "s3://",
    "models:/",
    "nan",
]
COMPLETE = {
    "run": ["length-generalization", "--dry-run"],
    "compile": ["length-generalization", "-o", "p.yaml", "--set", "no=1"],
    "bench": ["length-generalization", "--set", "no=1"],
    "claim": ["length-generalization", "--arm", "no"],
    "report": ["run"],
    "list": ["recipes"],
    "lineage": ["nobody"],
    "promote": ["nobody", "1", "--reason", "x"],
    "approve": ["nobody", "--reason", "x"],
    "rollback": ["nobody", "--reason", "x"],
    "reproduce": ["nobody", "1"],
    "gc": ["nobody"],
}
"""Words of each command that works on this machine: complete, and refused but for ``run`` and ``list``."""
FREE = {("run", name) for name in ("output", "store", "tracking_uri", "sets")}
"""What ``run --dry-run`` does not look for."""


def mistyped() -> Iterator[tuple[str, ...]]:
    """Each word and each option of each command as nonsense."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, complete in COMPLETE.items():
        arguments = [each for each in commands[name].params if each.param_type_name == "argument"]
        for place in range(len(arguments)):
            for word in NONSENSE:
                yield name, *complete[:place], "--", word, *complete[place + 1 : len(arguments)]
        for option in commands[name].params:
            if option.param_type_name == "option" and not option.is_flag and (name, option.name) not in FREE:
                for word in NONSENSE:
                    if word or option.name != "form":  # an empty one is none
                        yield name, *complete, f"{option.opts[0]}={word}"
        yield name, *complete, "--no-such-option"


def test_a_mistyped_word_or_option_of_a_command_is_refused(said: Any, migrated: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copy(migrated, tmp_path / "runs" / "mlflow.db")
    for words in mistyped():
        code, out, err = said(*words)
        assert code in (1, 2), (words, out, err)
        assert err.startswith(("selfloop: ", "Usage: ")), (words, err)
        assert "not foreseen" not in err, (words, err)
