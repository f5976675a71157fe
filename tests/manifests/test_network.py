"""Who reaches whom, as the NetworkPolicies of an overlay say: worked out for all pods and ports that there are."""

from typing import Any, NamedTuple

import pytest

from .building import APPLIED, Object, built, of_kind, pod_templates

pytestmark = pytest.mark.debian("kustomize")

Labels = dict[str, str]


class Place(NamedTuple):
    """A pod with one of its ports, or an address outside all clusters."""

    name: str
    namespace: str
    labels: Labels
    port: int


def place(name: str, namespace: str, port: int, **labels: str) -> Place:
    return Place(
        name, namespace, {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}, port
    )


STAGE: Labels = {"pipelines.kubeflow.org/v2_component": "true"}
OTHERS = [
    place("names", "kube-system", 53, k8s_app="kube-dns"),
    place("kfp", "kubeflow", 8888, app="ml-pipeline"),
    place("kfp by gRPC", "kubeflow", 8887, app="ml-pipeline"),
    place("metadata", "kubeflow", 8080, component="metadata-grpc-server"),
    place("kfp's store", "kubeflow", 8333, app="seaweedfs"),
    place("kfp's store's identities", "kubeflow", 8111, app="seaweedfs"),
    place("kfp's database", "kubeflow", 3306, app="mysql"),
    place("a stranger", "default", 80, app="web"),
]
"""What others run: the labels are those of KFP 2.17 and of Kubernetes."""
PROXY: Labels = {"app": "ml-pipeline-ui-artifact"}
ADDRESSES = {
    "kubernetes": ("10.96.0.1", 443),
    "the internet": ("93.184.215.14", 443),
    "a metadata service": ("169.254.169.254", 80),
}

BY_ALL = {"names"}
BY_STAGES = BY_ALL | {"kfp", "kfp by gRPC", "metadata", "kfp's store", "kubernetes", "mlflow"}


def own(objects: list[Object]) -> list[Place]:
    """The pods of an overlay, a place for each of their ports."""
    found = []
    for thing in objects:
        for template in pod_templates(thing):
            ports = [port["containerPort"] for each in template["spec"]["containers"] for port in each.get("ports", [])]
            namespace, labels = thing["metadata"]["namespace"], template["metadata"]["labels"]
            name = labels["app.kubernetes.io/name"]
            found += [Place(name, namespace, labels, port) for port in ports or [1]]
    return found


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def is_peer(peer: dict[str, Any], namespace: str, pod: Place) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" not in peer:
        is_there = pod.namespace == namespace
    else:
        is_there = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace})
    return is_there and selects(peer.get("podSelector", {}), pod.labels)


def is_within(address: str, block: dict[str, Any]) -> bool:
    from ipaddress import ip_address, ip_network

    inside = ip_address(address) in ip_network(block["cidr"])
    return inside and not any(ip_address(address) in ip_network(each) for each in block.get("except", []))


def rules(objects: list[Object], way: str, pod: Place) -> list[tuple[str, dict[str, Any]]] | None:
    """The rules that hold for a pod; none at all where no policy does, and all is open."""
    policies = [
        each["spec"] | {"namespace": each["metadata"]["namespace"]}
        for each in of_kind(objects, "NetworkPolicy")
        if each["metadata"]["namespace"] == pod.namespace
        and selects(each["spec"]["podSelector"], pod.labels)
        and way.capitalize() in each["spec"]["policyTypes"]
    ]
    return [(each["namespace"], rule) for each in policies for rule in each.get(way, [])] if policies else None


def opens(rule: dict[str, Any], port: int) -> bool:
    return "ports" not in rule or any(each["port"] == port for each in rule["ports"])


def reaches(objects: list[Object], source: Place, target: Place) -> bool:
    leaving, entering = rules(objects, "egress", source), rules(objects, "ingress", target)
    is_let_out = leaving is None or any(
        opens(rule, target.port) and any(is_peer(peer, namespace, target) for peer in rule["to"])
        for namespace, rule in leaving
    )
    is_let_in = entering is None or any(
        opens(rule, target.port) and any(is_peer(peer, namespace, source) for peer in rule["from"])
        for namespace, rule in entering
    )
    return is_let_out and is_let_in


def reaches_address(objects: list[Object], source: Place, address: str, port: int) -> bool:
    leaving = rules(objects, "egress", source)
    return leaving is None or any(
        opens(rule, port) and any("ipBlock" in peer and is_within(address, peer["ipBlock"]) for peer in rule["to"])
        for _, rule in leaving
    )


