"""``selfloop claim``: runs that are found again, outcomes of every kind, and what is written."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from selfloop.artifacts import read_json, write_json
from selfloop.claims import Claims, Statement
from selfloop.claims.measuring import Outcome, Run, _next, found, measured, place_of, planned
from selfloop.claims.results import committed, is_stale, judged_anew, judgements, place_beside
from selfloop.claims.table import in_full, shown, state
from selfloop.cli import app
from selfloop.errors import UserError
from selfloop.modes.inprocess import RUN
from selfloop.recipe import Recipe, load_recipe, recipes
from typer.testing import CliRunner

from .. import forked

pytestmark = pytest.mark.slow

COINS = Path(__file__).parent / "coins.py"
RUNS = 15
CLAIM = (*forked.CLI, "claim", "coins.py", "--jobs", "2")


def claimed(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.run(*CLAIM, *words, cwd=place, env=os.environ | {"COLUMNS": "80"})


@pytest.fixture(scope="module")
def measured_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the claims of the coins were measured, and what was printed."""
    place = tmp_path_factory.mktemp("measured")
    shutil.copy(COINS, place)
    done = claimed(place, "--write")
    assert done.returncode == 0, done.stderr
    return place, done.stdout


@pytest.fixture
def coins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe[Any]:
    """The recipe of the coins, in a folder of its own that is the present one."""
    shutil.copy(COINS, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of a file that is written twice in a second the first stays
    for name in ("coins", "bare", "wrong", "untuned", "marginless"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load_recipe("coins:recipe")


def words_of(told: dict[str, Any]) -> list[str]:
    return [statement["word"] for statement in told["statements"]]


def test_the_words_are_those_that_coins_deserve(measured_once: tuple[Path, str]) -> None:
    place, said = measured_once
    told = read_json(place / "claims", "coins.json")
    assert words_of(told) == ["holds", "does not hold", "inconclusive", "holds", "equivalent"]
    assert all(word in said for word in words_of(told))
    assert "only 5 seeds: a claim should have 10." in said
    worst = [each["worst"]["seed"] for statement in told["statements"] for each in statement["comparisons"]]
    assert [f"{seed}:" for seed in worst] == re.findall(r"worst seed (?:of \w+ )?(\d+:)", " ".join(said.split()))
    assert told["seeds"] == [1, 2, 3, 4, 5]
    assert {"machine", "gpu", "date", "python", "selfloop", "torch", "transformers", "trl", "command"} <= told.keys()
    assert all(seconds > 0 for seconds in told["seconds"].values())
    loaded = told["statements"][0]["arms"][0]
    assert loaded["low"] < loaded["mean"] < loaded["high"]
    assert loaded["mean"] == pytest.approx(sum(loaded["values"].values()) / 5, abs=1e-6)


def test_what_is_printed_fits_a_terminal(measured_once: tuple[Path, str]) -> None:
    place, said = measured_once
    assert max(map(len, said.splitlines())) <= 80
    assert "A loaded coin shows heads more often." in said
    values = read_json(place / "claims", "coins.json")["statements"][0]["arms"][0]["values"]
    assert " ".join(f"{values[str(seed)]:.3g}" for seed in range(1, 6)) in said


def test_what_the_arms_of_a_seed_have_in_common_is_made_once(measured_once: tuple[Path, str]) -> None:
    runs = measured_once[0] / "runs" / "claims" / "coins" / "short"
    [fair], [loaded] = (list(runs.glob(f"{name}-1-*/")) for name in ("fair", "loaded"))
    both = [path for path in fair.glob("round-*/*/*/*") if (loaded / path.relative_to(fair)).exists()]
    assert both
    assert all(path.samefile(loaded / path.relative_to(fair)) for path in both)


def test_no_two_runs_at_work_could_have_made_the_same() -> None:
    waiting = [Run("short", arm, seed) for seed in (2, 1) for arm in ("fair", "loaded")]
    first = _next(waiting, [])
    second = _next(waiting, [first])
    assert (first, second) == (Run("short", "loaded", 1), Run("short", "loaded", 2))
    assert _next(waiting, [first, second]) == Run("short", "fair", 1)
    assert waiting == [Run("short", "fair", 2)]


def test_finished_runs_are_not_run_again(measured_once: tuple[Path, str]) -> None:
    place, _ = measured_once
    before = read_json(place / "claims", "coins.json")
    again = claimed(place, "--write")
    assert f"{RUNS} runs, {RUNS} of them finished, 0 to make" in again.stdout
    after = read_json(place / "claims", "coins.json")
    assert {**after, "date": ""} == {**before, "date": ""}


def test_killed_it_continues_and_comes_to_the_same_numbers(measured_once: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copy(COINS, tmp_path)
    killed = subprocess.Popen([sys.executable, *CLAIM], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    said = [killed.stdout.readline() for _ in range(6)]
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert said[-1].startswith(f"5/{RUNS} ")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/claims/coins/*/*.json")}
    resumed = claimed(tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert len(kept) >= 5
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    once = read_json(measured_once[0] / "claims", "coins.json")
    assert read_json(tmp_path / "runs" / "claims" / "coins", "result.json")["statements"] == once["statements"]


def test_a_result_is_judged_anew_without_a_run(
    measured_once: tuple[Path, str], coins: Recipe[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(measured_once[0] / "claims", place_beside(coins).parent)
    before = committed(coins)
    assert before is not None
    app(["claim", "coins.py", "--judge", "--write"], standalone_mode=False)
    assert committed(coins) == before
    assert "It was" not in capsys.readouterr().out
    source = COINS.read_text()
    here = Path("coins.py")
    here.write_text(source.replace("margin=0.6", "margin=0.3"))
    sys.modules.pop("coins")
    app(["claim", "coins.py", "--judge", "--write"], standalone_mode=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "A loaded coin shows tails, too. It was 'equivalent' and is 'does not hold'." in said
    after = read_json(Path("claims"), "coins.json")
    assert {**after, "statements": 0, "statements_digest": 0} == {**before, "statements": 0, "statements_digest": 0}
    assert after["statements"][:4] == before["statements"][:4]
    assert "(a margin that was stated after the runs)" in said
    assert [each["late_margin"] for each in after["statements"]] == [False] * 4 + [True]
    assert judged_anew(load_recipe("coins:recipe"), after) == after, "once late, it stays so"
    assert not Path("runs").exists()
    here.write_text(source.replace('"heads", "fair", ("loaded",)', '"tosses", "fair", ("loaded",)'))
    sys.modules.pop("coins")
    with pytest.raises(UserError, match="is about 'tosses' of arm 'fair' in setup 'short', of which the committed"):
        app(["claim", "coins.py", "--judge"], standalone_mode=False)


def test_a_result_of_other_settings_is_stale(
    measured_once: tuple[Path, str],
    coins: Recipe[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (committed(coins), state(coins)) == (None, "not measured")
    shutil.copytree(measured_once[0] / "claims", place_beside(coins).parent)
    told = committed(coins)
    assert told is not None
    assert not is_stale(coins, told)
    assert state(coins) == "3 of 5"
    assert coins.claims is not None
    first, *rest = coins.claims.statements
    for change in (
        {"settings": {"toss": {"tosses": 7}}},
        {"arms": {**coins.claims.arms, "fair": {"toss": {"bias": 0.4}}}},
        {"seeds": (1, 2, 3, 4, 6)},
    ):
        changed = replace(coins, claims=replace(coins.claims, **change))
        assert is_stale(changed, told)
        assert state(changed) == "stale"
    for other in (replace(first, better="lower"), replace(first, margin=0.1), replace(first, bounds=(0, 1))):
        changed = replace(coins, claims=replace(coins.claims, statements=(other, *rest)))
        assert (is_stale(changed, told), state(changed)) == (False, "to be judged anew")
    monkeypatch.setattr("selfloop.cli.describe.find_recipe", lambda name: changed)
    app(["list", "recipes", "coins"], standalone_mode=False)
    assert "'selfloop claim coins --judge --write' gives them their words" in capsys.readouterr().out
    changed = replace(coins, claims=replace(coins.claims, seeds=(1, 2, 3, 4, 6)))
    monkeypatch.setattr("selfloop.cli.describe.find_recipe", lambda name: changed)
    app(["list", "recipes", "coins"], standalone_mode=False)
    assert "Its result is stale: 'selfloop claim coins --write' makes it anew." in capsys.readouterr().out
    worded = replace(coins, claims=replace(coins.claims, statements=(replace(first, sentence="So it is."), *rest)))
    assert not is_stale(worded, told)


def test_every_end_of_a_run_is_an_outcome(coins: Recipe[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    source = COINS.read_text()
    ends = {}
    for fate in ("never", "halted", "dies", "fails"):
        text = source.replace('"fated": 3', f'"fated": 3, "fate": "{fate}"')
        Path(f"{fate}.py").write_text(text.replace('"coins",', f'"{fate}",'))
        recipe = load_recipe(f"{fate}:recipe")
        [ends[fate]] = measured(f"{fate}:recipe", recipe, [Run("short", "fair", 3)], Path(fate), 1)
    assert math.isnan(ends["never"].metrics["tosses"])
    assert ends["halted"].metrics == {"halted": 1.0}
    halted = "guard 'coin' halted the loop: it stands on its edge; look at the table. The champion stays in force."
    assert ends["halted"].halted == halted
    assert ends["dies"].failed.startswith("its process ended with signal 9; see dies/short/fair-3-")
    assert ends["fails"].failed == "The coin rolled under the cupboard: fetch it."
    failing = load_recipe("fails:recipe")
    assert found(failing, Run("short", "fair", 3), Path("fails")) is None, "what failed is tried again"
    Path("coin").touch()
    [mended] = measured("fails:recipe", failing, [Run("short", "fair", 3)], Path("fails"), 1)
    assert (mended.failed, mended.metrics["tosses"]) == ("", 400)
    assert mended == found(failing, Run("short", "fair", 3), Path("fails"))
    assert not Path("mlflow.db").exists(), "a claim moves no champion"


def test_what_another_version_of_the_code_began_is_begun_anew(coins: Recipe[Any]) -> None:
    run, root = Run("short", "fair", 1), Path("runs")
    place = place_of(coins, run, root)
    write_json(place, {"recipe": "coins:recipe", "settings": {}, "code": "another"}, RUN)
    [outcome] = measured("coins:recipe", coins, [run], root, 1)
    assert outcome.metrics["tosses"] == 400


TOSSES = Statement("It needs fewer tosses.", "tosses", "new", ("old",), better="lower")
SEEDS = (0, 1, 2, 3, 4)


def said_of(statement: Statement, *changed: Outcome) -> Any:
    """What is said where the new arm needs 10, 11, ... tosses and the old one 100, 102, ..., with some runs changed."""
    claims = Claims(arms={"new": {}, "old": {}}, statements=(statement,), tuning=(), seeds=SEEDS)
    runs = {
        Run("default", arm, seed): Outcome(Run("default", arm, seed), {"tosses": least + step * seed, "halted": 0.0})
        for arm, least, step in (("new", 10.0, 1.0), ("old", 100.0, 2.0))
        for seed in SEEDS
    }
    return judgements(claims, SEEDS, runs | {outcome.run: outcome for outcome in changed})[0]


def test_all_claims_are_taken_one_after_another(coins: Recipe[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    unclaimed = replace(coins, claims=None)
    assert coins.claims is not None
    bad = replace(coins, name="worn", claims=replace(coins.claims, tuning=()))
    monkeypatch.setattr("selfloop.cli.claims.recipes", lambda: {"bare": unclaimed, "worn": bad})
    monkeypatch.setattr("selfloop.cli.claims.designs", lambda: {"coins:recipe": coins})
    done = CliRunner().invoke(app, ["claim", "--all", "--tuning", "--jobs", "2"])
    assert done.exit_code == 1, "one was refused"
    said = " ".join(done.output.split())
    assert "The claims of recipe 'worn' have no tuning seeds: leave out --tuning." in said
    assert "6 runs, 0 of them finished, 6 to make, in runs/claims/coins." in said
    monkeypatch.setattr("selfloop.cli.claims.recipes", dict)
    again = CliRunner().invoke(app, ["claim", "--all", "--tuning"])
    assert again.exit_code == 0
    assert "6 runs, 6 of them finished, 0 to make" in again.output


def test_a_value_that_was_never_reached_counts_as_what_the_statement_says() -> None:
    never = Outcome(Run("default", "old", 2), {"tosses": math.nan, "halted": 0.0})
    halted = Outcome(Run("default", "old", 3), {"halted": 1.0}, halted="Guard coin is red.")
    assert said_of(TOSSES).word == "holds"
    without = said_of(TOSSES, never)
    assert (without.word, without.note) == ("inconclusive", "of 10 runs 1 without tosses")
    counted = said_of(replace(TOSSES, missing=200.0), never, halted)
    assert counted.word == "holds"
    old = counted.arms[1]
    assert [value.value for value in old.values] == [100, 102, 200, 200, 108]
    assert [value.seed for value in old.values if value.censored] == [2, 3]


def test_a_run_that_failed_or_lacks_leaves_a_statement_open() -> None:
    failed = Outcome(Run("default", "old", 2), {}, failed="The disk was full.")
    told = said_of(replace(TOSSES, missing=200.0), failed)
    assert (told.word, told.note) == ("inconclusive", "of 10 runs 1 failed")
    assert len(told.arms[1].values) == 4
    claims = Claims(arms={"new": {}, "old": {}}, statements=(TOSSES,), tuning=(), seeds=SEEDS)
    [nothing] = judgements(claims, SEEDS, {})
    assert (nothing.word, nothing.note) == ("inconclusive", "of 10 runs 10 lacking")


def test_a_metric_that_the_figures_do_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="is about 'toses', which the recipe's figures do not have: name one of"):
        said_of(replace(TOSSES, metric="toses", missing=1.0))


def test_a_value_beyond_the_bounds_is_refused() -> None:
    message = "has the bounds .0, 50., and 'tosses' came to 100 in run default old 0: give bounds that hold, or none"
    with pytest.raises(UserError, match=message):
        said_of(replace(TOSSES, bounds=(0, 50)))


def test_a_statement_that_the_figures_refute_ends_the_runs_with_the_first(coins: Recipe[Any]) -> None:
    changed = COINS.read_text().replace('"heads", "fair", within=(0.4, 0.6)', '"throws", "fair", within=(0.4, 0.6)')
    Path("coins.py").write_text(changed)
    done = claimed(Path.cwd(), "--seed", "1", "--arm", "fair")
    assert done.returncode == 1
    assert "is about 'throws', which the recipe's figures do not have: name one of" in done.stderr


def test_values_that_were_not_reached_are_marked() -> None:
    statement = {
        "sentence": "So it is.",
        "metric": "steps",
        "expected": "lower",
        "word": "holds",
        "note": "",
        "margin": None,
        "late_margin": False,
        "arms": [
            {
                "setup": "default",
                "arm": "new",
                "mean": 55.0,
                "low": 1.0,
                "high": 109.0,
                "values": {"10": 100.0, "9": 10.0},
                "censored": [10],
            }
        ],
        "comparisons": [],
    }
    console = Console(width=80)
    with console.capture() as capture:
        whole = {"statements": [statement], "seeds": [9, 10], "halted": {}, "failed": {"default new 9": "It broke."}}
        for part in shown(whole):
            console.print(part)
    assert "10 100*" in capture.get()
    assert "the run did not come to a value" in capture.get()
    assert "failed: default new 9: It broke." in capture.get()


def test_a_person_who_stops_it_stops_its_runs(tmp_path: Path) -> None:
    shutil.copy(COINS, tmp_path)
    stopped = subprocess.Popen(
        [sys.executable, *CLAIM], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert stopped.stdout is not None
    said = [stopped.stdout.readline() for _ in range(2)]
    children = psutil.Process(stopped.pid).children(recursive=True)
    stopped.terminate()
    _, complaint = stopped.communicate()
    assert said[-1].startswith(f"1/{RUNS} ")
    assert stopped.returncode == 130
    assert complaint.startswith("selfloop: Stopped; what is finished is kept in runs/claims/coins."), complaint
    assert len(children) >= 2
    assert psutil.wait_procs(children, timeout=60)[1] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["claim", "coin.py"], "There is no file coin.py"),
        (["claim", "nothing-like-it"], "There is no recipe 'nothing-like-it'"),
        (["claim", "bare.py"], "Recipe 'coins' declares no claims"),
        (["claim", "coins.py", "--seed", "9"], "Seed 9 is none of the test seeds of recipe 'coins': they are 1, 2, 3"),
        (["claim", "coins.py", "--seed", "100"], "Seed 100 is none of the test seeds"),
        (["claim", "coins.py", "--tuning", "--seed", "1"], "Seed 1 is none of the tuning seeds"),
        (["claim", "coins.py", "--arm", "loded"], "did you mean 'loaded'?"),
        (["claim", "coins.py", "--tuning", "--write"], "is no result: leave out --write or --tuning"),
        (["claim", "coins.py", "--arm", "fair", "--write"], "5 of 15 runs would lack"),
        (["claim"], "Name a recipe, or give --all, one of the two."),
        (["claim", "coins.py", "--all"], "Name a recipe, or give --all, one of the two."),
        (["claim", "--all", "--seed", "1"], "leave out --seed, or --all."),
        (
            ["claim", "coins.py", "--plan"],
            "no finished tuning run of recipe 'coins' in runs/claims/coins: make them with",
        ),
        (["claim", "coins.py", "--plan", "--write"], "--plan comes to no result that could be written: leave out"),
        (["claim", "coins.py", "--plan", "--judge"], "--plan makes no run: leave out --judge"),
        (["claim", "coins.py", "--plan", "--tuning"], "--plan makes no run: leave out --tuning"),
        (["claim", "coins.py", "--judge", "--seed", "1"], "--judge makes no run: leave out --seed"),
        (
            ["claim", "coins.py", "--judge"],
            "no committed result of recipe 'coins': make it with",
        ),
        (
            ["claim", "untuned.py", "--plan"],
            "A spread needs tuning seeds: give the claims of recipe 'coins' two or more",
        ),
        (["claim", "marginless.py"], "says that arms are the same: give the margin"),
        (["claim", "wrong.py"], "did you mean 'toss'?"),
    ],
)
def test_a_mistake_is_one_sentence(coins: Recipe[Any], words: list[str], sentence: str) -> None:
    Path("bare.py").write_text(COINS.read_text().replace("    claims=claims,\n", ""))
    Path("wrong.py").write_text(COINS.read_text().replace('"fair": {}', '"fair": {"tos": {"bias": 0.1}}'))
    Path("untuned.py").write_text(COINS.read_text().replace("tuning=(100, 101)", "tuning=(100,)"))
    Path("marginless.py").write_text(COINS.read_text().replace("margin=0.6,", ""))
    with pytest.raises(UserError, match=re.escape(sentence)) as refused:
        app(words, standalone_mode=False)
    assert str(refused.value).count("\n") == 0


def test_a_part_is_run_and_leaves_the_rest_open(coins: Recipe[Any]) -> None:
    done = claimed(Path.cwd(), "--seed", "2", "--arm", "fair")
    assert done.returncode == 0, done.stderr
    assert f"{RUNS} runs, 0 of them finished, 2 to make" in done.stdout
    told = read_json(Path("runs/claims/coins"), "result.json")
    assert words_of(told) == ["inconclusive"] * 5
    assert told["statements"][3]["note"] == "of 10 runs 8 lacking"


def test_tuning_is_no_result_and_a_plan_is_made_by_it(coins: Recipe[Any], capsys: pytest.CaptureFixture[str]) -> None:
    done = claimed(Path.cwd(), "--tuning")
    assert done.returncode == 0, done.stderr
    assert "failed: " not in done.stdout, done.stderr
    assert "this is no result and is written nowhere" in " ".join(done.stdout.split())
    assert len(planned(coins, (100, 101))) == 6
    app(["claim", "coins.py", "--plan", "--jobs", "2"], standalone_mode=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "A loaded coin shows heads more often." in said
    assert re.search(r"less fair 2 0\.\d+ \S+ to \S+ \S+ to \S+", said)
    assert "The range is too narrow for 5 seeds" in said
    assert re.search(rf"{RUNS} runs of the test seeds, {RUNS} to make, would take about \d+ s with 2 at a time", said)
    assert not list(Path.cwd().rglob("result.json"))


def test_committed_results_are_in_the_wheel(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    root = tmp_path / "source"
    whole = Path(__file__).parents[2]
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / name, root)
    (root / "components").mkdir()
    (root / "components" / "selfloop").mkdir()
    shutil.copy(whole / "components" / "selfloop" / "__init__.py", root / "components" / "selfloop")
    shutil.copytree(whole / "pipelines", root / "pipelines")
    write_json(root / "pipelines" / "selfloop_recipes" / "claims", {}, "some-recipe.json")
    wheel = next(iter(WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])))
    assert "selfloop_recipes/claims/some-recipe.json" in zipfile.ZipFile(wheel).namelist()


def test_every_claim_of_a_recipe_stands_in_the_table() -> None:
    lines = in_full().splitlines()[2:]
    for recipe, line in zip(recipes().values(), lines, strict=True):
        assert f"`{recipe.name}`" in line
        assert all(statement.sentence in line for statement in (recipe.claims.statements if recipe.claims else ()))
