"""What a cluster keeps of a run: the Argo workflow that KFP makes of a pipeline, with the state of its nodes.

Kubernetes keeps both as one object of a megabyte at most: the workflow as it is, the state compressed. Neither is known
from the size of the pipeline. KFP writes each task twice into the workflow, and Argo notes six nodes for each, of which
two hold what its driver is told and six what its pod is started with. So both are made here, as KFP 2.17 and Argo 4.0
make them and with names, addresses and digests of the length that they have there, and are measured. What the pipeline
does not say stands in ``MEASURED``.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Spec = dict[str, Any]
LIMIT = 2**20
"""Bytes of the largest workflow that Argo writes; etcd takes little more in one request."""


class Measured(NamedTuple):
    """What only a cluster tells (Kubernetes 1.34, Argo 4.0.5, KFP 2.17.0). With these, the sizes that were measured
    there are met within a tenth, one within a fifth: see ``tests/modes/test_argo.py``.
    """

    templates: int = 12_000
    """Bytes of what every workflow has: KFP's own templates, and what Kubernetes notes of the whole."""
    said: int = 12
    """Digits that a stage notes on an artifact (``pods.DIGITS``); where these were measured, some two hundred."""
    spare: float = 0.08
    """The part of the object that stays free for attempts that are made again, each of which is one more node."""


MEASURED = Measured()
ROOM = int(LIMIT * (1 - MEASURED.spare))
"""Bytes that a run may come to."""


class Cost(NamedTuple):
    """Bytes of a run whose rounds are all run: its workflow, and the state of its nodes, whole and compressed."""

    workflow: int
    nodes: int
    state: int
    compressed: int

    @property
    def stored(self) -> int:
        """Bytes of the object that a cluster keeps."""
        return self.workflow + self.compressed


def cost(spec: Spec, platform: Spec | None = None) -> Cost:
    """What a compiled pipeline comes to, with what it asks of Kubernetes."""
    return Cost(workflow_of(spec, platform), *state_of(nodes_of(spec, platform)))


def workflow_of(spec: Spec, platform: Spec | None = None) -> int:
    """Bytes of the workflow that a compiled pipeline becomes."""
    return _Run(spec, platform or {}).workflow()


def nodes_of(spec: Spec, platform: Spec | None = None) -> list[Spec]:
    """The nodes of a run of a compiled pipeline each of whose tasks has run once."""
    return list(_Run(spec, platform or {}).nodes())


def state_of(nodes: list[Spec]) -> tuple[int, int, int]:
    """How many nodes, and the bytes of their state, whole and compressed."""
    state = _text({node["id"]: node for node in nodes}).encode()
    return len(nodes), len(state), len(zlib.compress(state)) * 4 // 3


def _text(value: Any) -> str:
    """JSON as Go writes it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _digits(*of: object) -> str:
    """Digits that stand for some of the run's, and compress as badly."""
    return hashlib.sha256(repr(of).encode()).hexdigest()


def _uuid(*of: object) -> str:
    digits = _digits(*of)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _parameters(values: Mapping[str, str]) -> Spec:
    return {"parameters": [{"name": name, "value": value} for name, value in values.items()]}


DRIVEN = {"execution-id": "17", "iteration-count": "0", "condition": "true"}
"""What the driver of a graph says; that of a stage says what its pod is started with."""
LAUNCHER = (
    "--pod_name=$(KFP_POD_NAME) --pod_uid=$(KFP_POD_UID) --ml_pipeline_server_port=8887 --mlmd_server_port=8080 "
    "--ml_pipeline_server_address=ml-pipeline.kubeflow.svc.cluster.local --publish_logs=true --publish_logs=true "
    "--mlmd_server_address=metadata-grpc-service.kubeflow.svc.cluster.local --"
)
"""What is told every pod, about."""


SESSION = _text(
    {
        "Provider": "minio",
        "Params": {
            "accessKeyKey": "accesskey",
            "disableSSL": "true",
            "endpoint": "seaweedfs.kubeflow.svc:9000",
            "fromEnv": "false",
            "region": "minio",
            "secretKeyKey": "secretkey",
            "secretName": "mlpipeline-minio-artifact",
        },
    }
)
"""How one gets to the store of an artifact, as KFP notes it on each."""


