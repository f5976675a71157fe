"""What the admission rules make of the pods of a run, and what they refuse: their expressions are evaluated.

The API server's types of objects are maps here: that each is the type of its place is checked by name.
"""

import re
from copy import deepcopy
from typing import Any

import cel
import pytest
from kubernetes.client import (
    V1Container,
    V1ObjectMeta,
    V1Pod,
    V1PodSpec,
)
from selfloop.cluster import trainjob
from selfloop.modes import privileges

from .building import Object, built, check, containers, of_kind, pod_templates
from .test_security import beyond_restricted

pytestmark = pytest.mark.debian("kustomize")
TYPE = re.compile(r"Object((?:\.\w+)*)\{")
STAGES = ("base", "generate", "finetune", "rl", "sandbox")
VALIDATING = "ValidatingAdmissionPolicy"
KFP = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What KFP 2.17 gives the container of a stage, to which the profile adds `runAsNonRoot`."""


ACCOUNTS = ["selfloop", "pipeline-runner", "default-editor"]
"""What a run may be begun as: the last two are KFP's, where a person names none in its UI."""
CODE, NODES = privileges.GENERATED_CODE, privileges.NODES


def pod(image: str, *labels: str, account: str = "selfloop") -> Object:
    """A pod of a run as Argo makes it, that asks for what labels say."""
    context = {**KFP, "runAsNonRoot": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "stage",
            "labels": {"pipelines.kubeflow.org/v2_component": "true"} | dict.fromkeys(labels, "asked"),
        },
        "spec": {
            "serviceAccountName": account,
            "serviceAccount": account,
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
    for policy in policies():
        if all(cel.evaluate(each["expression"], {"object": result}) for each in policy["spec"]["matchConditions"]):
            (mutation,) = policy["spec"]["mutations"]
            expression = mutation["applyConfiguration"]["expression"]
            result = merged(result, cel.evaluate(with_maps(expression), {"object": result}))
    check(result)
    return result


def policies() -> list[Object]:
    return of_kind(built("base/sandbox"), "MutatingAdmissionPolicy")


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
    before = pod(f"{prefix}{name}{version}", CODE)
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


@pytest.mark.parametrize("image", [*STAGES])
def test_a_stage_that_runs_no_generated_code_asks_for_no_profile_of_the_node(image: str) -> None:
    context = main(admitted(pod(f"selfloop/{image}:0.1.0")))["securityContext"]
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("image", [*STAGES])
def test_a_stage_that_loads_a_policy_or_may_run_generated_code_has_an_account_without_rights(
    image: str, account: str
) -> None:
    """Whoever began the run, and however."""
    kept = account if image == "base" else "selfloop-confined"
    for given, expected in ((pod(f"x/{image}:1", account=account), kept), (pod(f"x/{image}:1", NODES), "selfloop")):
        spec = admitted(given)["spec"]
        assert (spec["serviceAccountName"], spec["serviceAccount"]) == (expected, expected)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_run_that_was_begun_in_the_ui_is_treated_as_any_other(account: str) -> None:
    assert main(admitted(pod("x/rl:1", CODE, account=account))) == main(admitted(pod("x/rl:1", CODE)))


def test_the_labels_that_rules_read_are_those_that_pods_are_given() -> None:
    conditions = str([each["spec"]["matchConditions"] for each in policies()])
    assert all(f'"{label}"' in conditions for label in privileges.DEEDS)


@pytest.mark.parametrize(
    "other",
    [
        pod("ghcr.io/kubeflow/kfp-driver:2.17.0"),
        pod("registry.example/world:0.1.0"),
        pod("selfloop/generate:0.1.0", CODE, account="somebody"),
    ],
    ids=["a driver", "another image", "another account"],
)
def test_other_pods_are_left_alone(other: Object) -> None:
    assert admitted(other) == other


def test_the_doctor_s_and_a_training_s_pods_get_the_profile() -> None:
    objects = built("overlays/gpu")
    for kind in ("CronJob", "TrainingRuntime"):
        (template,) = pod_templates(of_kind(objects, kind)[0])
        metadata = {"name": "x", **template["metadata"]}
        after = admitted({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
        given = {
            each["name"]: each["securityContext"].get("seccompProfile", {}).get("type") for each in containers(after)
        }
        assert given == {"doctor": None, "sandbox": "Localhost"} if kind == "CronJob" else {"node": "Localhost"}


@pytest.mark.parametrize("image", ["selfloop/sandbox:0.1.0", "selfloop/base:0.1.0"])
def test_podsecurity_admits_what_comes_out(image: str) -> None:
    assert list(beyond_restricted(admitted(pod(image, CODE)))) == []


@pytest.mark.parametrize("overlay", ["dev", "kubeflow", "gpu"])
def test_the_rules_hold_in_the_namespace(overlay: str) -> None:
    (namespace,) = of_kind(built(f"overlays/{overlay}"), "Namespace")
    objects = built("base/sandbox")
    names = {each["metadata"]["name"] for each in of_kind(objects, "MutatingAdmissionPolicy", VALIDATING)}
    bindings = [
        each["spec"] for each in of_kind(objects, "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicyBinding")
    ]
    assert {each["policyName"] for each in bindings} == names
    for binding in bindings:
        wanted = binding["matchResources"]["namespaceSelector"]["matchLabels"]
        assert wanted.items() <= namespace["metadata"]["labels"].items()


def test_each_type_is_that_of_its_place() -> None:
    for policy in policies():
        expression = policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]
        types = TYPE.findall(expression)
        assert all(each.rpartition(".")[0] in types for each in types if each)
        for field, place in re.findall(r"(\w+): Object((?:\.\w+)*)\{", expression):
            assert place.rpartition(".")[2] == field


def refused(name: str, asked: Object, account: str = "system:serviceaccount:selfloop:selfloop") -> list[str]:
    """What a rule says against a request of an account in the namespace ``selfloop``; nothing where it is content."""
    rules = {each["metadata"]["name"]: each["spec"] for each in of_kind(built("base/sandbox"), VALIDATING)}
    policy = rules[name]
    known = {"object": asked, "request": {"namespace": "selfloop", "userInfo": {"username": account}}}
    if not all(cel.evaluate(each["expression"], known) for each in policy["matchConditions"]):
        return []
    return [each["message"] for each in policy["validations"] if not cel.evaluate(each["expression"], known)]


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_run_holds_leases_of_loops_and_no_others(account: str) -> None:
    whole = f"system:serviceaccount:selfloop:{account}"
    for name, is_refused in (("selfloop-sec-countdown", False), ("workflow-controller", True), ("x-selfloop-", True)):
        assert bool(refused("selfloop-leases", {"metadata": {"name": name}}, whole)) == is_refused


def test_others_hold_what_leases_they_like() -> None:
    for account in ("system:serviceaccount:other:selfloop", "system:serviceaccount:selfloop:argo", "me@example.com"):
        assert not refused("selfloop-leases", {"metadata": {"name": "workflow-controller"}}, account)


@pytest.fixture
def job() -> Object:
    """A TrainJob as a stage makes it."""
    spec = V1PodSpec(containers=[V1Container(name="main", image="x/rl:1")], active_deadline_seconds=60)
    owner = V1Pod(metadata=V1ObjectMeta(name="stage", uid="u"), spec=spec)
    known = {"SELFLOOP_STORE": "s3://team/loops", "AWS_REGION": "eu-1", "AWS_SECRET_ACCESS_KEY": "k"}
    return trainjob.described("job", ["python"], 2, owner, known)


def test_the_trainjobs_of_stages_are_let_through(job: Object) -> None:
    assert [each["name"] for each in job["spec"]["trainer"]["env"]] == ["AWS_REGION", "SELFLOOP_STORE"]
    assert refused("selfloop-trainjobs", job) == []
    server_filled = job["spec"] | {"suspend": False, "managedBy": "trainer.kubeflow.org/trainjob-controller"}
    assert refused("selfloop-trainjobs", {"spec": server_filled}) == []
    del job["spec"]["trainer"]
    assert refused("selfloop-trainjobs", job) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"runtimeRef": {"name": "selfloop-torch", "kind": "ClusterTrainingRuntime"}}, "use the"),
        ({"runtimeRef": {"name": "selfloop-torch"}}, "use the"),
        ({"runtimeRef": {"name": "torch", "kind": "TrainingRuntime"}}, "use the"),
        ({"runtimePatches": []}, "change nothing"),
        ({"podTemplateOverrides": [{"spec": {"serviceAccountName": "admin"}}]}, "change nothing"),
        ({"initializer": {"model": {"secretRef": {"name": "any"}}}}, "change nothing"),
        (
            {"trainer": {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "any", "key": "k"}}}]}},
            "by value",
        ),
        (
            {"trainer": {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "k"}}}]}},
            "by value",
        ),
        ({"trainer": {"env": [{"name": "X", "valueFrom": {"fileKeyRef": {"path": "/x", "key": "k"}}}]}}, "by value"),
    ],
)
def test_a_trainjob_of_a_run_starts_pods_of_one_account_with_no_secret_of_its_choice(
    job: Object, change: Object, word: str
) -> None:
    (said,) = refused("selfloop-trainjobs", {"spec": job["spec"] | change})
    assert word in said
    assert not refused("selfloop-trainjobs", {"spec": job["spec"] | change}, "me@example.com")


def test_the_runtime_of_loops_has_an_account_without_rights_and_no_token() -> None:
    objects = built("overlays/kubeflow")
    (template,) = pod_templates(of_kind(objects, "TrainingRuntime")[0])
    account = template["spec"]["serviceAccountName"]
    bound = [each["subjects"] for each in of_kind(objects, "RoleBinding", "ClusterRoleBinding")]
    assert account not in {subject["name"] for subjects in bound for subject in subjects}
    assert template["spec"]["automountServiceAccountToken"] is False
    assert of_kind(objects, "TrainingRuntime")[0]["metadata"]["name"] == trainjob.RUNTIME
