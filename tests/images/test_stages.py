"""Each stage in its container, as the compiled component's command: no rights, nothing to write to."""

import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pytest
from selfloop import __version__
from selfloop.artifacts import manifest_of
from selfloop.environments import find_environment
from selfloop.lineage import tracked_run
from selfloop.lineage.registry import Registry
from selfloop.modes.compiling import run_locally
from selfloop.modes.fused import fused_stage
from selfloop.recipe import find_recipe
from selfloop.records import Rollout, Task, rows

from .. import s3
from ..conftest import digests, sealed_table
from ..containers import in_container, tasks_in_containers
from ..lineage.test_s3 import team
from .conftest import reference

__all__ = ["team"]

server, owner = s3.server, s3.owner

pytestmark = [pytest.mark.slow, pytest.mark.debian("buildah"), pytest.mark.debian("podman")]
IMAGES = ("base", "generate", "sandbox", "finetune")
REACHED = ("AWS_", "MLFLOW_", "SELFLOOP_STORE")
"""The variables by which a pod finds MLflow's server and S3."""
IN_PROCESS_ONLY = {"measure_policy"}
TRAINED = {"pretrain_policy", "finetune_policy"}


@pytest.mark.debian("radosgw")
@pytest.mark.debian("ceph-mon")
@pytest.mark.debian("ceph-osd")
@pytest.mark.debian("postgresql")
def test_each_stage_in_its_container_makes_what_the_run_in_process_made(
    team: Path, small: dict[str, Any], finished_run: Path
) -> None:
    """As in a team's cluster: with MLflow's server and S3."""
    for image in IMAGES:
        reference(image)
    with tracked_run("containers", {}, team / "note", team / "mlflow"):
        reached = {name: value for name, value in os.environ.items() if name.startswith(REACHED)}
        used = run_in_containers(small, team, reached=reached)
    assert used == {f"selfloop/{image}:{__version__}" for image in IMAGES}
    assert_equal(team, finished_run, TRAINED)
    versions = Registry(find_recipe("length-generalization").resolve(small).loop).versions().values()
    assert sorted(version.tag("digest") for version in versions) == policies(finished_run)
    assert all(version.source.startswith("s3://team/loops/") for version in versions)


def test_fused_rounds_in_their_container_make_the_same_tables_and_weights(
    tmp_path: Path, small: dict[str, Any], finished_run: Path
) -> None:
    """A policy's configuration alone differs: it tells the version of transformers, of which rl has another."""
    name = reference(fused_stage(find_recipe("length-generalization"), "round").image)
    assert name in run_in_containers(small, tmp_path, fused=True)
    assert_equal(tmp_path, finished_run, TRAINED)
    assert weights(tmp_path) == weights(finished_run)


def run_in_containers(
    settings: dict[str, Any], place: Path, fused: bool = False, reached: Mapping[str, str] | None = None
) -> set[str]:
    """Run the recipe by ``kfp.local``, each task in its container. Returns the images that were used."""
    recipe = find_recipe("length-generalization")
    with tasks_in_containers(place / "kfp", reached) as used:
        run_locally(recipe, recipe.resolve(settings), place / "kfp", fused)
    return set(used)


def assert_equal(made: Path, finished_run: Path, but: Set[str] = frozenset()) -> None:
    left_out = IN_PROCESS_ONLY | but
    in_process = {key: value for key, value in digests(finished_run).items() if key[0] not in left_out}
    found = digests(made)
    assert {key: found.get(key) for key in in_process} == in_process


def policies(root: Path) -> list[str]:
    """The digests of all policies below a folder that a stage made."""
    manifests = (manifest_of(path.parent) for path in root.rglob("manifest.json"))
    return sorted({manifest.digest for manifest in manifests if manifest.kind == "Model"})


def weights(root: Path) -> set[str]:
    """The digests of the weights of all policies below a folder."""
    manifests = (manifest_of(path.parent) for path in root.rglob("manifest.json"))
    return {manifest.files["model.safetensors"] for manifest in manifests if manifest.kind == "Model"}


@pytest.fixture(scope="module")
def random_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with random weights that any user may read."""
    from selfloop.artifacts import seal
    from selfloop.policy import Policy, save, scratch_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = scratch_tokenizer("0123456789+-*=()<>/abcdefghijklmnopqrstuvwxyz ")
    size = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **size, **ids)
    place = tmp_path_factory.mktemp("random") / "policy"
    save(Policy(LlamaForCausalLM(config).eval(), tokenizer), place)
    seal(place, "Model")
    (place / "model.safetensors").chmod(0o644)  # safetensors writes for its own user alone
    return place


@pytest.mark.parametrize("image", ["generate", "rl"])
def test_vllm_draws_in_a_container_without_network_and_rights(tmp_path: Path, random_policy: Path, image: str) -> None:
    tasks = find_environment("addition").tasks(1, 4, seed=3)
    sealed_table(tmp_path / "tasks", Task, tasks)
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    folders = (f"{random_policy}:/policy:ro", f"{tmp_path}/tasks:/tasks:ro", f"{tmp_path}/out:/out")
    words = "--policy /policy --tasks /tasks --rollouts /out/rollouts --engine vllm --attempts fixed --samples 2"
    done = in_container(
        reference(image),
        ["python3", "-m", "selfloop", "generate_rollouts", *words.split(), "--context", "128"],
        *(f"--volume={folder}" for folder in folders),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = [rollout.task for rollout in rows(tmp_path / "out/rollouts", Rollout)]
    assert sorted(drawn) == sorted(2 * [task.id for task in tasks])
