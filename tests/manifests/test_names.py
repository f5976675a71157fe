"""What the manifests call things is what the code calls them."""

import pytest
from selfloop import profiles as profiles_
from selfloop import stages as stages_
from selfloop.cluster import trainjob

from .building import COMPONENTS, Object, built, containers, of_kind, pod_templates, with_component

pytestmark = pytest.mark.debian("kustomize")
CONFIG = {"AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI", "SELFLOOP_KFP_ENDPOINT", "SELFLOOP_STORE"}
"""What every stage is told."""
OVERLAYS = ["overlays/gpu", "overlays/kind", "overlays/kubeflow"]


def names(objects: list[Object], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in of_kind(objects, kind)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_profile_finds_account_config_and_claim(overlay: str) -> None:
    cluster, objects = profiles_.Cluster(), built(overlay)
    assert cluster.service_account in names(objects, "ServiceAccount")
    assert cluster.cache_claim in names(objects, "PersistentVolumeClaim")
    (config,) = (each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == cluster.config_map)
    assert set(config["data"]) == CONFIG


def test_secrets_have_the_keys_that_stages_are_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = with_component("external-secrets", tmp_path_factory.mktemp("secrets"))
    keys = {
        each["spec"]["target"]["name"]: {data["secretKey"] for data in each["spec"]["data"]}
        for each in of_kind(made, "ExternalSecret")
    }
    cluster = profiles_.Cluster()
    assert {secret.name for secret in cluster.secrets if not secret.optional} <= set(keys)
    for secret in cluster.secrets:
        assert keys.get(secret.name, set(secret.keys)) == set(secret.keys)
    told = {secret.name for secret in cluster.secrets} | {"selfloop-postgres"}
    for name in COMPONENTS:
        for thing in with_component(name, tmp_path_factory.mktemp(name)):
            for container in (each for template in pod_templates(thing) for each in containers(template)):
                references = [each["secretRef"]["name"] for each in container.get("envFrom", []) if "secretRef" in each]
                sources = [each.get("valueFrom", {}).get("secretKeyRef", {}) for each in container.get("env", [])]
                assert {*references, *(each["name"] for each in sources if each)} <= told


@pytest.mark.parametrize("overlay", ["overlays/gpu", "overlays/kubeflow"])
def test_the_queues_of_the_provided_profiles_are_there(overlay: str) -> None:
    stages = stages_.stages()
    profiles = profiles_.profiles()
    named = {profile.resources(stage).queue for profile in profiles.values() for stage in stages.values()}
    assert named - {""} == names(built(overlay), "LocalQueue")


def test_the_quota_with_gpus_holds_each_provided_profile() -> None:
    (quota,) = of_kind(built("overlays/gpu"), "ResourceQuota")
    (queue,) = of_kind(built("overlays/gpu"), "ClusterQueue")
    (flavor,) = (each for each in queue["spec"]["resourceGroups"][0]["flavors"] if each["name"] == "selfloop-gpu")
    queued = {each["name"]: int(each["nominalQuota"]) for each in flavor["resources"] if "gpu" in each["name"]}
    stages = stages_.stages()
    most = max(
        profile.resources(stage).gpu * int(profile.settings.get(stage.verb, {}).get("nodes", 1))
        for profile in profiles_.profiles().values()
        for stage in stages.values()
    )
    assert most <= queued["nvidia.com/gpu"]
    assert queued["nvidia.com/gpu"] == int(quota["spec"]["hard"]["requests.nvidia.com/gpu"])


@pytest.mark.parametrize("overlay", ["overlays/gpu", "overlays/kubeflow"])
def test_a_training_across_nodes_finds_its_runtime(overlay: str) -> None:
    (runtime,) = of_kind(built(overlay), "TrainingRuntime")
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert runtime["metadata"]["name"] == trainjob.RUNTIME
    assert [each["name"] for each in containers(node["template"]["spec"]["template"])] == [trainjob.CONTAINER]
    assert f"replicatedjob-name={node['name']}" in trainjob.OF_JOB
