"""What stages and entry points import is in their images, in whatever body the import stands."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from selfloop.artifacts import read_json
from selfloop.loop import state_of
from selfloop.modes.calls import is_whole, shape_of
from selfloop.modes.fused import fused_stage
from selfloop.modes.resolving import form_of, resolve_stage
from selfloop.promote import close_stage, restore_stage
from selfloop.recipe import Recipe, find_recipe, recipes
from selfloop.stages import Stage, stages

from ..packages import IMAGES, lacks
from ..reachable import ALL, Name, packages
from ..servers import mlflow_server

pytestmark = pytest.mark.slow

OWN = ("selfloop", "selfloop_recipes")
THERE = {"selfloop.generate.engines.vllm": {"vllm"}}
"""Modules that are opened only where a package was found."""
ENTRY: Name = ("selfloop.__main__", ALL)
TASK: list[Name] = [("selfloop.modes.task", ""), ("selfloop.modes.calls", ""), ("selfloop.modes.resolving", "")]
"""What the tasks of a pipeline import."""
NOTED: list[Name] = [("selfloop.modes.noting", "calls_of")]
"""What follows the calls of a recipe to know their parameters, and runs none."""
DOCTOR: list[Name] = [("selfloop.cli", ""), ("selfloop.cli.doctor", ALL)]
Programs = Callable[[str], Path]


def all_stages() -> list[Stage]:
    """Those that come with selfloop, and those that are read off its recipes."""
    return [*stages().values(), *(stage for recipe in recipes().values() for stage in read_off(recipe))]


def read_off(recipe: Recipe[Any]) -> list[Stage]:
    state = state_of(recipe)
    whole = [fused_stage(recipe, "start"), fused_stage(recipe, "round")]
    return [resolve_stage(recipe), restore_stage(recipe, state), close_stage(recipe, state), *whole]


def roots(stage: Stage) -> list[Name]:
    """Where a stage's code begins: its function, and where it is read off a recipe this one, whose start or round it
    may run whole.
    """
    module, _, attribute = stage.target.partition(":")
    found = [ENTRY, *TASK, (stage.function.__module__, stage.function.__qualname__.partition(".")[0])]
    if "." in attribute:
        found += [("selfloop.recipe", "Recipe"), (module, "recipe" if is_whole(stage) else "")]
    return found


def lacking(image: str, begins: list[Name]) -> dict[str, str]:
    """The packages that an image lacks of those that code may import, and the way to each."""
    found = packages(begins, OWN, THERE, NOTED)
    return {name: " > ".join(map(":".join, way)) for name, way in found.items() if lacks(image, name)}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_whatever_its_stages_import(image: str) -> None:
    assert {s.name: found for s in all_stages() if s.image == image and (found := lacking(image, roots(s)))} == {}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_whatever_the_doctor_imports(image: str) -> None:
    assert lacking(image, DOCTOR) == {}


CHECKED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sqlalchemy\n"
LOOKED_FOR = "def work():\n    with needing('It', 'extra'):\n        import sqlalchemy\n"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("def work():\n    helper()\ndef helper():\n    import sqlalchemy.exc", {"sqlalchemy"}),
        ("import sqlalchemy", {"sqlalchemy"}),
        (CHECKED + "def work(x: sqlalchemy.A): ...", set()),
        ("def work(): ...\ndef other():\n    import sqlalchemy", set()),
        ("class Other:\n    def do(self):\n        import sqlalchemy\ndef work():\n    return Other()", {"sqlalchemy"}),
        ("from mine import other\ndef work():\n    other.do()", {"sqlalchemy"}),
        ("from mine import other\ndef work():\n    other.rest()", set()),
        ("PLACE = 'mine.other'\ndef work():\n    return PLACE", {"sqlalchemy"}),
        (LOOKED_FOR + "    from mine import other\n    other.do()", set()),
    ],
)
def test_an_import_is_found_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, found: set[str]
) -> None:
    own = tmp_path.name  # another one each time: what is read of a module is kept
    folder = tmp_path / own
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "other.py").write_text("def do():\n    import sqlalchemy\ndef rest(): ...\n")
    (folder / "stage.py").write_text(body.replace("mine", own))
    monkeypatch.syspath_prepend(tmp_path)
    outside = packages([(f"{own}.stage", "work")], [own], {})
    assert {name for name in outside if lacks("base", name)} == found


def test_an_environment_has_the_packages_of_the_image_and_no_others(programs_of: Programs) -> None:
    asked = (
        "import selfloop, mlflow, importlib.metadata as m; from importlib.util import find_spec;"
        "names = {each.name.lower() for each in m.distributions()};"
        "print(mlflow.__version__ == m.version('mlflow-skinny'), {'mlflow', 'sqlalchemy', 'torch', 'pytest'} & names,"
        "[find_spec(name) for name in ('sqlalchemy', 'torch', 'pytest', 'alembic')])"
    )
    assert ran(programs_of("base"), "-c", asked).stdout == "True set() [None, None, None, None]\n"


def ran(programs: Path, *words: str, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """Python, run in an environment as a pod would run it."""
    path = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(programs), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    return subprocess.run(
        [str(programs / "python3"), *words], env=path | surroundings, capture_output=True, text=True, check=False
    )


@pytest.fixture
def resolving(tmp_path: Path) -> list[str]:
    """The first task of a run, which continues from the champion if there is one, as a container runs it."""
    recipe = find_recipe("length-generalization")
    settings = recipe.resolve()
    form = {name: default for name, (_, default, _) in form_of(recipe, settings).items()}
    given = form | {"origin": "champion", "settings": "{}", "run": "1f2e-3d4c"}
    given |= {
        "compiled": json.dumps(settings.overrides()),
        "shape": shape_of(recipe, settings),
        "held": settings.rounds,
    }
    words = [str(tmp_path / "resolved"), *(f"{name}={value}" for name, value in given.items())]
    return ["-c", RESOLVE, recipe.target, *words]


RESOLVE = """
import sys
from kfp.dsl import Artifact
from selfloop.modes.resolving import main