class _Run:
    """A pipeline on a cluster."""

    def __init__(self, spec: Spec, platform: Spec) -> None:
        self.pipeline = spec["pipelineInfo"]["name"]
        self.name = f"{self.pipeline}-x7k2p"
        self.uuid = _uuid(self.name)
        self.components: dict[str, Spec] = {"root": spec["root"]} | spec["components"]
        self.components = {name: _waiting(each) for name, each in self.components.items()}
        self.executors = spec["deploymentSpec"]["executors"]
        kubernetes = platform.get("platforms", {}).get("kubernetes", {})
        self.asked = kubernetes.get("deploymentSpec", {}).get("executors", {})
        self.form = {
            name: each.get("defaultValue")
            for name, each in spec["root"].get("inputDefinitions", {}).get("parameters", {}).items()
        }
        self.arguments = dict(self._arguments())

    def _arguments(self) -> Iterator[tuple[str, str]]:
        """What the workflow holds once: each component, its container, and what it asks of Kubernetes."""
        for name, component in self.components.items():
            yield f"components-{_digits(name)}", _text(component)
            if label := component.get("executorLabel"):
                yield f"implementations-{_digits(name)}", _text(self.executors[label]["container"])
                yield f"kubernetes-{name}", _text(self.asked.get(label, {}))

    def _told(self, task: str, about: Spec) -> dict[str, str]:
        """What the driver of a task is told; long texts by the names of arguments."""
        name = about["componentRef"]["name"]
        told = {"component": f"components-{_digits(name)}", "task": _text(about), "task-name": task}
        if "dag" not in self.components[name]:
            told |= {"container": f"implementations-{_digits(name)}", "kubernetes-config": f"kubernetes-{name}"}
        return told | {"parent-dag-id": "17", "iteration-index": "-1"}

    # the workflow

    def workflow(self) -> int:
        """Its bytes: the arguments, and the tasks of each graph."""
        graphs = [each["dag"]["tasks"] for each in self.components.values() if "dag" in each]
        templates = [list(self._template(task, about)) for graph in graphs for task, about in graph.items()]
        return len(_text([_parameters(self.arguments), _text(self.form), templates])) + MEASURED.templates

    def _template(self, task: str, about: Spec) -> Iterator[Spec]:
        """A task as Argo has it: its driver, and what the driver lets run."""
        called = about["componentRef"]["name"]
        is_graph = "dag" in self.components[called]
        told = {
            name: f"{{{{workflow.parameters.{value}}}}}" if value in self.arguments else value
            for name, value in self._told(task, about).items()
        }
        waits = " && ".join(f"{each}.Succeeded" for each in about.get("dependentTasks", ()))
        driver = {"name": f"{task}-driver", "template": "system-container-driver", "depends": waits}
        yield driver | {"arguments": _parameters(told)}
        said = ("parent-dag-id", "condition") if is_graph else ("pod-spec-patch", "cached-decision")
        taken = {name: f"{{{{tasks.{task}-driver.outputs.parameters.{name}}}}}" for name in said} | _retries(about)
        after = {"name": task, "template": called if is_graph else EXECUTOR, "depends": f"{task}-driver.Succeeded"}
        yield after | {"arguments": _parameters(taken)}

    # the state of its nodes

    def nodes(self) -> Iterator[Spec]:
        """The nodes of a run whose tasks have all run once."""
        yield from self._both(self.name, "entrypoint", "DAG", {})
        told = {"component": self.arguments[f"components-{_digits('root')}"], "runtime-config": _text(self.form)}
        yield from self._both(f"{self.name}(0).root-driver", "system-dag-driver", "Pod", told, DRIVEN)
        yield from self._graph(f"{self.name}(0).root", "root", {})

    def _graph(self, place: str, name: str, given: Mapping[str, Spec]) -> Iterator[Spec]:
        """A graph and all that is in it; ``given`` are its artifacts, by the names that it has for them."""
        yield from self._both(place, name, "DAG", {"parent-dag-id": "17", "condition": "true"})
        for task, about in self.components[name]["dag"]["tasks"].items():
            yield from self._task(f"{place}(0)", task, about, given)

    def _task(self, around: str, task: str, about: Spec, given: Mapping[str, Spec]) -> Iterator[Spec]:
        place, name = f"{around}.{task}", about["componentRef"]["name"]
        sources = about.get("inputs", {}).get("artifacts", {})
        inputs = {key: self._artifact(around, source, given) for key, source in sources.items()}
        told = {key: self.arguments.get(value, value) for key, value in self._told(task, about).items()}
        if "dag" not in self.components[name]:
            yield from self._stage(place, about, told, self._pod(place, task, about, inputs))
        elif "parameterIterator" in about:
            yield from self._both(place, f"{name}-{task}-iterator", "DAG", {"parent-dag-id": "17"})
            yield from self._both(f"{place}(0).iteration-driver", "system-dag-driver", "Pod", told, DRIVEN)
            yield self._node(f"{place}(0).iteration", "TaskGroup", f"{name}-iteration", {}, {})
            for number in range(len(json.loads(about["parameterIterator"]["items"]["raw"]))):
                turn = f"{place}(0).iteration({number}:{number})"
                yield from self._both(turn, f"{name}-iteration", "DAG", {"parent-dag-id": "17", "iteration-index": "0"})
                yield from self._both(f"{turn}(0).iteration-item-driver", "system-dag-driver", "Pod", told, DRIVEN)
                yield from self._graph(f"{turn}(0).iteration-item", name, inputs)
        else:
            yield from self._both(f"{place}-driver", "system-dag-driver", "Pod", told, DRIVEN)
            yield from self._graph(place, name, inputs)

    def _stage(self, place: str, about: Spec, told: Mapping[str, str], pod: str) -> Iterator[Spec]:
        """A stage: its driver, which says what its pod is started with, and the executor, which is told so twice."""
        started = {"pod-spec-patch": pod, "cached-decision": "false"} | _retries(about)
        said = {"pod-spec-patch": pod, "cached-decision": "false", "condition": "true"}
        yield from self._both(f"{place}-driver", "system-container-driver", "Pod", told, said)
        yield from self._both(place, EXECUTOR, "DAG", started)
        yield from self._both(f"{place}(0).executor", "retry-system-container-impl", "Pod", started)

    def _both(
        self, place: str, template: str, kind: str, inputs: Mapping[str, str], outputs: Mapping[str, str] = {}
    ) -> Iterator[Spec]:
        """What runs, and above it what would run it again: KFP's configuration of Argo gives each template that."""
        yield self._node(place, "Retry", template, inputs, outputs)
        yield self._node(f"{place}(0)", kind, template, inputs, outputs)

    def _node(
        self, place: str, kind: str, template: str, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> Spec:
        digits = _digits(place)
        said = [
            {"name": name, "value": value, "valueFrom": {"path": f"/tmp/outputs/{name}", "default": ""}}  # noqa: S108
            for name, value in outputs.items()
        ]
        log = {"key": f"private-artifacts/kubeflow/{self.name}/2026/11/29/{self.name}-{template}-{digits[:10]}"}
        ended: Spec = {"parameters": said, "artifacts": [{"name": "main-logs", "s3": log}], "exitCode": "0"}
        return {
            "id": self._id(place),
            "name": place,
            "displayName": place.rpartition(".")[2],
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self.name}",
            "phase": "Succeeded",
            "boundaryID": self._id(place.rpartition(".")[0]),
            "startedAt": f"2026-11-29T{digits[:2]}:{digits[2:4]}:{digits[4:6]}Z",
            "finishedAt": f"2026-11-29T{digits[6:8]}:{digits[8:10]}:{digits[10:12]}Z",
            "progress": "1/1",
            "resourcesDuration": {"cpu": int(digits[:2], 16), "memory": int(digits[2:5], 16)},
            "nodeFlag": {"retried": True},
            "inputs": _parameters(inputs),
            "outputs": ended if kind == "Pod" or outputs else {},
            "children": [self._id(place, 1)],
            "hostNodeName": "node-1",
            "outboundNodes": [self._id(place, 2)] if kind == "DAG" else [],
        }

    def _id(self, *of: object) -> str:
        return f"{self.name}-{int(_digits(*of)[:8], 16)}"

    # what a pod is started with

    def _uri(self, around: str, task: str, key: str) -> str:
        """Where an output of a task lies."""
        folder = f"minio://mlpipeline/v2/artifacts/{self.pipeline}/{self.uuid}/{task}"
        return f"{folder}/{_uuid(around, task)}/{key}"

    def _artifact(self, around: str, source: Spec, given: Mapping[str, Spec]) -> Spec:
        """An input: made by a task beside the one that takes it, or given to the graph around both."""
        if "componentInputArtifact" in source:
            return given[source["componentInputArtifact"]]
        made = source["taskOutputArtifact"]
        uri = self._uri(around, made["producerTask"], made["outputArtifactKey"])
        about = {"display_name": made["outputArtifactKey"], "store_session_info": SESSION}
        about["digest"] = "".join(_digits(uri, part) for part in range(3))[: MEASURED.said]
        return {"artifacts": [{"name": "117", "uri": uri, "metadata": about}]}

    def _pod(self, place: str, task: str, about: Spec, inputs: Mapping[str, Spec]) -> str:
        """What KFP has Argo lay over the pod of a task."""
        component = self.components[about["componentRef"]["name"]]
        container = self.executors[component["executorLabel"]]["container"]
        asked = self.asked.get(component["executorLabel"], {})
        told = _text(self._executor_input(place, task, about, component, inputs))
        launcher = [
            "/kfp-launcher/launch",
            "--pipeline_name",
            self.pipeline,
            "--run_id",
            self.uuid,
            "--execution_id",
            "117",
        ]
        launcher += ["--executor_input", told, "--component_spec", _text(component), LAUNCHER]
        volumes, mounts = _volumes(asked)
        main = {
            "name": "main",
            "image": container["image"],
            "command": launcher,
            "args": [*container.get("command", ()), *container.get("args", ())],
            "env": [*container.get("env", ()), *_environment(asked)],
            "resources": container.get("resources", {}),
            "volumeMounts": mounts,
        }
        return _text({"volumes": volumes, "containers": [main], "tolerations": asked.get("tolerations", [])})

    def _executor_input(self, place: str, task: str, about: Spec, component: Spec, inputs: Mapping[str, Spec]) -> Spec:
        around, made = place.rpartition(".")[0], component.get("outputDefinitions", {})
        outputs = {
            name: {"artifacts": [{"name": name, "uri": self._uri(around, task, name), "type": each["artifactType"]}]}
            for name, each in (made.get("artifacts", {}) | {"executor-logs": {"artifactType": {}}}).items()
        }
        values = {
            name: source.get("runtimeValue", {}).get("constant", self.form.get(name))
            for name, source in about.get("inputs", {}).get("parameters", {}).items()
        }
        files = {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in made.get("parameters", {})}  # noqa: S108
        file = self._uri(around, task, "output_metadata.json").replace("://", "/")
        return {
            "inputs": {"parameterValues": values, "artifacts": inputs},
            "outputs": {"parameters": files, "artifacts": outputs, "outputFile": f"/{file}"},
        }


