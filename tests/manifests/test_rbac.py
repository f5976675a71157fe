"""The Roles say what the code asks of the Kubernetes API, verb by verb: the code is read, and the two are compared."""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TypeGuard

import pytest
import selfloop
from selfloop.cluster.doctor.namespace import RUNS

from .building import APPLIED, Object, built, named, of_kind

pytestmark = pytest.mark.debian("kustomize")

CLUSTER = Path(selfloop.__file__).parent / "cluster"
DOCTOR = "doctor"
"""The package that runs as the doctor; all others run in the pods of stages."""
CALL = re.compile(
    r"^(create|delete_collection|delete|list|patch|read|replace|watch|get|connect_\w+?)_(namespaced|cluster)_(\w+)$"
    r"|^(create|delete|list|patch|read|replace)_(\w+)$"
)
VERBS = {"read": "get", "replace": "update", "delete_collection": "deletecollection"}
RESOURCES = {
    "event": ("", "events"),
    "lease": ("coordination.k8s.io", "leases"),
    "config_map": ("", "configmaps"),
    "daemon_set": ("apps", "daemonsets"),
    "local_subject_access_review": ("authorization.k8s.io", "localsubjectaccessreviews"),
    "namespace": ("", "namespaces"),
    "node": ("", "nodes"),
    "persistent_volume_claim": ("", "persistentvolumeclaims"),
    "pod": ("", "pods"),
    "pod_log": ("", "pods/log"),
    "resource_quota": ("", "resourcequotas"),
    "secret": ("", "secrets"),
    "service_account": ("", "serviceaccounts"),
    "storage_class": ("storage.k8s.io", "storageclasses"),
    "self_subject_access_review": ("authorization.k8s.io", "selfsubjectaccessreviews"),
    "self_subject_rules_review": ("authorization.k8s.io", "selfsubjectrulesreviews"),
}
OF_ALL = {"selfsubjectaccessreviews", "selfsubjectrulesreviews"}
"""What Kubernetes lets everybody ask about themselves (system:basic-user)."""
REVIEWS = {"localsubjectaccessreviews"}
"""Questions, though they are asked by creating them."""
OF_PERSONS = {"leftovers.py", "pods.py"}
"""What runs on a laptop, with the rights of who runs it: `selfloop cancel`, `logs` and `watch`."""
WRITES = {"create", "update", "patch", "delete", "deletecollection", "*"}

OF_KFP = {"overlays/kind": "pipeline-runner", "overlays/kubeflow": "default-editor", "overlays/gpu": "default-editor"}
"""The account, which KFP makes, of a run that is begun in its UI with none named."""

Right = tuple[str, str, str]
"""Group, resource and verb."""


def constants(tree: ast.Module) -> dict[str, str]:
    """The strings that a module names at its top."""
    found: dict[str, str] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                pairs = (
                    zip(target.elts, statement.value.elts, strict=True)
                    if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple)
                    else [(target, statement.value)]
                )
                for name, value in pairs:
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                        found[name.id] = value.value
    return found


def is_of_client(node: ast.Attribute) -> bool:
    """Whether a method is one of the Kubernetes client's: these alone are named so."""
    from kubernetes import client

    return any(
        hasattr(getattr(client, name), node.attr)
        for name in dir(client)
        if name.endswith("Api") and name != "CustomObjectsApi"
    )


