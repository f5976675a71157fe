"""A compiled pipeline made small, so that many rounds fit into what a cluster's database takes.

KFP repeats a component for every use, hands every condition on to all that is nested below it, and names an input after
all that it went through. Here equal executors and components stand once, a sub-graph takes what it uses, what it takes
is called as the stage that made it calls it, and a task waits for the last of those that it needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

CHANNEL = "pipelinechannel--"
SIGNATURE = "#"
"""Begins an argument that tells a component from another with the same container, which KFP takes for one."""
Spec = dict[str, Any]


def compacted(spec: Spec, platform: Spec | None = None) -> Spec:
    """The same pipeline in fewer words; ``platform`` is what Kubernetes is to give each of its executors."""
    graphs = list(_inwards(spec, spec["root"]["dag"]))
    for dag in _dags(spec):
        _rename(dag, graphs)
        _reduce(dag)
    _drop_defaults(spec)
    _drop_old(spec, platform or {})
    for name in reversed(graphs):
        _prune(spec, name)
    for name in graphs:
        _shorten(spec, name)
    return _set_apart(merged(spec, platform), platform)


def _inwards(spec: Spec, dag: Spec) -> Iterator[str]:
    """The sub-graphs, each before those that are in it."""
    for task in dag["tasks"].values():
        name = task["componentRef"]["name"]
        if "dag" in spec["components"][name]:
            yield name
            yield from _inwards(spec, spec["components"][name]["dag"])


def _dags(spec: Spec) -> list[Spec]:
    return [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]


def _use(spec: Spec, graph: str) -> Spec:
    """The task that runs a sub-graph."""
    tasks = (task for dag in _dags(spec) for task in dag["tasks"].values())
    return next(task for task in tasks if task["componentRef"]["name"] == graph)


def _rename(dag: Spec, graphs: Collection[str]) -> None:
    """Name sub-graphs as they are shown, ``round-7``: the UI says by these names where one is. No other task has a name
    that is taken: the UI finds what a task made by its name alone, in whichever sub-graph it is.
    """
    names = {
        name: task["taskInfo"]["name"] if task["componentRef"]["name"] in graphs else name
        for name, task in dag["tasks"].items()
    }
    _renamed(dag, names)


def _renamed(dag: Spec, names: Mapping[str, str]) -> None:
    dag["tasks"] = {names[old]: task for old, task in dag["tasks"].items()}
    for node in _nodes(dag):
        for key in ("producerTask", "producerSubtask"):
            if key in node:
                node[key] = names[node[key]]
        if "dependentTasks" in node:
            node["dependentTasks"] = sorted(names[old] for old in node["dependentTasks"])


def _drop_defaults(spec: Spec) -> None:
    """Drop what KFP says twice, or what is so anyway: a cache that is off, the version of its types of artifacts."""
    for dag in _dags(spec):
        for task in dag["tasks"].values():
            if not task.get("cachingOptions", {}).get("enableCache"):
                task.pop("cachingOptions", None)
    for component in spec["components"].values():
        for side in ("inputDefinitions", "outputDefinitions"):
            for artifact in component.get(side, {}).get("artifacts", {}).values():
                artifact["artifactType"].pop("schemaVersion", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        args = executor["container"].get("args", [])
        args[:] = [each for each in args if not each.startswith(SIGNATURE)]


OLD = {
    "resourceCpuLimit": "cpuLimit",
    "resourceCpuRequest": "cpuRequest",
    "resourceMemoryLimit": "memoryLimit",
    "resourceMemoryRequest": "memoryRequest",
    "resourceType": "type",
    "resourceCount": "count",
    "pvcNameParameter": "constant",
    "secretNameParameter": "secretName",
    "configMapNameParameter": "configMapName",
}
"""For each field of an executor the one from which KFP's backend took the same before it took both: 2.17 reads it only
where the first is missing.
"""


def _drop_old(spec: Spec, platform: Spec) -> None:
    """Drop what executors say a second time for a backend that is older than what compiled them."""
    for node in _nodes([spec["deploymentSpec"]["executors"], platform]):
        for name in OLD.keys() & node.keys():
            node.pop(OLD[name], None)


def _reduce(dag: Spec) -> None:
    """Let a task wait for the last of those that it needs, not also for those that these have waited for."""
    waits = {name: set(task.get("dependentTasks", ())) for name, task in dag["tasks"].items()}

    def before(name: str) -> set[str]:
        return waits[name].union(*(before(each) for each in waits[name]))

    for name, task in dag["tasks"].items():
        implied = set().union(*(before(each) for each in waits[name]))
        if waits[name]:
            task["dependentTasks"] = sorted(waits[name] - implied)


def _nodes(value: Any) -> Iterator[Spec]:
    """Every mapping in a value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _nodes(each)


