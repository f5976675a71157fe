"""The commands about a loop's lineage, as a person types them after a run."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from .. import forked

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
NAME = "length-generalization-addition"
LOOP = ["run", "length-generalization", "-c", "small.toml"]
ALWAYS = ["--set", "gate.require=nothing", "--set", "gate.guards="]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run in it, whose rounds were both promoted."""
    from selfloop.cli.run import as_toml
    from selfloop.recipe import find_recipe

    from ..conftest import SMALL

    place = tmp_path_factory.mktemp("finished")
    (place / "small.toml").write_text(as_toml(find_recipe("length-generalization").resolve(SMALL)))
    done = forked.run(*forked.CLI, *LOOP, *ALWAYS, cwd=place)
    assert done.returncode == 0, done.stderr
    (place / "said.txt").write_text(done.stdout)
    return place


@pytest.fixture
def here(finished: Path, tmp_path: Path) -> Path:
    """The folder that the command runs in, with a copy of that run: its store was moved."""
    for each in finished.iterdir():
        (shutil.copytree if each.is_dir() else shutil.copy)(each, tmp_path / each.name)
    return tmp_path


def _champion(place: Path) -> str:
    client = MlflowClient(f"sqlite:///{place}/runs/mlflow.db", f"sqlite:///{place}/runs/mlflow.db")
    return str(client.get_model_version_by_alias(NAME, "champion").version)


def _refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_a_run_ends_with_its_lineage(finished: Path) -> None:
    said = (finished / "said.txt").read_text()
    tree = said[said.index(f"Lineage of {NAME}") :]
    assert "champion" in tree
    assert tree.count("promoted") >= 2


def test_look_roll_back_and_continue(selfloop: Command, here: Path) -> None:
    shown = selfloop("lineage", NAME)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 4
    assert selfloop("lineage", NAME, "--html", "tree.html").returncode == 0
    assert "<script" not in (here / "tree.html").read_text()

    done = selfloop("rollback", NAME, "--reason", "it forgot <b>carries</b>")
    assert done.returncode == 0, done.stderr
    assert f"Version 2 of {NAME} is the champion" in done.stdout
    assert _champion(here) == "2"
    assert "it forgot <b>carries</b>" in selfloop("lineage", NAME).stdout
    selfloop("lineage", NAME, "--html", "tree.html")
    assert "it forgot <b>carries" not in (here / "tree.html").read_text()

    words = [*LOOP, *ALWAYS, "--rounds", "1", "--seed", "9", "--from", f"{NAME}@champion"]
    done = selfloop(*words)
    assert done.returncode == 0, done.stderr
    assert _champion(here) == "4"
    assert "round  2 promoted" in done.stdout

    assert selfloop("promote", NAME, "3", "--reason", "the first one after all").returncode == 0
    assert _champion(here) == "3"


def test_reproduce_says_that_the_digests_match(selfloop: Command, here: Path) -> None:
    shutil.rmtree(next(each for each in (here / "runs").iterdir() if each.name.startswith("length-")))
    done = selfloop("reproduce", NAME, "2")
    assert done.returncode == 0, done.stderr
    assert f"Version 2 of {NAME} was reproduced: the digests match." in done.stdout


