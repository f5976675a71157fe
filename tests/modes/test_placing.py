"""A profile on the tasks of a pipeline, read from what KFP is given: the IR and the platform spec."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from kfp import compiler, dsl, local
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from selfloop.finetune import pretrain_policy
from selfloop.modes.placing import place
from selfloop.profiles import Profile, find_profile
from selfloop.propose import draw_base

pytestmark = pytest.mark.slow

ALL = """
[registry]
pull_policy = "Always"
pull_secrets = ["registry-login"]

[default]
queue = "team"
priority_class = "nightly"

[images.finetune]
cpu = 16
memory = "128Gi"
gpu = 4
accelerator = "amd.com/gpu"
shm = "32Gi"
ephemeral_storage = "200Gi"
node_selector = { "amd.com/gpu.product-name" = "MI300X", zone = "a" }
tolerations = [
    { key = "amd.com/gpu", operator = "Exists", effect = "NoSchedule" },
    { key = "team", value = "nlp", effect = "NoExecute" },
]
time_limit = 86400
retries = 4
backoff = 60
backoff_factor = 3
retry_within = 172800

[stages.draw]
retries = 0
"""


def compiled(profile: Profile, place_at: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The IR and the platform spec of a pipeline of two tasks."""

    @dsl.pipeline(name="two")  # type: ignore[untyped-decorator]
    def two() -> None:
        base = place(draw_base.component("x")(), draw_base, profile, "registry/base@sha256:0", configured=True)
        component = pretrain_policy.component("x")
        given = {name: base.outputs[name] for name in ("examples", "held_out")}
        place(component(**given), pretrain_policy, profile, "registry/finetune@sha256:1")

    compiler.Compiler().compile(two, str(place_at / "two.yaml"))
    spec, platform = yaml.load_all((place_at / "two.yaml").read_text(), Loader=yaml.CSafeLoader)
    ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for config in executors.values():
        ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    return spec, executors


@pytest.fixture
def mine(tmp_path: Path) -> Profile:
    (tmp_path / "mine.toml").write_text(ALL)
    return find_profile(str(tmp_path / "mine.toml"))


def test_what_a_stage_asks_for_is_requested_and_limited(mine: Profile, tmp_path: Path) -> None:
    spec, _ = compiled(mine, tmp_path)
    container = spec["deploymentSpec"]["executors"]["exec-pretrain-policy"]["container"]
    resources = container["resources"]
    for kind in ("Request", "Limit"):
        assert resources[f"resourceCpu{kind}"] == "16"
        assert resources[f"resourceMemory{kind}"] == "128Gi"
    assert resources["accelerator"]["resourceType"] == "amd.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "4"
    assert container["image"] == "registry/finetune@sha256:1"
    assert "accelerator" not in spec["deploymentSpec"]["executors"]["exec-draw-base"]["container"]["resources"]


def test_a_pod_knows_its_image_and_one_that_is_configured_the_caches(mine: Profile, tmp_path: Path) -> None:
    spec, _ = compiled(mine, tmp_path)
    told = {
        name: {each["name"]: each["value"] for each in executor["container"]["env"]}
        for name, executor in spec["deploymentSpec"]["executors"].items()
    }
    assert told["exec-draw-base"] == {
        "SELFLOOP_IMAGE": "registry/base@sha256:0",
        "SELFLOOP_CACHE": "/var/cache/selfloop",
        "HF_HOME": "/var/cache/selfloop/huggingface",
    }
    assert told["exec-pretrain-policy"] == {"SELFLOOP_IMAGE": "registry/finetune@sha256:1"}


