"""Compiled pipelines in KFP: a pipeline is named after its recipe, a version of it after what it contains."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml
from kfp_server_api import (
    ExperimentServiceApi,
    PipelineServiceApi,
    PipelineUploadServiceApi,
    V2beta1Experiment,
    V2beta1Pipeline,
    V2beta1PipelineVersionReference,
)

from selfloop import __version__
from selfloop.cluster.connection import Connection, RefusedError
from selfloop.errors import UserError

LABEL = re.compile(r"round (\d+) · (.+)")


@dataclass(frozen=True)
class Package:
    """A recipe's compiled pipeline, as a file."""

    recipe: str
    owner: str
    """What the recipe is loaded from: ``module:attribute``."""
    file: Path
    service_account: str = "selfloop"
    """What the pods of its stages run as."""
    digest: str = field(init=False)
    form: frozenset[str] = field(init=False)
    """The names of the pipeline's parameters."""
    description: str = field(init=False)
    """What it is for and what its form takes, in Markdown."""

    def __post_init__(self) -> None:
        whole = self.file.read_bytes()
        spec = next(yaml.load_all(whole, Loader=yaml.CSafeLoader))
        inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        object.__setattr__(self, "digest", hashlib.sha256(whole).hexdigest())
        object.__setattr__(self, "form", frozenset(inputs))
        object.__setattr__(self, "description", spec["pipelineInfo"].get("description", ""))

    @property
    def mark(self) -> str:
        """The line by which a pipeline of this recipe is known, whichever version it was made with."""
        return f"A loop of selfloop, `{self.owner}`."

    @property
    def version(self) -> str:
        """The version's name: equal for equal contents."""
        return f"{__version__}-{self.digest[:12]}"


class Task(NamedTuple):
    """A task of a pipeline: the round that it is in and the stage that it is; a round of -1 where it is in none."""

    round: int
    stage: str

    def after(self, rounds: int) -> Task:
        """The same task, with the number that its round has where so many came before."""
        return self if self.round < 1 else Task(self.round + rounds, self.stage)

    @property
    def title(self) -> str:
        """As the KFP UI names it."""
        return self.stage if self.round < 0 else f"round {self.round} · {self.stage}"

    @property
    def short(self) -> str:
        """As a person types it."""
        return self.stage if self.round < 0 else f"{self.round}/{self.stage}"


class Planned(NamedTuple):
    """A task in its place: the names that KFP gives it and the graphs around it, and how many pods share its work.

    The names are those of the pipeline's specification, and equal in every round; only the place is not.
    """

    task: Task
    path: tuple[str, ...]
    pods: int = 1

    @property
    def key(self) -> str:
        """Its own name."""
        return self.path[-1]


def named(key: str, value: str) -> str:
    """A filter for one value, as the API takes it: quoted once more than any other text in an address."""
    return quote(json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]}))


def uploaded(connection: Connection, package: Package) -> V2beta1PipelineVersionReference:
    """The version in KFP that holds this package: found, or uploaded."""
    pipeline_id = _pipeline(connection, package)
    versions = PipelineUploadServiceApi(connection.client)
    described = f"sha256 {package.digest[:32]} {package.digest[32:]}"  # the UI breaks no word

    def upload() -> Any:
        return versions.upload_pipeline_version(
            str(package.file), name=package.version, pipelineid=pipeline_id, description=described
        )

    def find() -> Any:
        return _version(connection, pipeline_id, package)

    version = find() or connection.create(upload, find)
    if version.description != described:
        raise UserError(
            f"Version {package.version} of the pipeline '{package.recipe}' at {connection.endpoint} has other content: "
            "delete it there, and try again."
        )
    return V2beta1PipelineVersionReference(
        pipeline_id=pipeline_id, pipeline_version_id=str(version.pipeline_version_id)
    )


def _pipeline(connection: Connection, package: Package) -> str:
    """The id of the recipe's pipeline, which must be of this recipe and no other."""
    pipelines = PipelineServiceApi(connection.client)
    described = f"{package.description}\n\n{package.mark} Inputs are those of version {package.version}.".strip()
    wanted = V2beta1Pipeline(
        name=package.recipe, display_name=package.recipe, description=described, **connection.scope
    )

    def find() -> Any:
        try:
            return connection.call(pipelines.pipeline_service_get_pipeline_by_name, package.recipe, **connection.scope)
        except RefusedError as error:
            if error.status != 404:
                raise
            return None

    pipeline = find() or connection.create(lambda: pipelines.pipeline_service_create_pipeline(wanted), find)
    if package.mark not in (pipeline.description or ""):
        raise UserError(
            f"There is a pipeline '{package.recipe}' at {connection.endpoint} already, and it is not made from "
            f"{package.owner}: give your recipe another name, or delete that pipeline there."
        )
    return str(pipeline.pipeline_id)


def _version(connection: Connection, pipeline_id: str, package: Package) -> Any:
    found = connection.listed(
        PipelineServiceApi(connection.client).pipeline_service_list_pipeline_versions,
        "pipeline_versions",
        pipeline_id,
        filter=named("name", package.version),
    )
    return next((version for version in found if version.name == package.version), None)


def experiment(connection: Connection, name: str) -> str:
    """The id of the experiment of this name: found, or created."""
    experiments = ExperimentServiceApi(connection.client)
    wanted = V2beta1Experiment(display_name=name, **connection.scope)

    def find() -> Any:
        found = connection.listed(
            experiments.experiment_service_list_experiments,
            "experiments",
            filter=named("display_name", name),
            **connection.scope,
        )
        return next(found, None)

    found = find() or connection.create(lambda: experiments.experiment_service_create_experiment(wanted), find)
    return str(found.experiment_id)


def plan(connection: Connection, reference: V2beta1PipelineVersionReference) -> list[Planned]:
    """The tasks of a version in the order of their work."""
    version = connection.call(
        PipelineServiceApi(connection.client).pipeline_service_get_pipeline_version,
        reference.pipeline_id,
        reference.pipeline_version_id,
    )
    spec = version.pipeline_spec or {}
    spec = spec.get("pipeline_spec", spec)
    return list(planned(spec["root"]["dag"], spec.get("components", {}))) if "root" in spec else []


def planned(
    dag: Mapping[str, Any], components: Mapping[str, Any], around: tuple[str, ...] = (), pods: int = 1
) -> Iterator[Planned]:
    """The tasks of a graph, and of the graphs in it, in the order of their work."""
    tasks = dag["tasks"]
    order = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in tasks.items()})
    for name in order.static_order():
        task, path = tasks[name], (*around, name)
        below = components[task["componentRef"]["name"]].get("dag")
        if below:
            yield from planned(below, components, path, pods * _shards(task))
        else:
            label = task.get("taskInfo", {}).get("name", name)
            found = LABEL.fullmatch(label)
            yield Planned(Task(int(found[1]), found[2]) if found else Task(-1, label), path, pods)


def _shards(task: Mapping[str, Any]) -> int:
    """Over how many items a graph is repeated side by side."""
    items = task.get("parameterIterator", {}).get("items", {}).get("raw")
    return len(json.loads(items)) if items else 1
