"""The first task of a pipeline: what was typed, or what a schedule gave, becomes the settings of a run."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact
from mlflow import MlflowClient
from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError
from selfloop.lineage.registry import Registry
from selfloop.modes import calls, resolving
from selfloop.modes.calls import enter, shape_of
from selfloop.modes.compiling import run_locally
from selfloop.modes.inprocess import run
from selfloop.modes.resolving import form_of, resolve_stage
from selfloop.propose import draw_base
from selfloop.recipe import Recipe, find_recipe

pytestmark = pytest.mark.slow

MADE = draw_base.flat.outputs.values()
NAME = "length-generalization"
LOOP = f"{NAME}-addition"


@pytest.fixture
def recipe() -> Recipe[Any]:
    return find_recipe(NAME)


def _resolved(recipe: Recipe[Any], place: Path, compiled: dict[str, Any], **typed: Any) -> dict[str, Any]:
    """What ``resolve`` gives for a form in which some inputs were typed, of a pipeline compiled with some settings."""
    settings = recipe.resolve(compiled)
    form = {name: default for name, (_, default, _) in form_of(recipe, settings).items()}
    fixed = {"compiled": json.dumps(settings.overrides()), "shape": shape_of(recipe, settings)}
    fixed |= {"held": settings.rounds, "run": "1f2e-3d4c"}
    made = Artifact(uri=str(place / "resolved"))
    resolving.enter(recipe.target, form | fixed | typed | {"resolved": made})
    return dict(read_json(made.path))


def test_a_form_that_nobody_touched_is_what_was_compiled(recipe: Recipe[Any], tmp_path: Path) -> None:
    compiled = {"rounds": 3, "finetune": {"lr": 0.5}, "environment": "reverse"}
    told = _resolved(recipe, tmp_path, compiled)
    assert told["settings"] == recipe.resolve(compiled).overrides()
    assert told["recipe"] == recipe.target


def test_what_was_typed_goes_over_the_json_and_that_over_what_was_compiled(recipe: Recipe[Any], tmp_path: Path) -> None:
    typed = json.dumps({"finetune": {"lr": 0.2, "steps": 9}, "gate": {"guards": []}})
    compiled = {"finetune": {"lr": 0.1, "warmup_steps": 1}}
    told = _resolved(recipe, tmp_path, compiled, settings=typed, finetune_steps=7, seed=4)["settings"]
    assert told["finetune"] == {"lr": 0.2, "steps": 7, "warmup_steps": 1}
    assert (told["seed"], told["gate"]) == (4, {"guards": [], "confirm": 2})


def test_a_schedule_can_be_typed_and_one_of_its_parameters_changed(recipe: Recipe[Any], tmp_path: Path) -> None:
    compiled = {"schedule": "frontier,target=12"}
    typed: tuple[dict[str, str], ...] = (
        {},
        {"schedule": "frontier,target=3"},
        {"settings": '{"schedule": {"advance_at": 0.5}}'},
    )
    schedules = [
        _resolved(recipe, tmp_path / str(number), compiled, **each)["settings"]["schedule"]
        for number, each in enumerate(typed)
    ]
    assert schedules == ["frontier,target=12", "frontier,target=3", "frontier,advance_at=0.5,target=12"]


def test_the_loop_is_called_what_was_typed_or_what_it_is(recipe: Recipe[Any], tmp_path: Path) -> None:
    for name, typed, loop in (
        ("a", {}, LOOP),
        ("b", {"environment": "reverse"}, f"{NAME}-reverse"),
        ("c", {"model": "mine"}, "mine"),
    ):
        assert recipe.resolve(_resolved(recipe, tmp_path / name, {}, **typed)["settings"]).loop == loop


def test_the_stage_is_read_off_the_recipe_and_described(recipe: Recipe[Any]) -> None:
    stage = resolve_stage(recipe)
    assert (stage.name, stage.inputs, set(stage.outputs)) == ("resolve_length_generalization", {}, {"resolved"})
    assert stage.effects, "it opens a run in MLflow"
    assert {recipe.settings.in_form(name) for name in recipe.settings.inputs()} < set(stage.params.model_fields)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"settings": "lr=3"}, "The input 'settings' is not JSON"),
        ({"settings": "[1]"}, "The input 'settings' is [1], not an object"),
        ({"settings": '{"finetune": {"lrr": 1}}'}, "There is no parameter of length-generalization.finetune 'lrr'"),
        ({"settings": '{"rounds": 99}'}, "The setting 'rounds' is fixed when a pipeline is compiled, here to 2"),
        ({"settings": '{"form": "easy"}'}, "Recipe 'length-generalization' has no forms: leave out 'easy'."),
        (
            {"settings": '{"schedule": {"targt": 1}}'},
            "There is no parameter of the schedule 'frontier' 'targt': did you",
        ),
        ({"settings": '{"schedule": "judge"}'}, "There is no schedule 'judge'"),
        ({"schedule": "fixd"}, "There is no schedule 'fixd': did you mean 'fixed'?"),
        ({"schedule": "frontier,target=0"}, "'target' of the schedule 'frontier' cannot be '0'"),
        ({"finetune_learning_rate": -1.0}, "cannot be -1"),
        ({"environment": "adition"}, "did you mean 'addition'"),
        ({"environment": "reasoning-gym:countdown"}, "does not offer"),
        ({"model": "a/b"}, "Use letters"),
        ({"settings": '{"model": 7}'}, "cannot be 7: Input should be a valid string, in quotes."),
        ({"origin": "champion"}, "There is no registry to continue from 'champion': set MLFLOW_TRACKING_URI."),
        ({"origin": "run:1f2e"}, "There is no registry in which run 1f2e left its loop: set MLFLOW_TRACKING_URI."),
    ],
)
def test_what_no_run_can_have_is_one_sentence(
    recipe: Recipe[Any], tmp_path: Path, typed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        _resolved(recipe, tmp_path, {"rounds": 2}, **typed)
    assert sentence in str(refused.value)
    assert not (tmp_path / "resolved" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "settings", "deed"),
    [
        ("expert-iteration", {"environment": "code", "policy": "team/model"}, "run generated code"),
        ("expert-iteration", {"verify": {"verifier": "code"}}, "run generated code"),
        ("agent0", {"generate": {"protocol": "tools,tools=calc+python"}}, "run generated code"),
        ("length-generalization", {"finetune": {"nodes": 2}}, "train across nodes"),
    ],
)
def test_settings_that_pods_were_not_compiled_for_are_refused(
    tmp_path: Path, name: str, settings: dict[str, Any], deed: str
) -> None:
    recipe = find_recipe(name)
    assert _resolved(recipe, tmp_path / "compiled", settings)["settings"] == recipe.resolve(settings).overrides()
    with pytest.raises(UserError, match=f"These settings {deed}, which the pods of this pipeline were not compiled"):
        _resolved(recipe, tmp_path / "typed", {}, settings=json.dumps(settings))


def test_every_task_ends_with_the_sentence_of_a_mistake_alone(
    recipe: Recipe[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task's function, as KFP's executor calls it: of ``resolve``, of a stage in a loop, and of a stage by itself."""
    form = {name: default for name, (_, default, _) in form_of(recipe, recipe.resolve()).items()}
    form |= {"compiled": "{}", "shape": "", "held": 2, "run": "1f2e", "seed": -1}
    write_json(tmp_path, {"recipe": "nowhere:recipe", "settings": {}, "configuration": {}, "environment": {}})
    resolve, place = resolve_stage(recipe), Artifact(uri=str(tmp_path))
    tasks: list[tuple[Any, dict[str, Any]]] = [
        (resolving.component_of(recipe, resolve, "image"), {"resolved": place, **form}),
        (calls.component_of(draw_base, "image", []), {"resolved": place, "call": "1.0"} | dict.fromkeys(MADE, place)),
        (draw_base.component("image"), {"levels": -1} | dict.fromkeys(MADE, place)),
    ]
    for component, given in tasks:
        with pytest.raises(SystemExit) as ended:
            component.python_func(**given)
        said = capsys.readouterr()
        assert (ended.value.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith("selfloop: ")


def test_settings_that_change_which_stages_are_called_are_refused(tmp_path: Path) -> None:
    judged = json.dumps({"verify": {"verifier": "judge"}})
    with pytest.raises(UserError, match="change which stages a round calls"):
        _resolved(find_recipe("expert-iteration"), tmp_path, {}, settings=judged)
    with pytest.raises(UserError, match="change which stages a round calls"):
        _resolved(find_recipe(NAME), tmp_path, {}, schedule="fixed", settings=json.dumps({"draw": {"levels": [6, 7]}}))


def test_a_form_is_fixed_when_a_pipeline_is_compiled(tmp_path: Path) -> None:
    agent0 = find_recipe("agent0")
    assert _resolved(agent0, tmp_path, {"form": "code"})["settings"]["form"] == "code"
    with pytest.raises(UserError, match="The setting 'form' is fixed when a pipeline is compiled, here to ''"):
        _resolved(agent0, tmp_path / "other", {}, settings='{"form": "code"}')


def test_code_that_calls_other_stages_than_the_pipeline_is_refused(recipe: Recipe[Any], tmp_path: Path) -> None:
    _resolved(recipe, tmp_path, {})
    resolved = Artifact(uri=str(tmp_path / "resolved"))
    with pytest.raises(UserError, match="compile the pipeline with the code that the image holds"):
        enter("selfloop.generate.generate:generate_rollouts", {"resolved": resolved, "call": "1.0"})


def test_the_champion_is_the_start_where_there_is_none_yet(
    recipe: Recipe[Any], tmp_path: Path, client: MlflowClient
) -> None:
    told = _resolved(recipe, tmp_path, {}, origin="champion")
    assert (told["settings"]["origin"], told["settings"]["first"]) == ("start", 1)


def test_the_run_in_mlflow_is_opened_once(recipe: Recipe[Any], tmp_path: Path, client: MlflowClient) -> None:
    """Also where the task is tried again; and tells the settings, and which run of KFP it is."""
    first, second = (_resolved(recipe, tmp_path / name, {})["environment"]["MLFLOW_RUN_ID"] for name in "ab")
    assert first == second
    found = client.get_run(first).data
    assert found.params["rounds"] == "40"
    assert found.tags["selfloop.kfp.run_id"] == "1f2e-3d4c"


def test_a_run_continues_from_what_it_began_with_also_where_its_first_task_is_run_again(
    recipe: Recipe[Any], tmp_path: Path, client: MlflowClient
) -> None:
    first = _resolved(recipe, tmp_path / "first", {}, origin="champion")["settings"]
    registry = Registry(LOOP)
    registry.move(registry.register("a", "/policies/a", "", {}, "").number, "start", "its first round", None)
    assert _resolved(recipe, tmp_path / "again", {}, origin="champion")["settings"] == first


def test_an_alias_is_pinned_and_the_rounds_count_on(
    recipe: Recipe[Any], tmp_path: Path, client: MlflowClient, small: dict[str, Any]
) -> None:
    run(recipe, recipe.resolve(small, {"gate": {"require": "nothing", "guards": []}}), tmp_path / "run")
    told = _resolved(recipe, tmp_path, {}, origin=f"{LOOP}@champion")["settings"]
    assert (told["origin"], told["first"]) == (f"{LOOP}/3", 3)
    told = _resolved(recipe, tmp_path / "2", {}, origin=f"{LOOP}/2", run="another")["settings"]
    assert (told["origin"], told["first"]) == (f"{LOOP}/2", 2)


@pytest.mark.usefixtures("tasks_forked")
def test_runs_of_a_schedule_continue_from_each_other(
    recipe: Recipe[Any], tmp_path: Path, client: MlflowClient, small: dict[str, Any]
) -> None:
    """One compiled pipeline, run twice: the first begins, the second continues with the champion and its state."""
    settings = recipe.resolve(small, {"rounds": 1, "gate": {"require": "nothing", "guards": []}})
    for number in (1, 2):
        run_locally(recipe, settings, tmp_path / f"kfp-{number}", fused=True, form={"origin": "champion"})
    versions = Registry(LOOP).versions()
    assert [(each.tag("round"), each.tag("parent")) for each in versions.values()] == [
        ("0", ""),
        ("1", "1"),
        ("2", "2"),
    ]
    assert Registry(LOOP).settle().version == 3  # type: ignore[union-attr]
    runs = client.search_runs([client.get_experiment_by_name("selfloop").experiment_id], "tags.`selfloop.run` != ''")
    assert len({each.data.tags["selfloop.kfp.run_id"] for each in runs}) == 2


def test_a_call_of_a_loop_is_configured_as_the_task_that_resolved_it(
    recipe: Recipe[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own pod names neither the config map nor the caches, and of MLflow only what KFP's plugin injects."""
    uri = f"sqlite:///{tmp_path}/own.db"
    own = {"SELFLOOP_TRACKING_URI": uri, "SELFLOOP_STORE": str(tmp_path / "store"), "HF_HOME": "/caches/hub"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    told = _resolved(recipe, tmp_path, {"rounds": 1})
    assert told["configuration"].items() >= own.items()
    for name in own:
        monkeypatch.setenv(name, "of the image")
    monkeypatch.delenv("SELFLOOP_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://of.the.plugin")
    monkeypatch.setenv("MLFLOW_RUN_ID", "of the plugin")
    with pytest.raises(UserError, match="compile the pipeline with the code that the image holds"):
        enter(
            "selfloop.generate.generate:generate_rollouts",
            {"resolved": Artifact(uri=str(tmp_path / "resolved")), "call": "1.0"},
        )
    assert {name: os.environ[name] for name in own} == own
    assert os.environ["MLFLOW_TRACKING_URI"] == uri
    assert os.environ["MLFLOW_RUN_ID"] == told["environment"]["MLFLOW_RUN_ID"]


def test_an_address_with_credentials_is_kept_nowhere(
    recipe: Recipe[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFLOOP_KFP_ENDPOINT", "https://me:a-secret@kfp.example.com")
    with pytest.raises(UserError, match=r"https://\.\.\.@kfp\.example\.com holds credentials.*Secret") as refused:
        _resolved(recipe, tmp_path, {})
    assert "a-secret" not in str(refused.value)
    assert not list(tmp_path.rglob("resolved/*"))
