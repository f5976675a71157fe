"""Every overlay builds with kustomize, and each of its objects is what the schema of its kind says."""

import re
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import selfloop

from .building import (
    APPLIED,
    COMPONENTS,
    MANIFESTS,
    SANDBOX,
    Object,
    built,
    check,
    containers,
    named,
    of_kind,
    pod_templates,
    with_component,
)

pytestmark = pytest.mark.debian("kustomize")
CLUSTER_SCOPED = {"ClusterQueue", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "Namespace", "Profile"}
CLUSTER_SCOPED |= {"ClusterRole", "ClusterRoleBinding", "ResourceFlavor"}
CLUSTER_SCOPED |= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


@pytest.mark.parametrize("place", APPLIED)
def test_what_is_applied_is_valid(place: str) -> None:
    objects = built(place)
    assert objects
    for thing in objects:
        check(thing)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_can_be_added_to_the_base(name: str, tmp_path: Path) -> None:
    objects = with_component(name, tmp_path)
    assert len(objects) > len(built("base")) or name == "images"
    for thing in objects:
        check(thing)


@pytest.mark.parametrize("place", APPLIED)
def test_nothing_is_said_twice(place: str) -> None:
    names = [(named(thing), thing["metadata"].get("namespace")) for thing in built(place)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("place", APPLIED)
def test_all_is_in_its_namespace(place: str) -> None:
    namespace = {"overlays/kind": "kubeflow", **dict.fromkeys(SANDBOX, "selfloop-nodes")}.get(place, "selfloop")
    for thing in built(place):
        where = None if thing["kind"] in CLUSTER_SCOPED else namespace
        assert thing["metadata"].get("namespace") == where, named(thing)


IMAGES = {"base/sandbox": {"base"}, "overlays/dev": {"base", "sandbox"}, "overlays/kind": {"base", "sandbox"}}
IMAGES |= {f"overlays/{name}": {"base", "sandbox", "finetune"} for name in ("kubeflow", "gpu")}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests after images were pushed elsewhere."""
    copied = shutil.copytree(MANIFESTS, tmp_path_factory.mktemp("pushed") / "manifests")
    (copied / "components/images/prefix.env").write_text("IMAGE_PREFIX=registry.example:5000/team\n")
    return copied


@pytest.mark.parametrize("place", IMAGES)
def test_one_line_says_where_the_images_are(place: str, pushed: Path) -> None:
    for manifests, prefix in ((MANIFESTS, "selfloop"), (pushed, "registry.example:5000/team")):
        objects = built(manifests / place)
        templates = [template for thing in objects for template in pod_templates(thing)]
        images = {each["image"] for template in templates for each in containers(template)}
        own = {image for image in images if re.search(r"(^|/)(base|sandbox|finetune):", image)}
        assert own == {f"{prefix}/{name}:{selfloop.__version__}" for name in IMAGES[place]}
        assert all("@sha256:" in image or "/mlflow/" in image for image in images - own)
        assert "IMAGE_PREFIX" not in str(objects)


def test_where_no_rule_can_change_pods_all_else_is_the_same() -> None:
    whole, less = built("base/sandbox"), built("base/sandbox-1.30")
    assert less == [thing for thing in whole if not thing["kind"].startswith("Mutating")]
    older = {named(thing): thing for thing in built("base/sandbox-1.34")}
    assert older == {named(thing): thing | {"apiVersion": older[named(thing)]["apiVersion"]} for thing in whole}


def test_a_profile_s_namespace_keeps_the_labels_that_kubeflow_gives_it() -> None:
    """Its webhook and its store look for them."""
    (namespace,) = of_kind(built("overlays/kubeflow"), "Namespace")
    kubeflow = {"app.kubernetes.io/part-of", "istio-injection", "pipelines.kubeflow.org/enabled"}
    assert not kubeflow & set(namespace["metadata"]["labels"])


def test_in_a_profile_no_pod_has_istio_s_sidecar() -> None:
    for thing in built("overlays/gpu"):
        for template in pod_templates(thing):
            assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", named(thing)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec/replicas", "one"),
        ("Deployment", "spec/template/spec/containers/0/securityContext/priviledged", False),
        ("NetworkPolicy", "spec/podSelectors", {}),
        ("ClusterQueue", "spec/resourceGroups/0/flavors/0/resources/0/nominalQuota", "many"),
        ("LocalQueue", "spec/queue", "selfloop"),
        ("TrainingRuntime", "spec/mlPolicy/torch/procs", 8),
        ("TrainingRuntime", "spec/template/spec/replicatedJobs/0/template/spec/template/spec/hostPid", True),
        ("PodDefault", "spec/volume", []),
    ],
)
def test_what_does_not_fit_is_seen(kind: str, path: str, value: Any) -> None:
    thing: Object = deepcopy(of_kind(built("overlays/gpu"), kind)[0])
    *above, last = path.split("/")
    inner: Any = thing
    for key in above:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[last] = value
    with pytest.raises(AssertionError):
        check(thing)