def test_gc_lists_before_it_deletes(selfloop: Command, here: Path) -> None:
    done = selfloop(*LOOP, "--set", "gate.margin=1.0", "--set", "gate.guards=", "--seed", "5", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    store = here / "runs" / "store"
    before = set(store.iterdir())
    listed = selfloop("gc", NAME, "--keep", "0")
    assert listed.returncode == 0, listed.stderr
    assert "0 versions" in listed.stdout, "the newest candidate bears an alias, and so stays"
    MlflowClient(*[f"sqlite:///{here}/runs/mlflow.db"] * 2).delete_registered_model_alias(NAME, "candidate")
    listed = selfloop("gc", NAME, "--keep", "0")
    assert "Nothing was deleted: add --yes" in listed.stdout
    assert set(store.iterdir()) == before
    done = selfloop("gc", NAME, "--keep", "0", "--yes")
    assert "1 versions" in done.stdout
    assert len(set(store.iterdir())) < len(before)
    assert selfloop("reproduce", NAME, "3").returncode == 0
    assert "0 versions" in selfloop("gc", NAME, "--keep", "0").stdout
    assert not list(here.glob("runs/*/round-*")), "what the stages of finished runs left is gone"
    assert list(here.glob("runs/*/report.html"))
    again = selfloop(*LOOP, *ALWAYS)
    assert again.returncode == 1
    assert "holds a finished run, whose stages 'selfloop gc' removed" in again.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["lineage", "nobody"], "There is no loop in the registry 'nobody'"),
        (["lineage", "a/b"], "cannot be the name of a loop"),
        (["rollback", NAME, "3", "--reason", "x"], "is the champion already"),
        (["rollback", NAME, "9", "--reason", "x"], "has no version 9"),
        (["approve", NAME, "--reason", "x"], f"No version of {NAME} waits"),
        (["promote", NAME, "best", "--reason", "x"], "has no alias 'best'"),
        ([*LOOP, "--from", f"{NAME}@best"], "has no alias 'best'"),
        ([*LOOP, "--from", NAME], "--from takes NAME@champion"),
        ([*LOOP, "--policy", "models:/nobody@champion"], "There is no loop in the registry 'nobody'"),
        ([*LOOP, "--set", "gate.confidence=1.5"], "Parameter 'gate.confidence' of length-generalization cannot be 1.5"),
        ([*LOOP, "--set", "gate.margin=3"], "Parameter 'gate.margin' of length-generalization cannot be 3"),
        ([*LOOP, "--set", "gate.guards=lenght"], "did you mean 'length'"),
        ([*LOOP, "--tracking-uri", "http://127.0.0.1:9"], "There is no place for policies"),
        (
            [*LOOP, "--tracking-uri", "http://127.0.0.1:9", "--store", "x"],
            "MLflow's server takes no version whose files",
        ),
        (["lineage", NAME, "--tracking-uri", "http://127.0.0.1:9"], "MLflow at http://127.0.0.1:9"),
        ([*LOOP, "--seed", "3", "--store", "ftp://x"], "ftp://x"),
        (["gc", NAME, "--keep", "-2"], "--keep cannot be -2"),
    ],
)
def test_a_mistake_gets_one_sentence_and_moves_nothing(
    typed: Command, here: Path, words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _refused(typed(*words), sentence)
    assert _champion(here) == "3"


def test_a_version_whose_files_were_altered_is_refused_by_name(typed: Command, here: Path) -> None:
    client = MlflowClient(*[f"sqlite:///{here}/runs/mlflow.db"] * 2)
    key = Path(client.get_model_version(NAME, "2").source).name
    weights = here / "runs" / "store" / key / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    _refused(typed("rollback", NAME, "--reason", "x"), str(weights))
    assert _champion(here) == "3"


def test_a_guard_halts_the_loop_and_says_where_to_look(selfloop: Command, here: Path) -> None:
    """Attempts are as often right as a coin falls: what a majority of them believes is not true."""
    words = [*LOOP, "--seed", "4", "--set", "verify.verifier=majority,agreement=0.51"]
    words += ["--set", "propose.attempts=3", "--set", "generate.temperature=0.1", "--set", "gate.guards=precision"]
    done = selfloop(*words)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "guard 'precision' halted the loop" in done.stderr
    assert "The champion stays in force" in done.stderr
    assert "The report is runs/length-generalization-" in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert _champion(here) == "3"
    report = next(iter(sorted((here / "runs").glob("*/report.html"), key=lambda page: page.stat().st_mtime)[-1:]))
    assert "halted" in report.read_text()
    assert selfloop(*words).returncode == 3, "the same command says the same"
    tree = selfloop("lineage", NAME).stdout
    assert "halted" in tree
    _refused(selfloop("promote", NAME, "5", "--reason", "x"), "was refused")


def test_a_warning_waits_for_approval(selfloop: Command, here: Path) -> None:
    words = [*LOOP, "--set", "gate.require=nothing", "--rounds", "1", "--from", f"{NAME}@champion"]
    words += ["--set", "gate.guards=divergence,warn=-2"]
    done = selfloop(*words)
    assert done.returncode == 0, done.stderr
    assert "pending" in done.stdout
    assert _champion(here) == "3"
    done = selfloop("approve", NAME, "--reason", "its answers are as long as they should be")
    assert done.returncode == 0, done.stderr
    assert _champion(here) == "4"
    assert "approved" in selfloop("lineage", NAME).stdout