EXECUTOR = "retry-system-container-executor"


def _waiting(component: Spec) -> Spec:
    """A component each of whose tasks says of all others that it waits for them, as KFP writes it out."""
    if "dag" not in component:
        return component
    tasks = {
        name: about | {"dependentTasks": sorted({*about.get("dependentTasks", ()), *_producers(about)})}
        for name, about in component["dag"]["tasks"].items()
    }
    return component | {"dag": component["dag"] | {"tasks": tasks}}


def _producers(about: Spec) -> Iterator[str]:
    """The tasks of which a task takes something."""
    for source in (source for side in about.get("inputs", {}).values() for source in side.values()):
        for kind in ("taskOutputArtifact", "taskOutputParameter"):
            if kind in source:
                yield source[kind]["producerTask"]


def _retries(about: Spec) -> dict[str, str]:
    policy = about.get("retryPolicy", {})
    return {f"retry-{name}": str(value) for name, value in policy.items()}


def _environment(asked: Spec) -> list[Spec]:
    """The variables of a pod that come from secrets and config maps, one by one, as KFP writes them."""
    return [
        {"name": each["envVar"], "valueFrom": {kind: {"name": _named(source), "key": each[key], "optional": True}}}
        for kind, sources, key in (
            ("secretKeyRef", "secretAsEnv", "secretKey"),
            ("configMapKeyRef", "configMapAsEnv", "configMapKey"),
        )
        for source in asked.get(sources, ())
        for each in source["keyToEnv"]
    ]


def _volumes(asked: Spec) -> tuple[list[Spec], list[Spec]]:
    """The volumes of a pod, and where they are mounted."""
    named = [
        (each.get("volumeName") or _named(each), each)
        for kind in ("pvcMount", "emptyDirMounts", "secretAsVolume", "configMapAsVolume")
        for each in asked.get(kind, ())
    ]
    volumes = [{"name": name, "source": {"name": name, "optional": False}} for name, _ in named]
    return volumes, [{"name": name, "mountPath": each["mountPath"]} for name, each in named]


def _named(source: Spec) -> str:
    """The name of the secret, config map or claim that something is taken from."""
    names = (source.get(f"{kind}NameParameter") for kind in ("secret", "configMap", "pvc"))
    return next(str(name["runtimeValue"]["constant"]) for name in names if name)
