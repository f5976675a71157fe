"""What kustomize makes of the manifests, and how each object is checked against the schema of its kind."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from kubeflow_trainer_api.models.trainer_v1alpha1_training_runtime import TrainerV1alpha1TrainingRuntime

from ..conftest import program

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = sorted(place.name for place in (MANIFESTS / "overlays").iterdir() if place.is_dir())
COMPONENTS = sorted(place.name for place in (MANIFESTS / "components").iterdir())
SANDBOX = ["base/sandbox", "base/sandbox-1.34", "base/sandbox-1.30"]
APPLIED = [*(f"overlays/{name}" for name in OVERLAYS), "overlays/kubeflow/profile", *SANDBOX]
"""What a person applies, each by itself."""
OLDEST, NEWEST = "1.33", "1.37"
MUTATING = {"v1": ["1.36", NEWEST], "v1beta1": ["1.34", "1.35"]}
"""The versions of Kubernetes for those of the rules that change pods."""

Object = dict[str, Any]


@cache
def built(place: Path | str) -> list[Object]:
    """The objects of a kustomization below the manifests, or anywhere."""
    command = [program("kustomize") or "kustomize", "build", str(MANIFESTS / place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]


def with_component(name: str, folder: Path) -> list[Object]:
    """The base with one component."""
    relative = os.path.relpath(MANIFESTS, folder.resolve())
    kustomization = {"resources": [f"{relative}/base"], "components": [f"{relative}/components/{name}"]}
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    return built(folder)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def named(thing: Object) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def check(thing: Object) -> None:
    """Hold an object to the schema of its kind. Raises ``AssertionError`` with what does not fit."""
    group = thing["apiVersion"].rpartition("/")[0]
    if group == "trainer.kubeflow.org":
        return _check_runtime(thing)
    if re.search(r"\.k8s\.io$|^[a-z]*$", group) and not group.startswith("kueue."):
        return _check_builtin(thing)
    kind = f"{thing['apiVersion']}/{thing['kind']}"
    assert kind in schemas(), f"no schema of {kind}"
    wrong = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schemas()[kind]).iter_errors(thing)
    ]
    assert not wrong, f"{named(thing)}: {wrong}"
    return None


@cache
def schemas() -> Mapping[str, Any]:
    """The fields of other projects' kinds that the manifests use, recorded from their CRDs; no others are accepted."""
    found: dict[str, Any] = {}
    for place in (Path(__file__).parent / "schemas").glob("*.json"):
        found |= json.loads(place.read_text())
    return found


def _check_builtin(thing: Object) -> None:
    _check_text(json.dumps(thing))


@cache
def _check_text(text: str) -> None:
    thing = json.loads(text)
    is_mutating = thing["kind"].startswith("MutatingAdmissionPolicy")
    for version in MUTATING[thing["apiVersion"].rpartition("/")[2]] if is_mutating else [OLDEST, NEWEST]:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise AssertionError(f"{named(thing)}, Kubernetes {version}: {error.message}") from None


def _check_runtime(thing: Object) -> None:
    assert thing["kind"] == "TrainingRuntime"
    read = TrainerV1alpha1TrainingRuntime.from_dict(thing)
    assert read is not None
    lost = sorted(set(_paths(thing)) - set(_paths(read.to_dict())))
    assert not lost, f"{named(thing)} has what its schema does not: {lost}"
    for template in pod_templates(thing):  # the models check types; the names of resources and such, this
        _check_builtin({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, "spec": template["spec"]})


def _paths(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _paths(inner, f"{place}/{number}")
    else:
        yield f"{place}={value}"


def pod_templates(thing: Object) -> list[Object]:
    """The pods that an object makes."""
    spec = thing.get("spec", {})
    match thing["kind"]:
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            return [spec["template"]]
        case "CronJob":
            return [spec["jobTemplate"]["spec"]["template"]]
        case "TrainingRuntime":
            return [each["template"]["spec"]["template"] for each in spec["template"]["spec"]["replicatedJobs"]]
    assert "template" not in spec, f"{named(thing)} makes pods, and nobody looks at them"
    return []


def containers(template: Object) -> list[Object]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