target, place, given = sys.argv[1], sys.argv[2], dict(word.split("=", 1) for word in sys.argv[3:])
main(target, given | {"resolved": Artifact(uri=place)})
"""
"""What the task's function does, as KFP's executor calls it."""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow as a server; its URI."""
    place = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(f"sqlite:///{place}/m.db", str(place / "artifacts"), place / "log") as uri:
        yield uri


def test_a_run_begins_with_mlflow_as_a_server(
    programs_of: Programs, resolving: list[str], mlflow: str, tmp_path: Path
) -> None:
    done = ran(programs_of("base"), *resolving, MLFLOW_TRACKING_URI=mlflow, SELFLOOP_STORE=str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr
    assert set(read_json(tmp_path / "resolved")["environment"]) == {"MLFLOW_RUN_ID", "SELFLOOP_KFP_RUN"}


def of_plugin(parent: str, task: str) -> dict[str, str]:
    """What KFP's MLflow plugin puts into a pod, with an MLflow of its own that nobody may need."""
    nowhere = "http://127.0.0.1:1"
    about = {"endpoint": nowhere, "parentRunId": parent, "experimentId": "9", "injectUserEnvVars": True}
    injected = {"MLFLOW_TRACKING_URI": nowhere, "MLFLOW_RUN_ID": task, "MLFLOW_EXPERIMENT_ID": "9"}
    injected |= {"MLFLOW_TRACKING_AUTH": "kubernetes", "MLFLOW_WORKSPACE": "team"}
    return injected | {"KFP_MLFLOW_CONFIG": json.dumps(about)}


def test_a_run_is_the_one_that_kfp_s_plugin_opened(
    programs_of: Programs, resolving: list[str], mlflow: str, tmp_path: Path
) -> None:
    client = MlflowClient(mlflow)
    experiment = client.create_experiment("KFP-Default")
    parent = client.create_run(experiment, tags={"kfp.pipeline_run_id": "1f2e-3d4c"}).info.run_id
    task = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    own = {"SELFLOOP_TRACKING_URI": mlflow, "SELFLOOP_STORE": str(tmp_path / "store")}
    for _ in range(2):  # as when the task is tried again
        shutil.rmtree(tmp_path / "resolved", ignore_errors=True)
        done = ran(programs_of("base"), *resolving, **of_plugin(parent, task), **own)
        assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "resolved")["environment"]["MLFLOW_RUN_ID"] == parent
    joined = client.get_run(parent)
    assert joined.data.params["rounds"] == "40"
    assert joined.data.tags["selfloop.kfp.run_id"] == "1f2e-3d4c"
    assert joined.info.status == "RUNNING", "it is KFP's to end"
    assert len(client.search_runs([experiment])) == 2


def test_a_run_stands_beside_that_of_a_plugin_with_another_mlflow(
    programs_of: Programs, resolving: list[str], mlflow: str, tmp_path: Path
) -> None:
    own = {"SELFLOOP_TRACKING_URI": mlflow, "SELFLOOP_STORE": str(tmp_path / "store")}
    done = ran(programs_of("base"), *resolving, **of_plugin("0" * 32, "1" * 32), **own)
    assert done.returncode == 0, done.stderr
    made = read_json(tmp_path / "resolved")["environment"]["MLFLOW_RUN_ID"]
    assert MlflowClient(mlflow).get_run(made).data.tags["selfloop.kfp.run_id"] == "1f2e-3d4c"


def test_a_server_that_is_away_is_said_in_one_sentence(programs_of: Programs, resolving: list[str]) -> None:
    done = ran(programs_of("base"), *resolving, MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = (line for line in done.stderr.splitlines() if "selfloop" in line)
    assert said.startswith("selfloop: MLflow at http://127.0.0.1:1 cannot be used (")
    assert said.endswith(".")


def test_the_base_image_knows_which_stages_a_round_of_every_recipe_calls(programs_of: Programs) -> None:
    """Each task finds its parameters so, whatever it has of the packages that other stages work with."""
    told = (
        "import json; from selfloop.recipe import recipes; from selfloop.modes.calls import shape_of;"
        "print(json.dumps({name: shape_of(each, each.resolve()) for name, each in recipes().items()}))"
    )
    done = ran(programs_of("base"), "-c", told)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: shape_of(each, each.resolve()) for name, each in recipes().items()}


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "from selfloop.verify.verifiers.reward_model import loaded; loaded('somewhere')",
            "The verifier 'reward-model' needs the package torch",
        ),
        (
            "from pathlib import Path; from selfloop.filter.selectors.diversity import Embedder; Embedder(Path())",
            "The selector 'diverse-by-embedding' needs the package torch",
        ),
        (
            "from selfloop.environments import find_environment; find_environment('reasoning-gym:countdown')",
            "The environment 'reasoning-gym' needs the package reasoning_gym",
        ),
    ],
)
def test_what_an_image_has_by_an_extra_alone_is_said(programs_of: Programs, program: str, sentence: str) -> None:
    said = ran(programs_of("sandbox"), "-c", program).stderr.splitlines()[-1]
    assert said.startswith(
        f"selfloop.errors.UserError: {sentence}, which is not installed here: pip install 'selfloop["
    )
    assert "or build the images with EXTRAS=" in said