def reached(objects: list[Object], source: Place) -> set[str]:
    """The names of all that a pod reaches."""
    pods = {target.name for target in [*own(objects), *OTHERS] if reaches(objects, source, target)}
    return pods | {
        name for name, (address, port) in ADDRESSES.items() if reaches_address(objects, source, address, port)
    }


def of_overlay(name: str) -> tuple[list[Object], str]:
    return built(f"overlays/{name}"), "kubeflow" if name == "kind" else "selfloop"


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [("kind", BY_STAGES), ("kubeflow", BY_STAGES), ("gpu", BY_STAGES), ("dev", BY_STAGES | {"minio"})],
)
def test_stages_reach_what_they_need_and_nothing_else(overlay: str, expected: set[str]) -> None:
    objects, namespace = of_overlay(overlay)
    assert reached(objects, Place("stage", namespace, STAGE, 1)) == expected


@pytest.mark.parametrize("overlay", ["kind", "kubeflow", "dev"])
def test_services_reach_only_what_they_serve_from(overlay: str) -> None:
    objects, _ = of_overlay(overlay)
    expected = {"mlflow": BY_ALL | {"mlflow-postgres"}, "mlflow-postgres": BY_ALL}
    expected |= {"minio": BY_ALL, "minio-bucket": BY_ALL | {"minio"}} if overlay == "dev" else {}
    services = [each for each in own(objects) if each.name not in ("doctor", "training")]
    assert {each.name: reached(objects, each) for each in services} == expected


@pytest.mark.parametrize("overlay", ["kubeflow", "gpu"])
def test_nodes_of_a_training_reach_each_other_and_the_store(overlay: str) -> None:
    objects, _ = of_overlay(overlay)
    (node,) = {each.name: each for each in own(objects) if each.name == "training"}.values()
    assert reached(objects, node) == BY_ALL | {"training", "kfp's store"}


@pytest.mark.parametrize("overlay", ["kind", "kubeflow", "dev"])
def test_the_doctor_reaches_what_stages_reach(overlay: str) -> None:
    objects, namespace = of_overlay(overlay)
    (doctor,) = [each for each in own(objects) if each.name == "doctor"]
    assert reached(objects, doctor) == reached(objects, Place("stage", namespace, STAGE, 1))


@pytest.mark.parametrize("overlay", ["kubeflow", "gpu", "dev"])
def test_nobody_else_is_let_in_or_out(overlay: str) -> None:
    objects, namespace = of_overlay(overlay)
    stranger = Place("stranger", "default", {"app": "web"}, 1)
    inside = Place("inside", namespace, {"app": "web"}, 80)
    assert not any(reaches(objects, stranger, target) for target in [*own(objects), inside])
    assert reached(objects, inside) == BY_ALL


def test_on_kind_the_pods_of_kfp_are_left_alone() -> None:
    objects, _ = of_overlay("kind")
    for pod in (each for each in OTHERS if each.namespace == "kubeflow"):
        assert rules(objects, "egress", pod) is None
        assert rules(objects, "ingress", pod) is None


def test_with_the_component_outside_stages_reach_public_addresses_alone(tmp_path: Any) -> None:
    from .building import with_component

    objects = with_component("outside", tmp_path)
    assert reached(objects, Place("stage", "selfloop", STAGE, 1)) & set(ADDRESSES) == {"kubernetes", "the internet"}


def test_every_selector_matches_pods_that_there_are() -> None:
    pods = [pod for name in APPLIED for pod in own(built(name))] + OTHERS
    labels = [pod.labels for pod in pods] + [STAGE, PROXY]
    for name in APPLIED:
        for policy in of_kind(built(name), "NetworkPolicy"):
            spec = policy["spec"]
            peers = [peer for rule in spec.get("egress", []) for peer in rule["to"]]
            peers += [peer for rule in spec.get("ingress", []) for peer in rule["from"]]
            for selector in (spec["podSelector"], *(peer.get("podSelector", {}) for peer in peers)):
                assert any(selects(selector, each) for each in labels), (policy["metadata"]["name"], selector)


@pytest.mark.parametrize("name", APPLIED)
def test_services_find_their_pods(name: str) -> None:
    objects = built(name)
    templates = [template for thing in objects for template in pod_templates(thing)]
    for service in of_kind(objects, "Service"):
        found = [
            each
            for each in templates
            if selects({"matchLabels": service["spec"]["selector"]}, each["metadata"]["labels"])
        ]
        (template,) = found
        names = {port["name"] for each in template["spec"]["containers"] for port in each["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
