"""The compiled pipeline, read as KFP would read it."""

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given
from hypothesis import strategies as st
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec
from selfloop.errors import UserError
from selfloop.modes import compact, compiling
from selfloop.modes.compiling import compile_pipeline, compiled, cost_of, rounds_that_fit
from selfloop.modes.describing import values_of
from selfloop.modes.fused import fused_stage
from selfloop.modes.mlflow_plugin import INJECTED
from selfloop.modes.noting import calls_of
from selfloop.modes.own_images import dockerfile
from selfloop.modes.resolving import form_of
from selfloop.modes.tracing import OnCluster, stages_of
from selfloop.profiles import find_profile, profiles
from selfloop.propose.curricula import Curriculum, LevelCurriculum
from selfloop.recipe import Recipe, find_recipe, recipes

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe() -> Recipe[Any]:
    return find_recipe("length-generalization")


def _compiled(
    recipe: Recipe[Any], place: Path, rounds: int, fused: bool = False, profile: str = "cpu", **settings: Any
) -> list[dict[str, Any]]:
    chosen = recipe.resolve({"rounds": rounds} | settings)
    with ThreadPoolExecutor(1) as thread:  # whose stack is short: KFP looks through all of it at each setting of a task
        thread.submit(compile_pipeline, recipe, chosen, place / "p.yaml", fused, find_profile(profile)).result()
    return list(yaml.load_all((place / "p.yaml").read_text(), Loader=yaml.CSafeLoader))


def _tasks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    dags = [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]
    return [task for dag in dags for task in dag["tasks"].values()]


NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?0[xob][0-9a-fA-F_]+")
"""What YAML 1.2 and Kubernetes' reader take for a number."""


@given(st.one_of(st.from_regex(NUMBER, fullmatch=True), st.text("0123456789eE+-._xob"), st.text()))
def test_no_text_is_written_as_a_number(text: str) -> None:
    written = yaml.dump(text, Dumper=compiling.Dumper)
    assert yaml.load(written, Loader=yaml.CSafeLoader) == text
    (token,) = (each for each in yaml.scan(written) if isinstance(each, yaml.ScalarToken))
    assert not (token.plain and NUMBER.fullmatch(token.value))


def test_settings_that_are_more_than_a_pod_can_be_told_are_refused(recipe: Recipe[Any], tmp_path: Path) -> None:
    """What is in the form, too, is told twice: as the form has it, and as the pipeline was compiled."""
    for chosen, said in (
        ({"model": "m" * 70_000}, r"come to 1\d\d kB as KFP writes them, 'model' alone to 70 kB"),
        ({"fetch": {"system": "s" * 130_000}}, "'fetch.system' alone to 130 kB"),
    ):
        with pytest.raises(UserError, match=rf"{said}, and a task of KFP is told 120 kB at most: put what is long"):
            compile_pipeline(recipe, recipe.resolve(chosen), tmp_path / "p.yaml", fused=True)
    compile_pipeline(recipe, recipe.resolve({"model": "m" * 40_000}), tmp_path / "p.yaml", fused=True)