def test_a_training_stage_knows_what_each_node_of_a_training_has(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('nodes = { memory = "512Gi", gpu = 8 }\nimages.finetune.cpu = 64')
    profile, known = find_profile(str(tmp_path / "mine.toml")), []

    @dsl.pipeline(name="one")  # type: ignore[untyped-decorator]
    def one() -> None:
        base = place(draw_base.component("x")(), draw_base, profile, "x")
        given = {name: base.outputs[name] for name in ("examples", "held_out")}
        trained = place(pretrain_policy.component("x")(**given), pretrain_policy, profile, "x")
        known.extend([trained.container_spec.env, base.container_spec.env])

    assert json.loads(known[0]["SELFLOOP_NODE_RESOURCES"]) == {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
    assert "SELFLOOP_NODE_RESOURCES" not in known[1]


def test_what_failed_is_tried_again_with_longer_and_longer_waits(mine: Profile, tmp_path: Path) -> None:
    spec, _ = compiled(mine, tmp_path)
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["pretrain-policy"]["retryPolicy"] == {
        "maxRetryCount": 4,
        "backoffDuration": "60s",
        "backoffFactor": 3.0,
        "backoffMaxDuration": "172800s",
    }
    assert "retryPolicy" not in tasks["draw-base"]


def test_a_profile_that_says_nothing_of_further_attempts_leaves_them_to_the_cluster(tmp_path: Path) -> None:
    spec, _ = compiled(find_profile("one-gpu"), tmp_path)
    assert not any("retryPolicy" in task for task in spec["root"]["dag"]["tasks"].values())


def test_the_nodes_are_chosen(mine: Profile, tmp_path: Path) -> None:
    _, executors = compiled(mine, tmp_path)
    config = executors["exec-pretrain-policy"]
    assert config["nodeSelector"]["labels"] == {"amd.com/gpu.product-name": "MI300X", "zone": "a"}
    assert [{k: v for k, v in each.items() if v} for each in config["tolerations"]] == [
        {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "nlp", "effect": "NoExecute"},
    ]
    assert config["podMetadata"]["labels"] == {
        "kueue.x-k8s.io/queue-name": "team",
        "kueue.x-k8s.io/priority-class": "nightly",
    }
    assert config["activeDeadlineSeconds"] == "86400"
    assert "nodeSelector" not in executors["exec-draw-base"]


def test_volumes_hold_the_cache_shared_memory_and_scratch(mine: Profile, tmp_path: Path) -> None:
    _, executors = compiled(mine, tmp_path)
    config = executors["exec-pretrain-policy"]
    assert [(mount["constant"], mount["mountPath"]) for mount in config["pvcMount"]] == [
        ("selfloop-models", "/var/cache/selfloop")
    ]
    assert {mount["mountPath"]: mount for mount in config["emptyDirMounts"]} == {
        "/tmp": {"volumeName": "scratch", "mountPath": "/tmp", "sizeLimit": "200Gi"},
        "/dev/shm": {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "32Gi"},
    }
    assert [mount["mountPath"] for mount in executors["exec-draw-base"]["emptyDirMounts"]] == ["/tmp"]


def test_without_a_claim_the_cache_goes_with_the_pod(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('cluster = { cache_claim = "", config_map = "", secrets = [] }')
    _, executors = compiled(find_profile(str(tmp_path / "mine.toml")), tmp_path)
    config = executors["exec-draw-base"]
    assert {mount["mountPath"] for mount in config["emptyDirMounts"]} == {"/var/cache/selfloop", "/tmp"}
    assert not {"pvcMount", "configMapAsEnv", "secretAsEnv"} & set(config)


def test_credentials_and_addresses_are_references(mine: Profile, tmp_path: Path) -> None:
    _, executors = compiled(mine, tmp_path)
    config = executors["exec-draw-base"]
    secrets = {each["secretName"]: each for each in config["secretAsEnv"]}
    assert {name: each["optional"] for name, each in secrets.items()} == {
        "selfloop-s3": False,
        "selfloop-hub": True,
    }, "those of the other two are for stages that speak to MLflow and to the webhook"
    assert [pair["envVar"] for pair in secrets["selfloop-s3"]["keyToEnv"]] == [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ]
    maps = {each["optional"]: [pair["envVar"] for pair in each["keyToEnv"]] for each in config["configMapAsEnv"]}
    assert maps == {
        False: ["SELFLOOP_TRACKING_URI", "SELFLOOP_STORE"],
        True: ["AWS_ENDPOINT_URL_S3", "AWS_REGION", "SELFLOOP_KFP_ENDPOINT"],
    }
    assert "configMapAsEnv" not in executors["exec-pretrain-policy"], "a call of a loop is told by resolve"


def test_a_pod_bears_the_labels_that_its_loop_asks_for(mine: Profile) -> None:
    found = []

    @dsl.pipeline(name="one")  # type: ignore[untyped-decorator]
    def one() -> None:
        task = place(draw_base.component("x")(), draw_base, mine, "x", {"selfloop/generated-code": "asked"})
        found.append(task.platform_config["kubernetes"]["podMetadata"]["labels"])

    assert found[0]["selfloop/generated-code"] == "asked"
    assert found[0]["kueue.x-k8s.io/queue-name"] == "team"


def test_images_are_pulled_as_the_registry_wants_and_run_as_somebody(mine: Profile, tmp_path: Path) -> None:
    _, executors = compiled(mine, tmp_path)
    config = executors["exec-draw-base"]
    assert config["imagePullPolicy"] == "Always"
    assert [each["secretName"] for each in config["imagePullSecret"]] == ["registry-login"]
    assert config["securityContext"] == {"runAsNonRoot": True}


@pytest.mark.parametrize("name", ["cpu", "one-gpu", "eight-gpu", "multi-node"])
def test_a_stage_adds_less_than_three_kilobytes(name: str, tmp_path: Path) -> None:
    _, executors = compiled(find_profile(name), tmp_path)
    assert max(len(yaml.safe_dump(config)) for config in executors.values()) < 3000
    assert max(len(json.dumps(config)) for config in executors.values()) < 2300


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_kfp_runs_a_placed_task_on_this_machine(tmp_path: Path, mine: Profile) -> None:
    from selfloop.modes.compiling import _importable

    @dsl.pipeline(name="one")  # type: ignore[untyped-decorator]
    def one() -> None:
        place(draw_base.component("x")(per_level=4, held_out_per_level=2, levels=1), draw_base, mine, "registry/base:1")

    with _importable():
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
        one()
    assert list((tmp_path / "root").rglob("examples/manifest.json"))
