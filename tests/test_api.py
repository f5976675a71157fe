"""The public API: what ``import selfloop`` offers, and that it is what the command does."""

import contextlib
import doctest
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import selfloop
from selfloop.artifacts import manifest_of

ROOT = Path(__file__).parents[1]
HEAVY = ("kfp", "mlflow", "numpy", "pyarrow", "pydantic", "torch", "transformers", "typer")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page on Python was followed, line by line."""
    found = tmp_path_factory.mktemp("python")
    with contextlib.chdir(found):
        done = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert done.attempted > 10
    assert done.failed == 0
    return found


@pytest.fixture(scope="module")
def made(place: Path) -> selfloop.Run:
    """The run that the page makes."""
    return selfloop.Run(place / "runs" / "first")


def test_every_public_name_is_there_and_is_documented() -> None:
    assert dir(selfloop) == sorted(selfloop.__all__)
    for name in selfloop.__all__:
        assert getattr(selfloop, name).__doc__, name


def test_importing_loads_nothing_of_what_is_behind_it() -> None:
    program = f"import selfloop, sys; dir(selfloop); print([each for each in {HEAVY} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_compiling_from_python_loads_no_model_s_library(tmp_path: Path) -> None:
    program = (
        "import selfloop, sys; made = selfloop.compile_pipeline('sec', 'sec.yaml', rounds=1); "
        "print(made.rounds_a_run, {'torch', 'transformers', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "1 set()\n"
    assert (tmp_path / "sec.yaml").stat().st_size > 10_000


def test_a_name_that_is_not_public_is_none() -> None:
    with pytest.raises(AttributeError, match="module 'selfloop' has no attribute 'Verifyer'"):
        selfloop.Verifyer  # noqa: B018


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {each.name for each in pkgutil.iter_modules(selfloop.__path__)}
    assert "stages" in modules
    assert not modules & set(selfloop.__all__), "whoever imports the module would find it under this name"


@pytest.mark.slow
@pytest.mark.parametrize("module", ["selfloop", "selfloop.records"])
def test_examples_in_docstrings_hold(module: str) -> None:
    __import__(module)
    assert doctest.testmod(sys.modules[module]).failed == 0


@pytest.mark.slow
def test_the_front_page_s_lines_of_python_run(made: selfloop.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(import selfloop\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (small,) = re.findall(r">>> small = (\{.*?\n\.\.\. \})", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    monkeypatch.chdir(made.folder.parents[1])
    names: dict[str, Any] = {"small": eval(small.replace("... ", ""))}
    exec(lines.replace("rounds=3", "small, rounds=2"), names)  # it was made, and is found
    assert names["run"].champion.resolve() == made.champion


@pytest.mark.slow
def test_a_run_is_read_as_it_was_made(made: selfloop.Run) -> None:
    again = selfloop.Run(made.folder)
    assert again.is_finished
    assert again.settings.rounds == 2
    assert [each["round"] for each in again.rounds] == [1, 2]
    assert again.decision(2) == again.rounds[1]["decision"]
    assert set(again.measured) == {"solved"}
    assert manifest_of(again.champion).kind == "Model"
    assert "<html" in again.report.read_text()
    assert [row.version.number for row in again.lineage.rows] == [1, 2, 3]


@pytest.mark.slow
def test_rollouts_stand_beside_their_verdicts(made: selfloop.Run) -> None:
    rollouts = made.rollouts(2)
    kept = made.table(2, "examples")
    assert rollouts.num_rows == made.table(2, "verdicts").num_rows
    right = rollouts.to_pandas().query("ok")
    assert set(zip(right.task, right.completion, strict=True)) >= {
        (each["task"], each["completion"]) for each in kept.to_pylist() if each["round"] == 2
    }


@pytest.mark.slow
def test_a_table_is_read_from_an_artifact_its_folder_or_its_manifest(made: selfloop.Run) -> None:
    from kfp.dsl import Dataset

    (place,) = made.folder.glob("round-01/generate_rollouts-*/rollouts")
    whole = selfloop.read_table(place)
    assert whole.num_rows > 0
    assert selfloop.read_table(Dataset(uri=str(place))) == whole
    assert selfloop.read_table(str(place / "manifest.json")) == whole
    for other in (made.folder, made.champion, place / "nothing"):
        with pytest.raises(selfloop.UserError, match="is no table of selfloop"):
            selfloop.read_table(other)


@pytest.mark.slow
def test_what_a_run_has_not_is_one_sentence(made: selfloop.Run, tmp_path: Path) -> None:
    with pytest.raises(selfloop.UserError, match=r"There is no round 3 in .*: it has the rounds 1 to 2\."):
        made.rollouts(3)
    with pytest.raises(selfloop.UserError, match="There is no table of a round 'rollout': did you mean 'rollouts'"):
        made.table(1, "rollout")
    with pytest.raises(selfloop.UserError, match="There is no role of recipe 'length-generalization' 'champ'"):
        made.role("champ")
    with pytest.raises(selfloop.UserError, match="is no run of selfloop"):
        selfloop.Run(tmp_path)
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.json").write_text(json.dumps({"recipe": "selfloop_recipes.sec:recipe", "settings": {}}))
    with pytest.raises(selfloop.UserError, match=r"No round of .* has ended yet"):
        selfloop.Run(begun).champion  # noqa: B018
    with pytest.raises(selfloop.UserError, match="did you mean 'rounds'"):
        selfloop.run("sec", roundz=2, output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_run_s_registry_is_found_whatever_mlflow_was_told_and_leaves_the_environment_as_it_was(
    made: selfloop.Run, tmp_path: Path
) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")  # a notebook's, in which no loop is
    again = selfloop.Run(made.folder, f"sqlite:///{made.folder.parent}/mlflow.db")
    assert again.lineage.name == "length-generalization-addition"
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/other.db"


@pytest.mark.slow
def test_the_registry_of_a_run_leaves_the_environment_as_it_was(made: selfloop.Run) -> None:
    assert made.lineage.name == "length-generalization-addition"
    assert "MLFLOW_TRACKING_URI" not in os.environ