@pytest.mark.parametrize("name", ["my_loop", "My_Loop-2", "a"])
def test_whatever_a_recipe_may_be_called_is_compiled(
    recipe: Recipe[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    called = replace(recipe, name=name)
    monkeypatch.setattr(sys.modules[called.module], "called", called, raising=False)
    spec, _ = _compiled(called, tmp_path, 2, fused=True)
    assert re.fullmatch("[a-z0-9][a-z0-9-]*", spec["pipelineInfo"]["name"])


@pytest.mark.parametrize("name", recipes())
@pytest.mark.parametrize("fused", [False, True])
def test_kfp_reads_what_is_compiled(name: str, fused: bool, tmp_path: Path) -> None:
    """KFP's own schemas refuse what they do not know, and every reference must lead somewhere."""
    spec, platform = _compiled(find_recipe(name), tmp_path, 3, fused)
    ParseDict(spec, PipelineSpec())
    ParseDict(platform, PlatformSpec())
    executors = spec["deploymentSpec"]["executors"].keys()
    assert {each["executorLabel"] for each in spec["components"].values() if "executorLabel" in each} == executors
    assert platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].keys() == executors
    assert {task["componentRef"]["name"] for task in _tasks(spec)} == spec["components"].keys()
    for graph in (spec["root"], *(each for each in spec["components"].values() if "dag" in each)):
        _is_whole(graph, spec["components"])


def _is_whole(graph: dict[str, Any], components: dict[str, Any]) -> None:
    defined = graph.get("inputDefinitions", {})
    for task in graph["dag"]["tasks"].values():
        wanted = components[task["componentRef"]["name"]].get("inputDefinitions", {})
        for side, passed, made in (
            ("artifacts", "componentInputArtifact", "taskOutputArtifact"),
            ("parameters", "componentInputParameter", "taskOutputParameter"),
        ):
            given = task.get("inputs", {}).get(side, {})
            assert given.keys() == wanted.get(side, {}).keys()
            for source in given.values():
                if passed in source:
                    assert source[passed] in defined[side]
                elif made in source:
                    producer = graph["dag"]["tasks"][source[made]["producerTask"]]
                    key = source[made]["outputArtifactKey" if side == "artifacts" else "outputParameterKey"]
                    assert key in components[producer["componentRef"]["name"]]["outputDefinitions"][side]
        for name in re.findall(r"parameter_values\['([^']+)'\]", str(task.get("triggerPolicy", ""))):
            assert name in task["inputs"]["parameters"]


def test_the_form_is_flat_typed_described_and_grouped_by_stage(recipe: Recipe[Any], tmp_path: Path) -> None:
    form = _compiled(recipe, tmp_path, 2)[0]["root"]["inputDefinitions"]["parameters"]
    assert 12 <= len(form) <= 20
    assert all(each["description"] and "defaultValue" in each for each in form.values())
    lr = recipe.settings.stages()["finetune"].model_fields["lr"]
    assert form["finetune_learning_rate"] == {
        "defaultValue": lr.default,
        "description": f"finetune: {lr.description} (> 0)",
        "isOptional": True,
        "parameterType": "NUMBER_DOUBLE",
    }
    assert form["environment"]["description"] == (
        "loop: The taskset with its protocol and verifier. (selfloop list environments)"
    )
    for name, group in {name: each["description"].partition(": ")[0] for name, each in form.items()}.items():
        assert group == ("loop" if name in recipe.settings.model_fields or name == "settings" else name.split("_")[0])
    assert (form["schedule"]["parameterType"], form["schedule"]["defaultValue"]) == ("STRING", "frontier")
    assert "form" not in form, "a form may shape the graph"
    assert form["origin"]["defaultValue"] == "start"
    assert form["settings"]["defaultValue"] == "{}"


def inputs_in(markdown: str) -> dict[str, str]:
    """The inputs that a description lists, each with what it may be."""
    lines = "\n".join(line for line in markdown.splitlines() if line.startswith("- `"))
    return dict(re.findall(r"(?:^- |, )`(\w+)`(?: \((.+?)\)(?=[:,\n]|$))?", lines, re.MULTILINE))


@pytest.mark.parametrize("name", recipes())
def test_the_description_names_every_input_and_says_what_those_of_the_loop_are(name: str, tmp_path: Path) -> None:
    """KFP's UI renders it as Markdown, and shows of the form itself nothing but names and types."""
    recipe = find_recipe(name)
    spec = _compiled(recipe, tmp_path, 1)[0]
    form, described = spec["root"]["inputDefinitions"]["parameters"], spec["pipelineInfo"]["description"]
    listed = inputs_in(described)
    assert listed.keys() == form.keys()
    for name, (_, _, text) in form_of(recipe, recipe.resolve()).items():
        group = form[name]["description"].partition(f": {text}")[0]
        said = text in described.replace("\\", "")
        assert said == (group == "loop"), "the name of any other says what it is"
    assert not re.search(r"(?<![\\`\w])_|(?<!\\)\*", re.sub(r"`\w+`", "", described))


def test_the_description_tells_ranges_and_choices_and_fits_into_the_card_of_the_ui(
    recipe: Recipe[Any], tmp_path: Path
) -> None:
    described = _compiled(recipe, tmp_path, 1)[0]["pipelineInfo"]["description"]
    listed = inputs_in(described)
    assert described.startswith(f"{recipe.summary}\n\nInputs of a run")
    assert listed["finetune_learning_rate"] == "> 0"
    assert listed["seed"] == "≥ 0"
    assert listed["environment"] == "selfloop list environments"
    assert {"sft", "dpo"} <= set(listed["finetune_method"].split(", "))
    assert sum(1 + len(line) // 58 for line in described.splitlines() if line) <= 34


def test_the_page_about_the_ui_says_of_every_input_what_it_is_and_may_be() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "kubeflow-ui.md").read_text(encoding="utf-8")
    rows = {
        name: (text, values) for name, text, values in re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) ?\|$", page, re.M)
    }
    told: dict[str, tuple[str, str]] = {}
    for recipe in recipes().values():
        infos = {recipe.settings.in_form(name): (name, info) for name, info in recipe.settings.inputs().items()}
        for name, (_, _, text) in form_of(recipe, recipe.resolve()).items():
            told[name] = (text, values_of(*infos[name]) if name in infos else "")
    told["environment"] = (told["environment"][0], "`selfloop list environments`")
    assert rows == told


