"""The stages as KFP component files: current, loadable, described."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kfp import compiler, dsl
from kfp.components import load_component_from_file
from selfloop.errors import UserError
from selfloop.modes.exporting import export_components
from selfloop.stages import Stage, as_plain, stages

EACH = pytest.mark.parametrize("stage", stages().values(), ids=lambda stage: stage.name)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_components(folder)
    return folder


@EACH
def test_kfp_loads_it_with_all_that_it_takes_and_gives(stage: Stage, exported: Path) -> None:
    loaded = load_component_from_file(str(exported / f"{stage.name}.yaml"))
    assert loaded.description.startswith(stage.summary)
    assert set(loaded.component_spec.inputs or {}) == {*stage.flat.inputs.values(), *stage.params.model_fields}
    outputs = {*stage.flat.outputs.values(), *(["Output"] if stage.returns else [])}
    assert set(loaded.component_spec.outputs) == outputs


@EACH
def test_every_parameter_is_described_and_has_the_default_of_the_stage(stage: Stage, exported: Path) -> None:
    spec = yaml.load((exported / f"{stage.name}.yaml").read_text(), Loader=yaml.CSafeLoader)
    shown = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    assert set(shown) == set(stage.params.model_fields)
    for name, info in stage.params.model_fields.items():
        assert shown[name]["description"] == " ".join((info.description or "").split())
        if info.is_required():
            assert "defaultValue" not in shown[name]
        else:
            assert shown[name]["isOptional"]
            assert shown[name]["defaultValue"] == as_plain(
                info.get_default(call_default_factory=True), info.annotation
            ), name


def test_a_pipeline_can_be_put_together_from_the_files(tmp_path: Path, exported: Path) -> None:
    draw, pretrain = (
        load_component_from_file(str(exported / f"{name}.yaml")) for name in ("draw_base", "pretrain_policy")
    )

    @dsl.pipeline(name="by-hand")  # type: ignore[untyped-decorator]
    def by_hand(seed: int = 0) -> None:
        base = draw(seed=seed).set_caching_options(False)
        pretrain(seed=seed, examples=base.outputs["examples"], held_out=base.outputs["held_out"])

    compiler.Compiler().compile(by_hand, str(tmp_path / "by_hand.yaml"))
    assert load_component_from_file(str(tmp_path / "by_hand.yaml"))


def test_another_prefix_names_other_images_and_old_files_go(tmp_path: Path) -> None:
    export_components(tmp_path)
    (tmp_path / "draw_base.yaml").rename(tmp_path / "drew_base.yaml")
    written = export_components(tmp_path, "ghcr.io/team")
    assert sorted(tmp_path.iterdir()) == sorted(written)
    spec = yaml.safe_load((tmp_path / "draw_base.yaml").read_text())
    assert spec["deploymentSpec"]["executors"]["exec-draw-base"]["container"]["image"].startswith("ghcr.io/team/base:")


@pytest.mark.parametrize("name", ["notes.txt", "pipeline.yaml"])
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds {name}, which is no exported stage: choose another --output"):
        export_components(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_the_command_writes_them(selfloop: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = selfloop("compile", "--components", "-o", "mine", "--image-prefix", "ghcr.io/team")
    assert (done.returncode, done.stdout) == (0, f"mine: {len(stages())} components.\n")
    assert {path.stem for path in (tmp_path / "mine").iterdir()} == set(stages())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Say which recipe goes into which file: 'selfloop compile RECIPE -o FILE', or --components."),
        (["length-generalization"], "Say which recipe goes into which file"),
        (["length-generalization", "--components"], "leave out 'length-generalization' or --components"),
    ],
)
def test_the_command_says_what_is_missing(
    selfloop: Callable[..., subprocess.CompletedProcess[str]], words: list[str], said: str
) -> None:
    done = selfloop("compile", *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
