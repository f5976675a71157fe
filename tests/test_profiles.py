"""Profiles: how they are found, joined and refused, and what they give each stage."""

import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from decimal import DefaultContext, localcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop import machine
from selfloop.errors import UserError
from selfloop.generate import generate_rollouts
from selfloop.loop import state_of
from selfloop.modes.fused import fused_stage
from selfloop.modes.resolving import resolve_stage
from selfloop.profiles import PROVIDED, Profile, find_profile, profiles
from selfloop.profiles.fitting import check
from selfloop.promote import close_stage, restore_stage
from selfloop.propose import draw_base
from selfloop.recipe import Recipe, find_recipe, recipes
from selfloop.resources import Request, Resources, Toleration, in_bytes, in_cores
from selfloop.runs import plan
from selfloop.settings import overlaid
from selfloop.stages import stages

ROOT = Path(__file__).parents[1]
UNITS = ("", "Mi", "Gi", "Ti", "M", "G", "T")
LEAVES = st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
TABLES = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), LEAVES, max_size=4),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner | LEAVES, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def recipe() -> Recipe[Any]:
    return find_recipe("length-generalization")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    """A profile of one's own, by the path of its file."""

    def write(text: str, name: str = "mine.toml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@given(st.integers(1, 10**6), st.sampled_from(UNITS))
def test_a_quantity_is_taken_as_kubernetes_takes_it(number: int, unit: str) -> None:
    from kubernetes.utils.quantity import parse_quantity

    with localcontext(DefaultContext):  # a library of another test may have made this process's less precise
        assert in_bytes(f"{number}{unit}") == parse_quantity(f"{number}{unit}")
    assert Resources(memory=f"{number}{unit}").memory == f"{number}{unit}"


@given(st.integers(1, 10**5))
def test_cores_may_be_counted_in_thousandths(thousandths: int) -> None:
    assert in_cores(f"{thousandths}m") == pytest.approx(in_cores(f"{thousandths / 1000:.3f}"))
    assert Resources(cpu=f"{thousandths}m")


@given(st.text(max_size=6))
def test_a_quantity_that_kfp_or_kubernetes_does_not_read_is_refused(text: str) -> None:
    from kfp.dsl.pipeline_task import PipelineTask
    from kubernetes.utils.quantity import parse_quantity

    try:
        Resources(memory=text)
    except ValueError:
        return
    assert parse_quantity(text) > 0
    assert PipelineTask._validate_memory_request_limit(None, text) == text


@pytest.mark.parametrize("memory", ["64GB", "1.5Gi", "0", "2K", "2k", "-1Gi", "", "2 Gi"])
def test_memory_in_no_notation_is_refused_with_the_notation(written: Callable[[str], str], memory: str) -> None:
    with pytest.raises(UserError, match=r"'images.generate.memory' of profile .*: Give bytes, or a whole number with"):
        find_profile(written(f'[images.generate]\nmemory = "{memory}"'))


@given(TABLES, TABLES, TABLES)
def test_laying_tables_over_each_other_is_associative_and_the_upper_one_wins(
    low: dict[str, Any], middle: dict[str, Any], high: dict[str, Any]
) -> None:
    assert overlaid(overlaid(low, middle), high) == overlaid(low, overlaid(middle, high)) or _mixed(low, middle, high)
    both = overlaid(low, high)
    assert both.keys() == low.keys() | high.keys()
    assert all(both[key] == value for key, value in high.items() if not isinstance(value, dict))
    assert overlaid(low, {}) == low
    assert overlaid(high, high) == high


def _mixed(*tables: dict[str, Any]) -> bool:
    """Whether a name stands for a table in one and for something else in another."""
    pairs = [(one[key], two[key]) for one in tables for two in tables for key in one.keys() & two.keys()]
    both = [pair for pair in pairs if all(isinstance(value, dict) for value in pair)]
    return any(isinstance(one, dict) != isinstance(two, dict) for one, two in pairs) or any(_mixed(*p) for p in both)


def test_every_profile_that_is_provided_has_a_file_and_says_what_it_is_for() -> None:
    there = {file.name for file in files("selfloop.profiles").iterdir() if file.name.endswith(".toml")}
    assert there == {f"{name}.toml" for name in PROVIDED}
    assert [(p.name, bool(p.description)) for p in profiles().values()] == [(name, True) for name in PROVIDED]


def test_what_the_files_say_is_what_the_profiles_hold() -> None:
    for name, profile in profiles().items():
        values = tomllib.loads((files("selfloop.profiles") / f"{name}.toml").read_text())
        parent = values.pop("extends", None)
        below = find_profile(parent).model_dump(exclude_unset=True) if parent else {}
        expected = Profile.model_validate({**overlaid(below, values), "name": name})
        assert profile == expected
        for field in Profile.model_fields:
            assert getattr(profile, field) == getattr(expected, field), field


@pytest.mark.parametrize("model", [Request, Resources, Toleration, Profile])
def test_every_field_is_described(model: type[Any]) -> None:
    assert [name for name, info in model.model_fields.items() if not info.description] == []


def test_the_profiles_are_in_the_wheel(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"selfloop/profiles/{name}.toml" for name in PROVIDED} <= set(names)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("profile", PROVIDED)
def test_every_recipe_fits_every_profile_that_is_provided(profile: str, fused: bool) -> None:
    found = find_profile(profile)
    for recipe in recipes().values():
        check(found, recipe, recipe.resolve(found.settings_for(recipe)), fused)


def test_the_stage_says_more_than_its_image_and_both_more_than_the_default(written: Callable[[str], str]) -> None:
    profile = find_profile(
        written(
            """
            default = { cpu = 3, memory = "3Gi", queue = "q", node_selector = { zone = "a" } }
            images.generate = { memory = "9Gi", gpu = 1, node_selector = { gpu = "h100" } }
            stages.generate = { gpu = 2, retries = 5 }
            """
        )
    )
    generate = profile.resources(generate_rollouts)
    assert (generate.gpu, generate.retries, generate.memory) == (2, 5, "9Gi")
    assert generate.cpu == "2"  # the stage's own
    assert (generate.queue, generate.node_selector) == ("q", {"zone": "a", "gpu": "h100"})
    assert profile.resources(draw_base).cpu == "3"
    assert profile.resources(stages()["evaluate_policies"]).gpu == 1


@pytest.mark.parametrize("table", ["default = { retries = 4 }", "images.base = { retries = 4 }"])
def test_what_a_guard_halted_is_not_tried_again(written: Callable[[str], str], recipe: Recipe[Any], table: str) -> None:
    profile = find_profile(written(table))
    assert profile.resources(draw_base).retries == 4
    assert profile.resources(close_stage(recipe, state_of(recipe))).retries == 0
    assert profile.resources(fused_stage(recipe, "round")).retries == 0


def test_a_stage_that_names_it_is_retried(written: Callable[[str], str], recipe: Recipe[Any]) -> None:
    close = close_stage(recipe, state_of(recipe))
    assert find_profile(written("stages.close = { retries = 1 }")).resources(close).retries == 1


def test_each_stage_that_is_read_off_a_recipe_can_be_named_and_none_that_is_gone(
    written: Callable[[str], str], recipe: Recipe[Any]
) -> None:
    made = (
        resolve_stage(recipe),
        close_stage(recipe, state_of(recipe)),
        restore_stage(recipe, state_of(recipe)),
        fused_stage(recipe, "start"),
        fused_stage(recipe, "round"),
    )
    for stage in made:
        profile = find_profile(written(f"stages.{stage.verb} = {{ retries = 7 }}"))
        check(profile, recipe, recipe.resolve())
        assert profile.resources(stage).retries == 7
    for gone in ("promote", "gate", "report"):
        with pytest.raises(UserError, match=f"Profile 'mine': There is no stage '{gone}'"):
            check(find_profile(written(f"stages.{gone} = {{ retries = 7 }}")), recipe, recipe.resolve())


def test_the_pods_that_speak_to_mlflow_and_to_the_webhook_are_given_their_secrets(recipe: Recipe[Any]) -> None:
    secrets = {secret.name: set(secret.stages) for secret in find_profile("cpu").cluster.secrets}
    speak = [resolve_stage(recipe), close_stage(recipe, state_of(recipe))]
    speak += [fused_stage(recipe, "start"), fused_stage(recipe, "round")]
    assert secrets["selfloop-mlflow"] == {stage.verb for stage in speak}
    assert secrets["selfloop-webhook"] == {"close", "round"}


def test_ones_own_extends_a_provided_one_and_another_of_ones_own(written: Callable[..., str]) -> None:
    written('extends = "one-gpu"\nregistry.prefix = "harbor.lan/team"\n[settings.generate]\nwindow = 64', "team.toml")
    profile = find_profile(written('extends = "team.toml"\n[images.generate]\nmemory = "80Gi"', "mine.toml"))
    generate = profile.resources(generate_rollouts)
    assert (profile.name, profile.description, profile.registry.prefix) == ("mine", "", "harbor.lan/team")
    assert (generate.memory, generate.gpu) == ("80Gi", 1)
    assert profile.settings["generate"] == {"engine": "vllm", "window": 64}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "one-gpo"', "There is no profile 'one-gpo': did you mean 'one-gpu'?"),
        ('extends = "mine.toml"', "extends itself"),
        ("extends = 3", "give the name of one profile"),
        ("[images.generate]\ngpus = 1", "'gpus': did you mean 'gpu'?"),
        ("[image]\nprefix = 'x'", "'image': did you mean 'images'?"),
        ("[registry]\ntags = 'x'", "'tags': did you mean 'tag'?"),
        ("[[cluster.secrets]]\nname = 'x'\nkeys = ['K']\noptionl = true", "'optionl': did you mean 'optional'?"),
        ("[[default.tolerations]]\noperator = 'Equal'", "must have the operator 'Exists'"),
        ("[images.generate]\ngpu = -1", "'images.generate.gpu' of profile"),
        ("[images.generate]\ncpu = 'many'", "such as 4, 0.5 or 500m"),
        ("[cluster]\nconfig_map = 'My Map'", "lower-case"),
        ("description = ", "is not TOML"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(written: Callable[[str], str], text: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        find_profile(written(text))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"Cannot read the profile nowhere.toml: No such file"):
        find_profile("nowhere.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages.generate = { shm = '8Gi' }", "ask for more memory or less shm"),
        ("default = { priority_class = 'high' }", "name a queue too"),
        ("stages.genrate = { gpu = 1 }", "did you mean 'generate'?"),
        ("stages.xyz = { gpu = 1 }", "Profile 'mine': There is no stage 'xyz': known are: "),
        ("images.finetun = { gpu = 1 }", "did you mean 'finetune'?"),
        ("settings.genrate = { window = 1 }", "did you mean 'generate'?"),
        ("settings.generate = { tensor_paralel = 2 }", "did you mean 'tensor_parallel'?"),
    ],
)
def test_what_cannot_be_had_together_is_refused(
    written: Callable[[str], str], recipe: Recipe[Any], text: str, said: str
) -> None:
    with pytest.raises(UserError) as refused:
        check(find_profile(written(text)), recipe, recipe.resolve())
    assert said in str(refused.value)