def test_the_form_has_the_values_that_it_was_compiled_with(recipe: Recipe[Any], tmp_path: Path) -> None:
    spec = _compiled(recipe, tmp_path, 1, finetune={"lr": 0.25}, environment="reverse", schedule={"target": 12})[0]
    form = spec["root"]["inputDefinitions"]["parameters"]
    assert form["finetune_learning_rate"]["defaultValue"] == 0.25
    assert form["environment"]["defaultValue"] == "reverse"
    assert form["schedule"]["defaultValue"] == "frontier,target=12"


@pytest.mark.parametrize("fused", [False, True])
def test_every_task_has_a_readable_name_and_is_not_cached(recipe: Recipe[Any], tmp_path: Path, fused: bool) -> None:
    tasks = _tasks(_compiled(recipe, tmp_path, 2, fused)[0])
    names = {task["taskInfo"]["name"] for task in tasks}
    of_round = {"round 2 · round"} if fused else {"round 1 · generate", "round 2 · close"}
    assert {"resolve", "round 0 · start", *of_round} <= names
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks)


@pytest.mark.parametrize("name", recipes())
def test_every_call_of_a_round_is_a_task(name: str, tmp_path: Path) -> None:
    """Also where a round calls a stage twice."""
    recipe = find_recipe(name)
    spec = _compiled(recipe, tmp_path, 3)[0]
    calls = len(calls_of(recipe, recipe.resolve(), "round"))
    tasks = [task["taskInfo"]["name"] for task in _tasks(spec)]
    for number in (1, 2, 3):
        assert len([task for task in tasks if task.startswith(f"round {number} · ")]) == calls