SIDES = {
    "artifacts": ("componentInputArtifact", "taskOutputArtifact"),
    "parameters": ("componentInputParameter", "taskOutputParameter"),
}
"""For each kind of input: how a task takes it from the graph around it, and how from another task."""


def _prune(spec: Spec, graph: str) -> None:
    """Drop the inputs of a sub-graph that nothing in it uses and no condition or loop on it asks for."""
    component, task = spec["components"][graph], _use(spec, graph)
    asked = str([task.get(name) for name in ("triggerPolicy", "parameterIterator", "artifactIterator")])
    for side, (passed, _) in SIDES.items():
        used = {node[passed] for node in _nodes(component["dag"]) if passed in node}
        defined = component.get("inputDefinitions", {}).get(side, {})
        for name in [name for name in defined if name not in used and f"{name}'" not in asked]:
            del defined[name]
            task["inputs"][side].pop(name, None)


def _shorten(spec: Spec, graph: str) -> None:
    """Call the inputs of a sub-graph as their makers call them."""
    component, task = spec["components"][graph], _use(spec, graph)
    for side, (passed, made) in SIDES.items():
        sources = task.get("inputs", {}).get(side, {})
        names: dict[str, str] = {}
        for old, source in sources.items():
            short = source[passed] if passed in source else _short(source[made]) if made in source else old
            names[old] = short if short not in names.values() else old
        if not names:
            continue
        task["inputs"][side] = {names[old]: source for old, source in sources.items()}
        defined = component["inputDefinitions"][side]
        component["inputDefinitions"][side] = {names.get(old, old): what for old, what in defined.items()}
        for node in _nodes(component["dag"]):
            if passed in node:
                node[passed] = names.get(node[passed], node[passed])
        if "triggerPolicy" in task:
            task["triggerPolicy"]["condition"] = _requoted(task["triggerPolicy"]["condition"], names)


def _requoted(condition: str, names: Mapping[str, str]) -> str:
    return re.sub("'([^']+)'", lambda found: f"'{names.get(found[1], found[1])}'", condition)


def _short(output: Mapping[str, str]) -> str:
    if "outputArtifactKey" in output:
        return re.sub("^(new|next)_", "", output["outputArtifactKey"])
    # kfp.local reads off the name of a condition's input whose output it is
    return f"{CHANNEL}{output['producerTask']}-{output['outputParameterKey']}"


def merged(spec: Spec, platform: Spec | None = None) -> Spec:
    """A pipeline in which equal executors and components stand once."""
    executors, components = spec["deploymentSpec"]["executors"], spec["components"]
    asked = (platform or {}).get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    kept = _first_equals({name: [executor, asked.get(name)] for name, executor in executors.items()})
    for component in components.values():
        if "executorLabel" in component:
            component["executorLabel"] = kept[component["executorLabel"]]
    for named in (executors, asked):
        for name in named.keys() - set(kept.values()):
            del named[name]
    kept = _first_equals(components)
    for dag in _dags(spec):
        for task in dag["tasks"].values():
            task["componentRef"]["name"] = kept[task["componentRef"]["name"]]
    spec["components"] = {name: components[name] for name in sorted(set(kept.values()))}
    return spec


def _set_apart(spec: Spec, platform: Spec | None) -> Spec:
    """Call no component and no executor as the pipeline is called: KFP's loader would take it for the pipeline."""
    called = spec["pipelineInfo"]["name"]
    component, executor = f"comp-{called}", f"exec-{called}"
    for node in _nodes([spec, platform or {}]):
        for old in (component, executor):
            if old in node:
                node[f"{old}-stage"] = node.pop(old)
        if node.get("executorLabel") == executor:
            node["executorLabel"] = f"{executor}-stage"
        if node.get("componentRef", {}).get("name") == component:
            node["componentRef"]["name"] = f"{component}-stage"
    return spec


def _first_equals(named: Mapping[str, Any]) -> dict[str, str]:
    """For each name, the shortest name that has an equal value."""
    seen: dict[str, str] = {}
    names = sorted(named, key=lambda name: (len(name), name))
    return {name: seen.setdefault(json.dumps(named[name], sort_keys=True), name) for name in names}