def test_more_gpus_than_the_stage_has_are_refused_with_a_profile_that_has_them(recipe: Recipe[Any]) -> None:
    settings = recipe.resolve({"generate": {"tensor_parallel": 4}})
    with pytest.raises(UserError) as refused:
        check(find_profile("one-gpu"), recipe, settings)
    assert str(refused.value) == (
        "generate.tensor_parallel=4 needs 4 GPUs where profile 'one-gpu' gives stage 'generate' 1: choose --profile "
        "multi-node, or set gpu under [stages.generate] in a profile of your own."
    )
    check(find_profile("multi-node"), recipe, settings)
    with pytest.raises(UserError, match=r"needs 64 GPUs where profile 'multi-node' gives stage 'generate' 8: set gpu"):
        check(find_profile("multi-node"), recipe, recipe.resolve({"generate": {"tensor_parallel": 64}}))
    with pytest.raises(UserError, match=r"gives stage 'round' 1"):
        check(find_profile("one-gpu"), recipe, settings, fused=True)


def test_settings_apply_where_the_recipe_has_them(recipe: Recipe[Any], written: Callable[[str], str]) -> None:
    profile = find_profile(written("[settings]\ngenerate.shards = 4\njudge.window = 1\ndistill.steps = 1"))
    assert profile.settings_for(recipe) == {"generate": {"shards": 4}}
    chosen = recipe.resolve(profile.settings_for(recipe), {"generate": {"shards": 2}})
    assert chosen.generate.shards == 2