OVER_LEVELS = [name for name, kind in Curriculum.members().items() if issubclass(kind, LevelCurriculum)]
FORMS = [(recipe.name, {"form": form}) for recipe in recipes().values() for form in recipe.forms]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("sec", {"reinforce": {"curriculum": name}}) for name in OVER_LEVELS),
        *FORMS,
        ("agent0", {"proposer": "frozen"}),
    ],
)
@pytest.mark.parametrize("profile", ["cpu", "one-gpu"])
def test_every_strategy_and_form_compiles(name: str, settings: dict[str, Any], profile: str, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    spec = _compiled(recipe, tmp_path, 2, profile=profile, **settings)[0]
    form = spec["root"]["inputDefinitions"]["parameters"]
    expected = recipe.resolve({"rounds": 2}, settings)
    assert json.loads(_compiled_with(spec)) == expected.overrides()
    assert form["environment"]["defaultValue"] == expected.environment
    assert form["schedule"]["defaultValue"] == str(expected.schedule)
    calls = [call.stage.verb for call in calls_of(recipe, expected, "round")]
    tasks = [task["taskInfo"]["name"] for task in _tasks(spec)]
    assert sorted(calls) == sorted(name.removeprefix("round 1 · ") for name in tasks if name.startswith("round 1 · "))
    if name in ("sec", "agent0"):
        assert "reinforce_steps" in form
        assert calls.count("reinforce") == 1 + (name == "agent0" and settings.get("proposer") != "frozen")


def _compiled_with(spec: dict[str, Any]) -> str:
    """The settings that the first task of a pipeline is given."""
    (resolve,) = [task for task in _tasks(spec) if task["taskInfo"]["name"] == "resolve"]
    return str(resolve["inputs"]["parameters"]["compiled"]["runtimeValue"]["constant"])


@pytest.mark.parametrize(("name", "most"), [("length-generalization", 7), ("agent0", 10)])
def test_a_round_is_few_tasks(name: str, most: int) -> None:
    """Each is a pod that starts, and a node in the status of the workflow."""
    recipe = find_recipe(name)
    for settings in ({}, *({"form": form} for form in recipe.forms)):
        assert len(calls_of(recipe, recipe.resolve(settings), "round")) <= most


def test_equal_executors_and_components_stand_once(recipe: Recipe[Any], tmp_path: Path) -> None:
    two, nine = (_compiled(recipe, tmp_path, rounds)[0] for rounds in (2, 9))
    assert two["deploymentSpec"] == nine["deploymentSpec"]
    graphs = [name for name, each in nine["components"].items() if "dag" in each]
    assert len(graphs) == 8, "one for each round but the first, which needs none"


@pytest.mark.parametrize("fused", [False, True])
def test_no_two_tasks_have_one_name_and_a_round_has_that_which_is_shown(
    recipe: Recipe[Any], tmp_path: Path, fused: bool
) -> None:
    """KFP's UI finds what a task made by the task's name alone: of two of a name it showed what the last made."""
    spec = _compiled(recipe, tmp_path, 4, fused, generate={"shards": 2})[0]
    graphs = {name for name, each in spec["components"].items() if "dag" in each}
    dags = [spec["root"]["dag"], *(spec["components"][name]["dag"] for name in graphs)]
    tasks = [(name, task["componentRef"]["name"] in graphs) for dag in dags for name, task in dag["tasks"].items()]
    assert len(set(tasks)) == len(tasks)
    assert {("round-2", True), ("round-3", True), ("round-4", True)} <= set(tasks)


def test_what_executors_say_for_an_older_kfp_is_left_out(recipe: Recipe[Any], tmp_path: Path) -> None:
    whole = json.dumps(_compiled(recipe, tmp_path, 2, profile="one-gpu"))
    for now, before in compact.OLD.items():
        assert f'"{now}"' in whole or now == "configMapNameParameter"
        assert not re.search(rf'"{before}": "', whole.replace('"runtimeValue": {"constant": "', ""))


def test_the_first_round_is_in_no_sub_graph(recipe: Recipe[Any], tmp_path: Path) -> None:
    tasks = _compiled(recipe, tmp_path, 1)[0]["root"]["dag"]["tasks"]
    assert {"resolve", "start", "generate"} <= tasks.keys()


@pytest.mark.parametrize("name", recipes())
@pytest.mark.parametrize("fused", [False, True])
def test_a_round_costs_a_cluster_little(name: str, fused: bool) -> None:
    """In bytes of what it keeps of a run, planned and run, by the stages of a round: see ``modes/argo.py``."""
    recipe, profile = find_recipe(name), find_profile("cpu")
    settings = recipe.resolve()
    stages = len(calls_of(recipe, settings, "round"))
    pods = OnCluster(profile, stages_of(recipe, settings, fused))
    few, more = (cost_of(compiled(recipe, recipe.resolve({"rounds": n}), fused, pods)).stored for n in (2, 6))
    assert (more - few) / 4 <= (14_500 if fused else 8_500 * stages)


@pytest.mark.parametrize(("name", "least"), [("cpu", 16), ("one-gpu", 15)])
def test_a_run_holds_many_rounds(recipe: Recipe[Any], name: str, least: int) -> None:
    profile = find_profile(name)
    settings = recipe.resolve(profile.settings_for(recipe))
    fit = [rounds_that_fit(recipe, settings, fused, profile) for fused in (False, True)]
    assert fit[0] >= least
    assert fit[1] >= 60


@pytest.mark.parametrize("rounds", [12, 1000])
def test_a_run_holds_the_rounds_that_a_cluster_keeps_and_begins_the_next(
    recipe: Recipe[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(compiling, "ROOM", 400_000)
    fits = compiling.rounds_that_fit(recipe, recipe.resolve(), profile=find_profile("cpu"))
    names = {task["taskInfo"]["name"] for task in _tasks(_compiled(recipe, tmp_path, rounds)[0])}
    assert {f"round {fits} · generate", "relay"} <= names
    assert f"round {fits + 1} · generate" not in names


def test_a_run_that_is_to_hold_more_than_a_cluster_keeps_is_refused_with_the_number_that_fits(
    recipe: Recipe[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "ROOM", 400_000)
    profile, settings = find_profile("cpu"), recipe.resolve({"rounds": 20})
    fits = compiling.rounds_that_fit(recipe, settings, profile=profile)
    compile_pipeline(recipe, settings, tmp_path / "p.yaml", profile=profile, held=fits)
    with pytest.raises(UserError, match=f"A run of {fits + 1} rounds of length-generalization would out") as refused:
        compile_pipeline(recipe, settings, tmp_path / "q.yaml", profile=profile, held=fits + 1)
    assert f", {fits} fit: give --fused" in str(refused.value)
    assert not (tmp_path / "q.yaml").exists()


def test_a_loop_of_which_no_round_fits_is_refused(recipe: Recipe[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "ROOM", 50_000)
    with pytest.raises(UserError, match="One round of length-generalization is more than a cluster keeps"):
        compiling.rounds_that_fit(recipe, recipe.resolve(), profile=find_profile("cpu"))


def test_a_pipeline_for_this_machine_is_held_to_no_limit_of_a_cluster(recipe: Recipe[Any], tmp_path: Path) -> None:
    compile_pipeline(recipe, recipe.resolve({"rounds": 40}), tmp_path / "p.yaml")


def test_shards_are_tasks_side_by_side_that_are_joined_once(recipe: Recipe[Any], tmp_path: Path) -> None:
    spec = _compiled(recipe, tmp_path, 1, generate={"shards": 3})[0]
    (loop,) = [task for task in _tasks(spec) if "parameterIterator" in task]
    assert loop["parameterIterator"]["items"]["raw"] == "[0, 1, 2]"
    body = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    assert [task["taskInfo"]["name"] for task in body.values()] == ["round 1 · generate"]
    assert [task["taskInfo"]["name"] for task in _tasks(spec) if "join" in task["taskInfo"]["name"]] == [
        "round 1 · join"
    ]


@pytest.mark.parametrize("fused", [False, True])
def test_the_first_task_and_the_last_take_the_config_map(recipe: Recipe[Any], fused: bool) -> None:
    """What stands there all others are told by the first."""
    pods = OnCluster(find_profile("cpu"), stages_of(recipe, recipe.resolve(), fused))
    platform = MessageToDict(compiled(recipe, recipe.resolve({"rounds": 3}), fused, pods, held=2).platform_spec)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    takers = {name for name, config in executors.items() if "configMapAsEnv" in config}
    assert takers == {"exec-resolve", "exec-relay"}


@pytest.mark.parametrize("name", profiles())
@pytest.mark.parametrize("fused", [False, True])
def test_no_variable_of_a_pod_is_one_that_kfp_s_mlflow_plugin_injects(
    recipe: Recipe[Any], tmp_path: Path, fused: bool, name: str
) -> None:
    """A variable that has a value and a reference makes the pod invalid: no container of it is ever started."""
    spec, platform = _compiled(recipe, tmp_path, 1, fused, name)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    kinds = ("configMapAsEnv", "secretAsEnv")
    references = [each for config in executors.values() for kind in kinds for each in config.get(kind, ())]
    named = {pair["envVar"] for each in references for pair in each["keyToEnv"]}
    for executor in spec["deploymentSpec"]["executors"].values():
        named |= {each["name"] for each in executor["container"].get("env", [])}
    assert {"SELFLOOP_TRACKING_URI", "SELFLOOP_TRACKING_PASSWORD", "SELFLOOP_STORE"} <= named
    assert not {each for each in named if each.startswith(("MLFLOW_RUN", "MLFLOW_EXP", "MLFLOW_TRACK", "MLFLOW_WORK"))}
    assert not named & {*INJECTED}


CODE = {"verify": {"verifier": "code"}}


@pytest.mark.parametrize(
    ("settings", "fused", "labelled"),
    [
        ({}, False, {}),
        ({}, True, {}),
        (CODE, False, {"selfloop/generated-code": {"start", "generate", "verify", "finetune", "evaluate"}}),
        (CODE, True, {"selfloop/generated-code": {"start", "round"}}),
        ({"finetune": {"nodes": 2}}, False, {"selfloop/nodes": {"finetune"}}),
    ],
)
def test_only_pods_that_need_a_privilege_ask_for_it(
    recipe: Recipe[Any], tmp_path: Path, settings: dict[str, Any], fused: bool, labelled: dict[str, set[str]]
) -> None:
    spec, platform = _compiled(recipe, tmp_path, 1, fused, **settings)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found: dict[str, set[str]] = {}
    for task in _tasks(spec):
        component = spec["components"][task["componentRef"]["name"]]
        for label in executors.get(component.get("executorLabel"), {}).get("podMetadata", {}).get("labels", {}):
            found.setdefault(label, set()).add(task["taskInfo"]["name"].rpartition(" ")[2])
    assert found == labelled


@pytest.mark.parametrize("name", profiles())
@pytest.mark.parametrize("fused", [False, True])
def test_no_value_of_a_secret_is_in_a_compiled_pipeline(
    recipe: Recipe[Any], tmp_path: Path, fused: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {key: f"value-of-{key.lower()}" for each in find_profile(name).cluster.secrets for key in each.keys}
    for key, value in secrets.items():
        monkeypatch.setenv(key, value)
    _compiled(recipe, tmp_path, 1, fused, name)
    text = (tmp_path / "p.yaml").read_text()
    assert "value-of-" not in text
    assert not re.search(r"(?i)(password|secret_access_key|token)['\"]?: *['\"]?(?!\w+_)[\w+/]{8,}", text)
    assert not re.search(r"\w+://[^/\s:]+:[^/\s@]+@", text), "an address with a password"


def test_resources_are_requested(recipe: Recipe[Any], tmp_path: Path) -> None:
    executors = _compiled(recipe, tmp_path, 1)[0]["deploymentSpec"]["executors"]
    cpu = find_profile("cpu").resources(fused_stage(recipe, "start"))
    assert executors["exec-start"]["container"]["resources"]["resourceMemoryLimit"] == cpu.memory


def test_a_file_that_kfp_cannot_read_is_refused(recipe: Recipe[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"KFP reads .yaml"):
        compile_pipeline(recipe, recipe.resolve(), tmp_path / "p.txt")


def test_a_pod_is_given_the_secrets_that_its_stage_needs(recipe: Recipe[Any], tmp_path: Path) -> None:
    platform = _compiled(recipe, tmp_path, 1)[1]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    held = {
        name: {each["secretNameParameter"]["runtimeValue"]["constant"] for each in config["secretAsEnv"]}
        for name, config in executors.items()
    }
    assert held["exec-verify"] == {"selfloop-s3"}
    assert held["exec-close"] == {"selfloop-s3", "selfloop-mlflow", "selfloop-webhook"}
    assert held["exec-start"] == {"selfloop-s3", "selfloop-mlflow", "selfloop-hub"}


def test_a_pipeline_of_one_s_own_recipe_comes_with_the_lines_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).with_name("dice.py"), tmp_path / "rolling.py")
    recipe, profile = find_recipe("rolling.py"), find_profile("cpu")
    lines = dockerfile(recipe, recipe.resolve(), profile, fused=False).splitlines()
    assert "    COPY rolling.py /opt/recipes/rolling.py" in lines
    assert f"    FROM selfloop/IMAGE:{profile.registry.tag}" in lines
    assert "IMAGE in base" in lines[0]
    ours = find_recipe("length-generalization")
    assert dockerfile(ours, ours.resolve(), profile, fused=True) == ""
