"""The command, as a person types it: what it prints, how it ends, what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selfloop.cli.app import StoppedError, resumable, run_command
from selfloop.cli.options import overrides
from selfloop.cli.run import as_toml, run_by_kfp
from selfloop.errors import HaltedError, UserError
from selfloop.recipe import find_recipe, recipes
from selfloop.runs import Plan

from .conftest import digests
from .forked import CLI, Forked

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]
LOOP = "length-generalization-addition"
"""What the registry calls the loop that the tests run."""


def _refused(done: subprocess.CompletedProcess[str], sentence: str, code: int = 1) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("selfloop: ")
    assert done.stderr.strip().count("\n") == 0
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "length-generalisation"], "did you mean 'length-generalization'?"),
        (["run", "length-generalization", "--environment", "adition"], "did you mean 'addition'?"),
        (["run", "length-generalization", "--set", "finetune.learning=1"], "There is no parameter of"),
        (["run", "length-generalization", "--set", "fintune.lr=1"], "did you mean 'finetune'?"),
        (["run", "length-generalization", "--set", "finetune.lr=fast"], "cannot be 'fast'"),
        (["run", "length-generalization", "--set", "finetune.lr"], "--set takes KEY=VALUE"),
        (["run", "agent0", "--form", "r-zro"], "There is no form of recipe 'agent0' 'r-zro': did you mean 'r-zero'?"),
        (["run", "length-generalization", "--form", "code"], "has no forms: leave out 'code'"),
        (["compile", "agent0", "-o", "p.yaml", "--form", "cod"], "did you mean 'code'?"),
        (["run", "length-generalization", "--set", "schedule.targt=3"], "did you mean 'target'?"),
        (
            ["run", "length-generalization", "--set", "schedule=frontier,target=0"],
            "'target' of the schedule 'frontier'",
        ),
        (["run", "length-generalization", "--set", "verify.verifier.agreement=1"], "has no parameters: leave out"),
        (
            ["run", "length-generalization", "--set", "schedule=majority"],
            "There is no schedule 'majority': known are: ",
        ),
        (
            ["run", "length-generalization", "--set", "schedule=selfloop.verify.verifiers.exact:Exact"],
            "'selfloop.verify.verifiers.exact:Exact' is a verifier, not a schedule.",
        ),
        (["run", "sec", "--set", "schedule=frontier"], "the schedule 'frontier' needs the settings 'propose'"),
        *(
            (
                [*words, "--set", "schedule=none"],
                "Stage 'generate_rollouts' cannot do without 'tasks', and is given none: choose a schedule that draws",
            )
            for words in (
                ["compile", "length-generalization", "-o", "p.yaml"],
                ["run", "length-generalization"],
                ["run", "length-generalization", "--mode", "fused"],
                ["submit", "length-generalization", "--kfp", "http://127.0.0.1:1"],
            )
        ),
        (["submit", "agent0", "--form", "r-zro", "--kfp", "http://127.0.0.1:1"], "did you mean 'r-zero'?"),
        (
            ["schedule", "sec", "--cron", "0 2 * * *", "--set", "finetune.lr=fast", "--kfp", "http://127.0.0.1:1"],
            "There is no parameter of sec 'finetune'",
        ),
        (
            ["compile", "sec", "-o", "p.yaml", "--set", "verify.verifier=selfloop.propose:Fixed"],
            "'selfloop.propose:Fixed' is a schedule, not a verifier.",
        ),
        (["run", "length-generalization", "--rounds", "0"], "Parameter 'rounds' of length-generalization cannot be 0"),
        (["run", "length-generalization", "-c", "none.toml"], "Cannot read the configuration none.toml"),
        (["run", "length-generalization", "--policy", "no/such/place"], "There is no policy at no/such/place"),
        (["run", "none.py"], "There is no file none.py"),
        (["run", "nowhere:recipe"], "No recipe at 'nowhere:recipe'"),
        (["list", "stages", "generate_rollout"], "did you mean 'generate_rollouts'?"),
        (["list", "environments", "revers"], "did you mean 'reverse'?"),
        (["compile", "length-generalization", "-o", "p.txt"], "KFP reads .yaml, not"),
        (["report", "."], "is no run of selfloop"),
        (["run", "length-generalization", "--set", "model=team/adder"], "cannot be 'team/adder'"),
        (["compile", "length-generalization", "-o", "p.yaml", "--set", "origin=x@champion"], "NAME/VERSION"),
        (["run", "length-generalization", "--set", "gate.guards=lenght"], "did you mean 'length'?"),
        (
            ["run", "length-generalization", "--tracking-uri", "http://127.0.0.1:1", "--store", "s"],
            "takes no version whose files lie in a folder (s)",
        ),
        (["run", "length-generalization", "--tracking-uri", "postgresql://u:p@127.0.0.1:1/x"], "set SELFLOOP_STORE to"),
        (["run", "length-generalization", "--store", "ftp://x"], "ftp://x is no place for artifacts"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    typed: Command, tmp_path: Path, words: list[str], sentence: str
) -> None:
    _refused(typed(*words), sentence)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "length-generalization", "-o", "file"], "file is a file: give a folder to write to."),
        (["run", "length-generalization", "-o", "file/run"], "file/run cannot be written (Not a directory)"),
        (["run", "length-generalization", "-o", "/proc/none/run"], "/proc/none/run cannot be written ("),
        (["run", "length-generalization", "-o", "n" * 300], "cannot be written (File name too long)"),
        (["bench", "length-generalization", "-o", "file"], "file is a file: give a folder to write to."),
        (["claim", "length-generalization", "-o", "file"], "file is a file: give a folder to write to."),
        (
            ["compile", "length-generalization", "-o", "folder.yaml"],
            "folder.yaml is a folder: give a file to write to.",
        ),
        (["compile", "--components", "-o", "file"], "file is a file: give a folder to write to."),
        (["report", "run", "-o", "folder.yaml"], "folder.yaml is a folder: give a file to write to."),
        (["lineage", "adder", "--html", "file/page.html"], "file/page.html cannot be written (Not a directory)"),
        (["reproduce", "adder", "1", "-o", "file"], "file is a file: give a folder to write to."),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_any_work(
    typed: Command, tmp_path: Path, words: list[str], sentence: str
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    _refused(typed(*words), sentence)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.yaml", "run"}
    assert (tmp_path / "file").read_text() == "precious"


def test_an_error_that_nobody_thought_of_is_a_sentence_with_the_place_of_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*words: object) -> None:
        raise ZeroDivisionError("of http://me:secret@host\nin two lines")

    monkeypatch.setattr("selfloop.cli.run.find_recipe", fails)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(["run", "length-generalization"]) == 1
    said = capsys.readouterr().err
    (trace,) = tmp_path.iterdir()
    assert said.startswith("selfloop: An error that was not foreseen (ZeroDivisionError: of http://host in two lines)")
    assert str(trace) in said
    assert said.count("\n") == 1
    assert "in fails" in trace.read_text()
    assert "secret" not in trace.read_text()


@pytest.mark.parametrize("words", [["run", "mine.py"], ["compile", "mine.py", "-o", "p.yaml"], ["bench", "mine.py"]])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def (", "mine.py, which should define the recipe, cannot be imported (line 1, SyntaxError"),
        ("\nx = y", "mine.py, which should define the recipe, cannot be imported (line 2, NameError: name 'y' is not"),
        ("import no_such_library", "No recipe at 'mine.py:recipe': No module named 'no_such_library'."),
    ],
)
def test_a_recipe_s_file_that_cannot_be_imported_gets_one_sentence_and_leaves_nothing(
    selfloop: Command, tmp_path: Path, words: list[str], text: str, sentence: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    _refused(selfloop(*words), sentence)
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


def test_a_form_and_one_parameter_of_a_strategy_are_in_the_configuration(typed: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('schedule = "fixed,enough=0.75,patience=2"\n')
    words = ["-c", "mine.toml", "--form", "r-zero", "--set", "schedule.patience=5", "--dry-run"]
    told = tomllib.loads(typed("run", "agent0", *words).stdout)
    assert (told["form"], told["schedule"]) == ("r-zero", "fixed,enough=0.75,patience=5")
    assert (told["reinforce"]["algorithm"], told["reinforce"]["steps"]) == ("grpo", 20)


@pytest.mark.parametrize(
    ("typed", "model"),
    [("2026", "2026"), ("1e5", "1e5"), ("true", "true"), ('"7"', "7"), ("'7'", "7"), ("v1.2", "v1.2")],
)
def test_a_setting_that_is_text_is_what_was_typed(typed: str, model: str) -> None:
    sec = find_recipe("sec")
    assert sec.resolve(*overrides(sec, None, [f"model={typed}"], {})).model == model


def test_the_forms_of_a_recipe_are_listed_beneath_it(typed: Command) -> None:
    lines = typed("list", "recipes").stdout.splitlines()
    # what a narrow terminal breaks goes on below its column
    listed = [line.split() for line in lines if line.strip() and not line.startswith("   ")]
    names = [" ".join(words[: 1 + (words[0] == "--form")]) for words in listed]
    for recipe in recipes().values():
        place = names.index(recipe.name)
        assert names[place + 1 : place + 1 + len(recipe.forms)] == [f"--form {form}" for form in recipe.forms]
    assert "arXiv:2508.05004" in next(words for words in listed if words[:2] == ["--form", "r-zero"])


def test_a_configuration_that_is_not_toml_is_refused(typed: Command, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("rounds: 3")
    _refused(typed("run", "length-generalization", "-c", "odd.toml"), "odd.toml is not TOML")


def test_the_resolved_configuration_can_be_given_back(typed: Command, tmp_path: Path) -> None:
    words = ["run", "length-generalization", "--dry-run", "--seed", "3", "--set", "finetune.lr=3e-4"]
    first = typed(*words)
    told = tomllib.loads(first.stdout)
    assert (told["seed"], told["finetune"]["lr"], told["generate"]["seed"]) == (3, 3e-4, 3)
    (tmp_path / "all.toml").write_text(first.stdout)
    again = typed("run", "length-generalization", "--dry-run", "-c", "all.toml")
    assert again.stdout == first.stdout


def test_the_control_arm_keeps_nothing_of_its_own(typed: Command) -> None:
    done = typed("run", "length-generalization", "--control", "--dry-run")
    assert tomllib.loads(done.stdout)["filter"]["select"] == ["nothing"]


@pytest.mark.parametrize("words", ["list", "list environments", "list environments addition", "--help"])
def test_what_there_is_is_listed(selfloop: Command, words: str) -> None:
    done = selfloop(*words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 2


@pytest.fixture
def tiny(small_toml: Path) -> list[str]:
    return ["run", "length-generalization", "-c", str(small_toml), "-o", "run"]


def test_a_run_ends_with_its_table_champion_report_and_mlflow(
    selfloop: Command, tmp_path: Path, tiny: list[str], finished_run: Path
) -> None:
    done = selfloop(*tiny)
    assert done.returncode == 0, done.stderr
    for said in ("Exact match by level", "Measured: solved", "Champion: run/round-02", "Report:   run/report.html"):
        assert said in done.stdout
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stdout
    assert (tmp_path / "run" / "report.html").stat().st_size < 1_000_000
    assert digests(tmp_path / "run") == digests(finished_run)
    assert selfloop("report", "run", "-o", "again.html").returncode == 0
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "run" / "report.html").read_bytes()

    _refused(selfloop(*tiny, "--seed", "8"), "holds a run of another configuration (seed was 7, now 8)")

    # a table altered behind the manifest's back, and the stages that read it lost
    results = next((tmp_path / "run" / "round-02").glob("evaluate_policies-*/results/shard-00000.parquet"))
    results.write_bytes(results.read_bytes()[:-1])
    for lost in (tmp_path / "run" / "round-02").glob("close_round-*"):
        shutil.rmtree(lost)
    _refused(selfloop(*tiny), f"{results} was altered after it was sealed: remove")
    shutil.rmtree(results.parents[1])
    assert selfloop(*tiny).returncode == 0
    assert digests(tmp_path / "run") == digests(finished_run)


def test_a_run_that_another_version_of_the_code_began_is_not_resumed(
    typed: Command, tmp_path: Path, tiny: list[str], finished_run: Path
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    settings = find_recipe("length-generalization").resolve(tomllib.loads(Path(tiny[3]).read_text())).overrides()
    begun = json.loads((tmp_path / "run" / "run.json").read_text()) | {"settings": settings}
    (tmp_path / "run" / "run.json").write_text(json.dumps(begun | {"code": "0" * 64}))
    _refused(
        typed(*tiny),
        "run holds a run that was begun by another version of selfloop's code: finish it with that version, or "
        "continue from its champion with --from length-generalization-addition@champion and another --output.",
    )
    for mode in ("kfp", "fused"):
        _refused(typed(*tiny, "--mode", mode), "run holds a run, and a run by KFP does not resume")
    assert digests(tmp_path / "run") == digests(finished_run)


def test_a_run_that_continues_from_an_alias_is_resumed_and_then_followed_by_the_same_command(
    selfloop: Command, tmp_path: Path, small_toml: Path
) -> None:
    always = ["--set", "gate.require=nothing", "--set", "gate.guards=", "--rounds", "1", "-c", str(small_toml)]
    begun = ["run", "length-generalization", *always]
    words = [*begun, "--from", f"{LOOP}@champion"]

    def ran(*more: str, words: list[str] = words) -> dict[str, tuple[str, int]]:
        done = selfloop(*words, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        found = sorted(tmp_path.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime)
        settings = {path.parent.name: json.loads(path.read_text())["settings"] for path in found}
        return {name: (each["origin"], each["first"]) for name, each in settings.items()}

    ran(words=begun)
    *_, (name, pinned) = ran().items()
    assert pinned == (f"{LOOP}/2", 2)
    (tmp_path / "runs" / name / "finished").unlink()  # stopped after its promotion: the alias names its own candidate
    shutil.rmtree(next((tmp_path / "runs" / name).glob("round-02/measure_policy-*")))
    assert len(ran()) == 2, "the same run"
    *_, last = ran().items()
    assert last == (f"{name}-2", (f"{LOOP}/3", 3))
    fixed = [*begun, "--from", f"{LOOP}/2"]
    assert len(ran(words=fixed)) == len(ran(words=fixed)) == 4, "a version is the same today and tomorrow"

    (tmp_path / "runs" / name).rename(tmp_path / "runs" / "mine")
    _refused(
        selfloop(*words, "-o", "runs/mine"),
        f"runs/mine holds a finished run, which continued from {LOOP}/2: choose another --output",
    )


def test_each_role_of_a_run_is_named_at_its_end(selfloop: Command, tmp_path: Path, small: dict[str, Any]) -> None:
    recipe = str(Path(__file__).with_name("lineage") / "two_roles.py")
    without = {name: value for name, value in small.items() if name != "measure"}
    settings = find_recipe(recipe).resolve(without, {"rounds": 1, "other": small["pretrain"]})
    (tmp_path / "pair.toml").write_text(as_toml(settings))
    done = selfloop("run", recipe, "-c", "pair.toml", "-o", "x[/i]y")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Solver:   x[/i]y/round-01/" in done.stdout
    assert "Proposer: x[/i]y/round-01/" in done.stdout


HALTS = ["--set", "gate.guards=divergence,warn=-2,halt=-2"]
"""A line that every round is beyond."""


def test_a_guard_halts_a_run_by_kfp_with_one_sentence_and_its_own_exit_code(
    selfloop: Command, tmp_path: Path, tiny: list[str]
) -> None:
    done = selfloop(*tiny, *HALTS, "--mode", "fused", "--rounds", "1")
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("selfloop: guard 'divergence' halted the loop")
    assert said.endswith("The champion stays in force. The report is run/report.html.")
    lines = done.stdout.splitlines()
    assert len(lines) < 10, "what kfp.local prints is in a file"
    assert [line.split()[:4] for line in lines[:2]] == [
        ["round", "0", "·", "resolve:"],
        ["round", "0", "·", "start:"],
    ]
    assert "Running pipeline" in (tmp_path / "run" / "kfp.log").read_text()
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("printed", "kind", "said"),
    [
        ("", UserError, "Task close-round-2 failed, what it printed is at the end of"),
        ("selfloop: a reason, and its remedy.", UserError, "failed: a reason, and its remedy. Its log"),
        ("selfloop halted: because of this.", HaltedError, "^because of this.$"),
    ],
)
def test_a_stage_that_failed_by_kfp_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small: dict[str, Any],
    printed: str,
    kind: type[UserError],
    said: str,
) -> None:
    def fails(recipe: object, settings: object, place: Path, fused: bool) -> None:
        print(f"    the task prints\n    {printed}\n")
        raise RuntimeError("Pipeline 'x' failed. Inner task failed: \033[96m'close-round-2'\033[0m.")

    monkeypatch.setattr("selfloop.modes.compiling.run_locally", fails)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe = find_recipe("length-generalization")
    with pytest.raises(kind, match=said) as raised:
        run_by_kfp(Plan(recipe, recipe.resolve(small), tmp_path / "run"), fused=False)
    assert type(raised.value) is kind


def test_a_folder_with_other_files_is_not_written_to(typed: Command, tmp_path: Path, tiny: list[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    _refused(typed(*tiny), "run holds files that are no run of selfloop")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "precious"


def _started(tmp_path: Path, words: list[str]) -> Forked:
    """A run that has come to its pretraining."""
    started = Forked(*CLI, *words, "--set", "pretrain.steps=100000", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/round-00/pretrain_policy-*.partial")):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return started


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_to_continue(
    selfloop: Command, tmp_path: Path, tiny: list[str], stop: signal.Signals
) -> None:
    started = _started(tmp_path, tiny)
    try:
        _refused(selfloop(*tiny, "--set", "pretrain.steps=100000"), "Another run is at work in run")
        started.send_signal(stop)
        _, said = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130
    assert said.startswith("selfloop: Stopped; what is finished is kept in run. The same command continues from there.")
    assert "Traceback" not in said


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_python_dropped_comes_again(stop: signal.Signals) -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(stop)

    def work() -> None:
        Dropping()
        threading.Event().wait(30)

    hook = sys.unraisablehook
    with pytest.raises(StoppedError, match="kept in here"), resumable(Path("here")):
        work()
    assert sys.unraisablehook is hook


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda place: (place / "model.safetensors").unlink(), "is a policy without weights"),
        (
            lambda place: (place / "model.safetensors").rename(place / "pytorch_model.bin"),
            "holds its weights as a pickle (pytorch_model.bin)",
        ),
        (lambda place: os.truncate(place / "model.safetensors", 1000), "model.safetensors is cut off or damaged"),
        (lambda place: (place / "config.json").unlink(), "is not a policy: it has no config.json"),
    ],
    ids=["without weights", "pickle", "truncated", "without configuration"],
)
def test_a_policy_that_cannot_be_loaded_is_refused_before_anything_starts(
    typed: Command, tmp_path: Path, finished_run: Path, spoil: Callable[[Path], Any], sentence: str
) -> None:
    place = tmp_path / "policy"
    shutil.copytree(next(finished_run.glob("round-00/pretrain_policy-*/policy")), place)
    spoil(place)
    _refused(typed("run", "length-generalization", "--policy", str(place), "-o", "run"), sentence)
    assert not (tmp_path / "run").exists()


def test_a_loop_continues_from_a_directory(
    selfloop: Command, tmp_path: Path, tiny: list[str], finished_run: Path
) -> None:
    place = next(finished_run.glob("round-00/pretrain_policy-*/policy"))
    done = selfloop(*tiny, "--policy", str(place))
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("run/round-00/pretrain_policy-*"))


def test_a_full_disk_is_said_and_the_run_continues_when_there_is_room(
    selfloop: Command, tmp_path: Path, tiny: list[str], finished_run: Path
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    try:
        words = [*tiny[:-1], "disk/run", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        _refused(selfloop(*words), "free some space and run the same command again")
        subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
        done = selfloop(*words)
        assert done.returncode == 0, done.stderr
        assert digests(place / "run") == digests(finished_run)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_the_bench_writes_what_it_prints(selfloop: Command, tmp_path: Path, small_toml: Path) -> None:
    words = ["bench", "length-generalization", "-c", str(small_toml), "--seeds", "1", "-o", "bench"]
    done = selfloop(*words)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert [(row["arm"], row["seed"]) for row in written["rows"]] == [("loop", 0), ("control", 0)]
    assert written["rows"][1]["kept"] == 0
    assert {"command", "date", "machine", "torch"} <= set(written)
