"""The real ML Metadata store, and what KFP's driver and launcher write to it for a compiled pipeline (2.17).

A driver publishes an execution with an event for each artifact that its task takes; a launcher publishes what the task
has made, with events of the other kind. Where an input comes from is asked of the store, as a driver asks it.
"""

from __future__ import annotations

import json
from graphlib import TopologicalSorter
from typing import Any

from ml_metadata import proto
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as extension
from ml_metadata.proto import metadata_store_service_pb2 as service

Spec = dict[str, Any]
Artifacts = dict[str, list[int]]
INPUT, OUTPUT = proto.Event.INPUT, proto.Event.OUTPUT


class RefusedError(Exception):
    """What the store says of a request that it refuses."""


class Store:
    """A store in memory. It takes and gives the messages of its service, as it does behind KFP's."""

    def __init__(self) -> None:
        config = proto.ConnectionConfig()
        config.fake_database.SetInParent()
        self._store = extension.CreateMetadataStore(config.SerializeToString(), b"")

    def __call__(self, method: str, **fields: Any) -> Any:
        request = getattr(service, f"{method}Request")(**fields)
        answer, message, code = getattr(extension, method)(self._store, request.SerializeToString())
        if code:
            raise RefusedError(message.decode())
        return getattr(service, f"{method}Response").FromString(answer)


class Run:
    """A run of a pipeline each of whose tasks has been run once."""

    def __init__(self, store: Store, spec: Spec) -> None:
        self.store, self._components = store, spec["components"]
        self._made: dict[tuple[int, str], list[int]] = {}
        """The executions of a task in a graph: one, or one for each turn of a loop."""
        self._selected: dict[int, dict[str, tuple[str, str]]] = {}
        """For each output of a graph, the task in it that makes it, and what the task calls it."""
        self._context = proto.Context(name="run", type_id=self._type("Context", "system.PipelineRun"))
        self._context.id = store("PutContexts", contexts=[self._context]).context_ids[0]
        self._graph(self._driven("DAGExecution", "", 0, {}), spec["root"])

    def _type(self, kind: str, name: str) -> int:
        field = f"{kind.lower()}_type"
        made = getattr(proto, f"{kind}Type")(name=name)
        return int(self.store(f"Put{kind}Type", **{field: made}).type_id)

    def _graph(self, graph: int, component: Spec) -> None:
        tasks = component["dag"]["tasks"]
        waits = {name: set(about.get("dependentTasks", ())) | _producers(about) for name, about in tasks.items()}
        for name in TopologicalSorter(waits).static_order():
            self._task(graph, name, tasks[name])

    def _task(self, graph: int, name: str, about: Spec) -> None:
        component = self._components[about["componentRef"]["name"]]
        sources = about.get("inputs", {}).get("artifacts", {})
        given = {key: self._source(graph, source) for key, source in sources.items()}
        if "dag" not in component:
            execution = self._driven("ContainerExecution", name, graph, given)
            self._launched(execution, component)
            self._made[graph, name] = [execution]
            return
        execution = self._driven("DAGExecution", name, graph, given)
        self._made[graph, name] = [execution]
        if "parameterIterator" in about:
            inside, turns = self._events(execution, INPUT), json.loads(about["parameterIterator"]["items"]["raw"])
            self._made[graph, name] = [self._driven("DAGExecution", name, execution, inside) for _ in turns]
        selected = component["dag"].get("outputs", {}).get("artifacts", {})
        for each in self._made[graph, name]:
            self._graph(each, component)
            self._selected[each] = {key: _selector(of) for key, of in selected.items()}

    def _driven(self, kind: str, name: str, graph: int, given: Artifacts) -> int:
        """What a driver publishes."""
        execution = proto.Execution(type_id=self._type("Execution", f"system.{kind}"))
        execution.custom_properties["task_name"].string_value = name
        execution.custom_properties["parent_dag_id"].int_value = graph
        execution.last_known_state = proto.Execution.RUNNING
        events = [_event(INPUT, key, id) for key, ids in given.items() for id in ids]
        return self._put(execution, events)

    def _launched(self, execution: int, component: Spec) -> None:
        """What a launcher publishes once the task has ended."""
        events = []
        for key, about in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            type_id = self._type("Artifact", about["artifactType"]["schemaTitle"])
            made = proto.Artifact(type_id=type_id, uri=f"minio://mlpipeline/{execution}/{key}")
            events.append(_event(OUTPUT, key, self.store("PutArtifacts", artifacts=[made]).artifact_ids[0]))
        found = self.store("GetExecutionsByID", execution_ids=[execution]).executions[0]
        found.last_known_state = proto.Execution.COMPLETE
        self._put(found, events)

    def _put(self, execution: Any, events: list[Any]) -> int:
        pairs = [service.PutExecutionRequest.ArtifactAndEvent(event=event) for event in events]
        put = self.store("PutExecution", execution=execution, artifact_event_pairs=pairs, contexts=[self._context])
        return int(put.execution_id)

    def _source(self, graph: int, source: Spec) -> list[int]:
        """The artifacts of an input: of the graph around its task, or of a task beside it."""
        if "componentInputArtifact" in source:
            return self._events(graph, INPUT)[source["componentInputArtifact"]]
        made = source["taskOutputArtifact"]
        return self._outputs(graph, made["producerTask"], made["outputArtifactKey"])

    def _outputs(self, graph: int, name: str, key: str) -> list[int]:
        """What a task made under this name; what each of its tasks made, where it is a graph or several."""
        found: list[int] = []
        for execution in self._made[graph, name]:
            made = self._selected.get(execution, {}).get(key)
            found += self._outputs(execution, *made) if made else self._events(execution, OUTPUT)[key]
        return found

    def _events(self, execution: int, kind: int) -> Artifacts:
        """The artifacts that an execution took, or made, by the names that it has for them."""
        found: Artifacts = {}
        for event in self.store("GetEventsByExecutionIDs", execution_ids=[execution]).events:
            if event.type == kind:
                found.setdefault(event.path.steps[0].key, []).append(event.artifact_id)
        return found


def _event(kind: int, key: str, artifact: int) -> Any:
    path = proto.Event.Path(steps=[proto.Event.Path.Step(key=key)])
    return proto.Event(type=kind, artifact_id=artifact, path=path)


def _selector(output: Spec) -> tuple[str, str]:
    (made,) = output["artifactSelectors"]
    return made["producerSubtask"], made["outputArtifactKey"]


def _producers(about: Spec) -> set[str]:
    """The tasks of whose outputs a task takes one."""
    sources = [source for side in about.get("inputs", {}).values() for source in side.values()]
    made = [each[kind] for each in sources for kind in ("taskOutputArtifact", "taskOutputParameter") if kind in each]
    return {each["producerTask"] for each in made}