def test_what_is_chosen_for_the_loop_is_chosen_for_the_stages_that_a_profile_names(recipe: Recipe[Any]) -> None:
    profile = find_profile("one-gpu")
    assert profile.settings_for(recipe)["evaluate"] == {"engine": "vllm"}
    own = {"engine": "transformers"}
    settings = recipe.resolve(profile.settings_for(recipe, {"rounds": 2}, own), own).for_round(1)
    assert settings.evaluate.engine == settings.generate.engine == "transformers"


def test_in_process_a_profile_s_settings_and_prices_apply_and_nothing_that_pods_share(
    recipe: Recipe[Any], written: Callable[[str], str]
) -> None:
    text = "[price]\ngpu_hour = 2.5\n[settings]\ngenerate = { shards = 4, batch_size = 7 }\nfinetune.nodes = 2"
    planned = plan(recipe, {"generate": {"temperature": 0.5}}, profile=written(text))
    assert (
        planned.settings
        == plan(recipe, {"generate": {"batch_size": 7, "temperature": 0.5}, "price": "gpu_hour=2.5"}).settings
    )
    chosen: Any = plan(recipe, {"generate": {"batch_size": 9}}, profile=written(text)).settings
    assert chosen.generate.batch_size == 9


def test_in_process_a_profile_of_gpus_that_are_not_there_is_refused(
    recipe: Recipe[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    with pytest.raises(UserError) as refused:
        plan(recipe, profile="one-gpu")
    assert str(refused.value) == (
        "Profile 'one-gpu' is for 1 GPU, and this machine has none: choose --profile cpu, or leave it out."
    )
    for number in range(2):
        (tmp_path / f"nvidia{number}").touch()
    settings: Any = plan(recipe, profile="one-gpu").settings
    assert settings.evaluate.engine == "vllm"
    with pytest.raises(UserError, match=r"is for 8 GPUs, and this machine has 2: choose --profile cpu or one-gpu"):
        plan(recipe, profile="eight-gpu")


def test_settings_of_another_recipe_are_no_mistake(recipe: Recipe[Any], written: Callable[[str], str]) -> None:
    profile = find_profile(written("[settings]\nexplore.breadth = 4\ngenerate.breadth = 4"))
    check(profile, recipe, recipe.resolve(profile.settings_for(recipe)))
    assert profile.settings_for(recipe) == {}


def test_a_prefix_on_the_command_line_is_checked_as_the_profiles_is() -> None:
    profile = find_profile("cpu")
    assert profile.with_prefix("ghcr.io/team").registry.prefix == "ghcr.io/team"
    with pytest.raises(UserError, match="--image-prefix"):
        profile.with_prefix("https://ghcr.io/team/")


def test_the_command_shows_what_each_stage_gets(typed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    listed = typed("list", "profiles").stdout
    assert all(name in listed for name in PROVIDED)
    shown = typed("list", "profiles", "eight-gpu").stdout
    rows = {word: line for line in shown.splitlines() for word in line.split()}
    assert "512Gi" in rows["distill,"]
    assert rows["generate,"].split().count("1") == 1
    assert "generate.shards=8" in shown
    refused = typed("list", "profiles", "eigth-gpu")
    assert (refused.returncode, refused.stderr) == (
        1,
        "selfloop: There is no profile 'eigth-gpu': did you mean 'eight-gpu'?\n",
    )
