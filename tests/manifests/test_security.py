"""No pod asks for more than PodSecurity's standard `restricted`, no file holds a secret, no image moves."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import selfloop

from .building import APPLIED, COMPONENTS, MANIFESTS, Object, built, containers, named, of_kind, pod_templates
from .building import with_component as with_component_of

pytestmark = pytest.mark.debian("kustomize")

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
OWN_IMAGES = {"base", "generate", "finetune", "rl", "sandbox"}
WITH_TOKEN = {"CronJob selfloop-doctor"}


def beyond_restricted(template: Object) -> Iterator[str]:
    """What PodSecurity would refuse, rule by rule of the standard."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    if pod.get("sysctls") or pod.get("seLinuxOptions") or pod.get("windowsOptions"):
        yield "sysctls, SELinux or Windows"
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    for container in containers(template):
        own = container.get("securityContext", {})
        both = {**pod, **own}
        rules = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities": "ALL" in own.get("capabilities", {}).get("drop", [])
            and set(own["capabilities"].get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        }
        yield from (f"{rule} of {container['name']}" for rule, is_kept in rules.items() if not is_kept)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """All that any installation can have."""
    found = [thing for place in APPLIED for thing in built(place)]
    for name in COMPONENTS:
        found += with_component_of(name, tmp_path_factory.mktemp(name))
    return found


@pytest.fixture(scope="module")
def templates(everything: list[Object]) -> list[tuple[str, Object]]:
    found = [(named(thing), template) for thing in everything for template in pod_templates(thing)]
    assert {"Deployment mlflow", "Deployment minio", "TrainingRuntime selfloop-torch"} <= {name for name, _ in found}
    return found


def test_every_pod_is_restricted_but_the_one_that_writes_to_nodes(templates: list[tuple[str, Object]]) -> None:
    refused = {name: sorted(beyond_restricted(template)) for name, template in templates}
    assert {name: why for name, why in refused.items() if why} == {
        "DaemonSet selfloop-seccomp": ["runAsNonRoot of copy", "runAsUser of copy", "volume node"]
    }


def test_the_standard_is_enforced() -> None:
    (namespace,) = of_kind(built("base"), "Namespace")
    assert {namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{how}"] for how in ("enforce", "warn")} == {
        "restricted"
    }


def test_no_root_file_system_can_be_written_and_memory_is_bounded(templates: list[tuple[str, Object]]) -> None:
    for name, template in templates:
        for container in containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name


def test_only_the_doctor_has_a_token(templates: list[tuple[str, Object]]) -> None:
    assert {name for name, each in templates if each["spec"].get("automountServiceAccountToken", True)} == WITH_TOKEN


def test_no_service_sets_a_variable(templates: list[tuple[str, Object]]) -> None:
    """Beside a Service mlflow there would be an MLFLOW_PORT, which MLflow takes for a setting of its own."""
    assert all(template["spec"]["enableServiceLinks"] is False for _, template in templates)


def test_what_serves_is_probed(everything: list[Object]) -> None:
    for thing in of_kind(everything, "Deployment", "StatefulSet"):
        (container,) = containers(pod_templates(thing)[0])
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), named(thing)


def test_each_image_is_of_one_version(templates: list[tuple[str, Object]]) -> None:
    for name, template in templates:
        for image in (container["image"] for container in containers(template)):
            place, _, tag = image.partition("@")[0].rpartition(":")
            assert tag not in ("", "latest"), name
            if place.startswith("selfloop/"):
                assert (place.removeprefix("selfloop/") in OWN_IMAGES, tag) == (True, selfloop.__version__), name
            elif "@" in image:
                assert re.fullmatch(r"sha256:[0-9a-f]{64}", image.partition("@")[2]), name
            else:
                assert re.fullmatch(r"v\d+\.\d+\.\d+(-full)?", tag), name


def test_nothing_makes_a_secret(everything: list[Object]) -> None:
    assert not of_kind(everything, "Secret")


def test_no_variable_holds_a_secret_by_value(everything: list[Object], templates: list[tuple[str, Object]]) -> None:
    secret = re.compile("PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL")
    for thing in of_kind(everything, "ConfigMap"):
        assert not list(filter(secret.search, thing["data"])), named(thing)
    for name, template in templates:
        for variable in (each for container in containers(template) for each in container.get("env", [])):
            if secret.search(variable["name"]):
                assert "secretKeyRef" in variable.get("valueFrom", {}), (name, variable["name"])


def entropy(text: str) -> float:
    """Bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def suspicious(text: str) -> list[str]:
    """What looks like a key or a password: known prefixes, and long strings of letters and digits without a pattern."""
    text = re.sub(r"sha256:[0-9a-f]{64}", "", text)
    known = re.findall(
        r"AKIA[0-9A-Z]{12,}|hf_\w{20,}|gh[pousr]_\w{20,}|xox[bp]-\S+|-----BEGIN [A-Z ]*PRIVATE KEY", text
    )
    drawn = [word for word in re.findall(r"[A-Za-z0-9+/=_]{20,}", text) if re.search(r"\d", word) and entropy(word) > 4]
    given = re.findall(
        r"(?i:password|secret|token)\w*[ \t]*[:=][ \t]*['\"]?(?![$A-Z]|/dev/|selfloop|secret)[\w+/-]{8,}", text
    )
    return known + drawn + given


@pytest.mark.parametrize("place", sorted(p for p in MANIFESTS.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_no_file_holds_a_secret(place: Path) -> None:
    assert suspicious(place.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "aws: AKIAIOSFODNN7EXAMPLE",
        "key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY9",
        "HF_TOKEN: hf_abcdefghijklmnopqrstuvwxyz",
        "password: correcthorse",
    ],
)
def test_a_secret_would_be_seen(text: str) -> None:
    assert suspicious(text)
