"""What the admission rules make of the pods of a run: their expressions are evaluated, and the result is looked at.

The API server's types of objects are maps here: that each is the type of its place is checked by name.
"""

import re
from copy import deepcopy
from typing import Any

import cel
import pytest

from .building import Object, built, check, containers, of_kind, pod_templates
from .test_security import beyond_restricted

pytestmark = pytest.mark.debian("kustomize")
TYPE = re.compile(r"Object((?:\.\w+)*)\{")
KFP = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What KFP 2.17 gives the container of a stage, to which the profile adds `runAsNonRoot`."""


def pod(image: str, account: str = "selfloop") -> Object:
    """A pod of a run as Argo makes it."""
    context = {**KFP, "runAsNonRoot": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stage", "labels": {"pipelines.kubeflow.org/v2_component": "true"}},
        "spec": {
            "serviceAccountName": account,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [
                {"name": "kfp-launcher", "image": "ghcr.io/kubeflow/kfp-launcher:2.17.0", "securityContext": context}
            ],
            "containers": [
                {"name": "wait", "image": "quay.io/argoproj/argoexec:v4.0.8", "securityContext": context},
                {"name": "main", "image": image, "securityContext": context},
            ],
        },
    }


def admitted(given: Object) -> Object:
    """The pod after all rules."""
    result = deepcopy(given)
    for policy in of_kind(built("base/sandbox"), "MutatingAdmissionPolicy"):
        if all(cel.evaluate(each["expression"], {"object": result}) for each in policy["spec"]["matchConditions"]):
            (mutation,) = policy["spec"]["mutations"]
            expression = mutation["applyConfiguration"]["expression"]
            result = merged(result, cel.evaluate(with_maps(expression), {"object": result}))
    check(result)
    return result


def with_maps(expression: str) -> str:
    return re.sub(r"(\w+):", r'"\1":', TYPE.sub("{", expression))


def merged(here: Any, there: Any) -> Any:
    """As the server applies a configuration: maps by key, containers by name."""
    if isinstance(there, dict):
        return {**here, **{key: merged(here.get(key, {}), value) for key, value in there.items()}}
    if isinstance(there, list):
        changed = {each["name"]: each for each in there}
        return [merged(each, changed.get(each["name"], {})) for each in here]
    return there


def main(thing: Object) -> Object:
    return next(dict(each) for each in thing["spec"]["containers"] if each["name"] == "main")


@pytest.mark.parametrize("name", ["generate", "finetune", "rl", "sandbox"])
@pytest.mark.parametrize("prefix", ["selfloop/", "registry.example:5000/team/", ""])
@pytest.mark.parametrize("version", [":0.1.0", f"@sha256:{'0' * 64}", f":0.1.0@sha256:{'0' * 64}"])
def test_stages_that_may_run_generated_code_get_the_profile(name: str, prefix: str, version: str) -> None:
    before = pod(f"{prefix}{name}{version}")
    after = admitted(before)
    localhost = {"type": "Localhost", "localhostProfile": "selfloop/sandbox.json"}
    context = {**main(before)["securityContext"], "seccompProfile": localhost, "readOnlyRootFilesystem": True}
    assert main(after) == {**main(before), "securityContext": context}
    assert after["spec"]["securityContext"] == {
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    for kind in ("initContainers", "containers"):
        assert after["spec"][kind][0] == before["spec"][kind][0]


def test_stages_without_a_sandbox_keep_the_profile_of_the_runtime() -> None:
    context = main(admitted(pod("selfloop/base:0.1.0")))["securityContext"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    "other",
    [
        pod("ghcr.io/kubeflow/kfp-driver:2.17.0"),
        pod("registry.example/world:0.1.0"),
        pod("selfloop/generate:0.1.0", account="default-editor"),
    ],
    ids=["a driver", "another image", "another account"],
)
def test_other_pods_are_left_alone(other: Object) -> None:
    assert admitted(other) == other


def test_the_doctor_s_and_a_training_s_pods_get_the_profile() -> None:
    objects = built("overlays/gpu")
    for kind in ("CronJob", "TrainingRuntime"):
        (template,) = pod_templates(of_kind(objects, kind)[0])
        after = admitted({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]})
        profiles = [each["securityContext"]["seccompProfile"]["type"] for each in containers(after)]
        assert profiles == ["Localhost"]


@pytest.mark.parametrize("image", ["selfloop/sandbox:0.1.0", "selfloop/base:0.1.0"])
def test_podsecurity_admits_what_comes_out(image: str) -> None:
    assert list(beyond_restricted(admitted(pod(image)))) == []


@pytest.mark.parametrize("overlay", ["dev", "kubeflow", "gpu"])
def test_the_rules_hold_in_the_namespace(overlay: str) -> None:
    (namespace,) = of_kind(built(f"overlays/{overlay}"), "Namespace")
    policies = {each["metadata"]["name"] for each in of_kind(built("base/sandbox"), "MutatingAdmissionPolicy")}
    bindings = [each["spec"] for each in of_kind(built("base/sandbox"), "MutatingAdmissionPolicyBinding")]
    assert {each["policyName"] for each in bindings} == policies
    for binding in bindings:
        wanted = binding["matchResources"]["namespaceSelector"]["matchLabels"]
        assert wanted.items() <= namespace["metadata"]["labels"].items()


def test_each_type_is_that_of_its_place() -> None:
    for policy in of_kind(built("base/sandbox"), "MutatingAdmissionPolicy"):
        expression = policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]
        types = TYPE.findall(expression)
        assert all(each.rpartition(".")[0] in types for each in types if each)
        for field, place in re.findall(r"(\w+): Object((?:\.\w+)*)\{", expression):
            assert place.rpartition(".")[2] == field