def passed(tree: ast.Module) -> dict[str, set[str]]:
    """The strings that a module passes to its own functions, by the name of the parameter."""
    functions = {node.name: node.args.args for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found: dict[str, set[str]] = {}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        parameters = [each.arg for each in functions.get(ast.unparse(call.func), [])]
        given = [*zip(parameters, call.args, strict=False), *((each.arg, each.value) for each in call.keywords)]
        for name, value in given:
            if name in parameters and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.setdefault(name, set()).add(value.value)
    return found


def asked(source: str, constant: dict[str, str] | None = None) -> Iterator[Right]:
    """What a module asks of the API, wherever it names a method of the client."""
    tree = ast.parse(source)
    known = {name: {value} for name, value in {**(constant or {}), **constants(tree)}.items()} | passed(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:  # also where another function is to make the call: ask(api.get_..., group, version)
        method, *arguments = [call.func, *call.args] if is_custom(call.func) else [*call.args, call.func]
        if is_custom(method):
            yield from custom(method, arguments, call.keywords, known)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_custom(node):
            match = CALL.match(node.attr)
            if match and is_of_client(node):
                yield right(match)


def is_custom(node: ast.expr) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and "_custom_object" in node.attr


def right(match: re.Match[str]) -> Right:
    verb, what = (match[1], match[3]) if match[1] else (match[4], match[5])
    resource = what.removesuffix("_with_http_info").removesuffix("_for_all_namespaces")
    assert resource in RESOURCES, f"{match[0]} asks for what this test does not know: say which group and resource"
    return (*RESOURCES[resource], VERBS.get(verb, verb))


def custom(
    method: ast.Attribute, arguments: list[ast.expr], keywords: list[ast.keyword], known: dict[str, set[str]]
) -> Iterator[Right]:
    """Of an object of somebody else's kind: group and resource are arguments."""
    names = ["group", "version", *(["namespace"] if "_namespaced_" in method.attr else []), "plural"]
    given = dict(zip(names, arguments, strict=False)) | {each.arg: each.value for each in keywords if each.arg}
    verb = method.attr.partition("_")[0]
    for group, plural in product(*(texts(given[name], known) for name in ("group", "plural"))):
        yield group, plural, VERBS.get(verb, verb)


def texts(node: ast.expr, known: dict[str, set[str]]) -> set[str]:
    """What an argument can be: itself, a constant, or what the module passes to the parameter that it is."""
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    assert name in known, f"{ast.unparse(node)} is no constant: RBAC cannot be told"
    return known[name]


def asked_by(is_doctor: bool) -> set[Right]:
    """What the doctor's modules ask for, or those that run in the pods of stages."""
    sources = {each: each.read_text() for each in CLUSTER.rglob("*.py") if each.name not in OF_PERSONS}
    constant: dict[str, str] = {}
    for source in sources.values():
        constant |= constants(ast.parse(source))
    chosen = [source for place, source in sources.items() if (DOCTOR in place.parts) == is_doctor]
    return {right for source in chosen for right in asked(source, constant) if right[1] not in OF_ALL}


def granted(objects: list[Object], account: str, *roles: str) -> set[Right]:
    """What the Roles that are bound to a service account give it; of those of that name where names are given."""
    bound = {
        (each["roleRef"]["kind"], each["roleRef"]["name"])
        for each in of_kind(objects, "RoleBinding", "ClusterRoleBinding")
        if any(subject["kind"] == "ServiceAccount" and subject["name"] == account for subject in each["subjects"])
    }
    return {
        (group, resource, verb)
        for role in of_kind(objects, "Role", "ClusterRole")
        if (role["kind"], role["metadata"]["name"]) in bound and (not roles or role["metadata"]["name"] in roles)
        for rule in role.get("rules") or []
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


OVERLAYS = [each for each in APPLIED if each.startswith("overlays/") and "profile" not in each]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_stages_may_do_what_the_code_does_and_nothing_else(overlay: str) -> None:
    assert granted(built(overlay), "selfloop", "selfloop-stages", "selfloop-leases") == asked_by(is_doctor=False)


def test_where_kfp_serves_many_users_stages_have_the_rights_that_the_doctor_looks_for() -> None:
    wanted = {(group, resource, verb) for verb, group, resource, _ in RUNS}
    assert granted(built("overlays/kubeflow"), "selfloop", "selfloop-kfp-api") == wanted


@pytest.mark.parametrize("overlay", OF_KFP)
def test_a_run_that_is_begun_in_the_ui_may_hold_leases_and_nothing_else(overlay: str) -> None:
    leases = {right for right in asked_by(is_doctor=False) if right[1] == "leases"}
    assert granted(built(overlay), OF_KFP[overlay]) == leases == granted(built(overlay), "selfloop", "selfloop-leases")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_doctor_may_look_at_what_it_looks_at_and_nothing_else(overlay: str) -> None:
    assert granted(built(overlay), "selfloop-doctor", "selfloop-doctor") == asked_by(is_doctor=True)


def test_nothing_else_speaks_to_kubernetes() -> None:
    for place in CLUSTER.parent.rglob("*.py"):
        if not place.is_relative_to(CLUSTER):
            imports = [
                node for node in ast.walk(ast.parse(place.read_text())) if isinstance(node, ast.ImportFrom | ast.Import)
            ]
            roots = {getattr(node, "module", None) or each.name for node in imports for each in node.names}
            assert not {root for root in roots if root.partition(".")[0] == "kubernetes"}, place


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_stages_write(overlay: str) -> None:
    objects = built(overlay)
    accounts = [each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")]
    writing = {
        name
        for name in accounts
        if any(verb in WRITES and resource not in REVIEWS for _, resource, verb in granted(objects, name))
    }
    assert writing == {"selfloop", "selfloop-confined"}
    assert granted(objects, "selfloop-training") == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_confined_stage_may_do_what_kfp_s_launcher_does_and_nothing_else(overlay: str) -> None:
    objects = built(overlay)
    assert granted(objects, "selfloop-confined") == granted(objects, "selfloop", "selfloop-kfp")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_binding_leads_from_an_account_of_ours_or_kfp_s_to_a_role_of_here(overlay: str) -> None:
    objects = built(overlay)
    names = {named(each) for each in objects} | {f"ServiceAccount {OF_KFP.get(overlay, '')}"}
    (namespace,) = {each["metadata"]["namespace"] for each in of_kind(objects, "ServiceAccount")}
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        role = binding["roleRef"]
        assert f"{role['kind']} {role['name']}" in names
        for subject in binding["subjects"]:
            assert f"{subject['kind']} {subject['name']}" in names
            assert subject["namespace"] == namespace


def test_what_kfp_asks_in_the_same_pods_is_the_same_everywhere() -> None:
    """Read from KFP 2.17's launcher and driver and Argo's executor; secrets and config maps by name only."""
    expected = {
        ("argoproj.io", "workflowtaskresults", "create"),
        ("argoproj.io", "workflowtaskresults", "patch"),
        ("", "pods", "get"),
        ("", "configmaps", "get"),
        ("", "secrets", "get"),
    }
    for overlay in OVERLAYS:
        assert granted(built(overlay), "selfloop", "selfloop-kfp") == expected
        for role in of_kind(built(overlay), "Role"):
            for rule in role.get("rules") or []:
                named_only = {"secrets", "configmaps"} & set(rule["resources"])
                assert not named_only or rule["resourceNames"], role["metadata"]["name"]
                assert "*" not in [*rule["resources"], *rule["verbs"], *rule["apiGroups"]]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("client.CoreV1Api().read_namespaced_pod_log('a', 'b')", ("", "pods/log", "get")),
        ("wait(api.replace_namespaced_lease)", ("coordination.k8s.io", "leases", "update")),
        ("api.list_node()", ("", "nodes", "list")),
        (
            "G, P = 'g.io', 'things'\napi.delete_namespaced_custom_object(G, 'v1', space, P, name)",
            ("g.io", "things", "delete"),
        ),
        (
            "def f(kind):\n    ask(api.get_cluster_custom_object, 'g.io', 'v1', kind)\nf('things')",
            ("g.io", "things", "get"),
        ),
        ("api.list_cluster_custom_object('g.io', 'v1', plural='things')", ("g.io", "things", "list")),
        (
            "api.create_self_subject_access_review(body)",
            ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
        ),
    ],
)
def test_the_code_is_read_rightly(source: str, expected: Right) -> None:
    assert set(asked(source)) == {expected}


def test_what_is_not_known_is_no_right_by_silence() -> None:
    with pytest.raises(AssertionError, match="does not know"):
        list(asked("api.read_namespaced_endpoints('a', 'b')"))
    with pytest.raises(AssertionError, match="no constant"):
        list(asked("api.get_namespaced_custom_object(group(), 'v1', 'n', 'things', 'a')"))
