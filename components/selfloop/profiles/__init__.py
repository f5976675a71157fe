"""A profile says what hardware a loop has: the resources of its stages, where their images and secrets are, and the
settings that go with them. One comes by its name, or from the user's own TOML file, which may extend another.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from selfloop import __version__
from selfloop.costs import Price
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.recipe import Recipe
from selfloop.resources import Compute, Name, Request, Resources
from selfloop.settings import overlaid
from selfloop.stages import INHERITED, Stage, validated

SHARED = ("shards", "nodes")
"""Parameters that say how many pods, or nodes, share the work of a stage."""
PROVIDED = ("cpu", "one-gpu", "eight-gpu", "multi-node")
"""The profiles that come with selfloop, the smallest hardware first."""


class Part(BaseModel):
    """A part of a profile: no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Registry(Part):
    """Where the images are, and how they are pulled."""

    prefix: str = Field(
        "selfloop", pattern=r"^[\w.\-:/]*[\w]$", description="Registry and folder of the images: registry/folder."
    )
    tag: str = Field(__version__, pattern=r"^\w[\w.\-]{0,127}$", description="Their tag; by default this version.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="When a node pulls an image."
    )
    pull_secrets: list[Name] = Field([], description="Secrets that the registry wants, of the kind dockerconfigjson.")


class Secret(Part):
    """A Secret of the namespace; its keys become environment variables of the same names."""

    name: Name = Field(min_length=1, description="Its name.")
    keys: list[str] = Field(min_length=1, description="Its keys.")
    optional: bool = Field(False, description="Whether a pod starts without it.")
    stages: list[str] = Field([], description="Verbs of the stages whose pods get it; empty: all.")


class Cluster(Part):
    """Names in the namespace that the pods run in."""

    service_account: Name = Field("selfloop", min_length=1, description="What the stages' pods run as.")
    config_map: Name = Field("selfloop-config", description="Where MLflow, the store and KFP are; empty: not said.")
    secrets: list[Secret] = Field(
        [
            Secret(name="selfloop-s3", keys=["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
            Secret(
                name="selfloop-mlflow",
                keys=["MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"],
                optional=True,
                stages=["resolve", "start", "close", "round"],
            ),
            Secret(name="selfloop-hub", keys=["HF_TOKEN"], optional=True, stages=["start", "propose", "draw", "round"]),
            Secret(name="selfloop-webhook", keys=["SELFLOOP_WEBHOOK_URL"], optional=True, stages=["close", "round"]),
        ],
        description="Credentials, by reference.",
    )
    cache_claim: Name = Field(
        "selfloop-models", description="PersistentVolumeClaim of the cache of models; empty: it goes with the pod."
    )


class Profile(Part):
    """What the stages of a loop run on.

    A field of a stage's resources is what ``stages`` says under the stage's verb; where that is silent, ``images``
    under its image; then the stage itself; then ``default``.
    """

    name: str = Field(min_length=1, description="What it is called.")
    description: str = Field("", description="What it is for, in a line.")
    fused: bool = Field(
        False, description="Whether a pod runs a whole round, for stages that take less time than a pod to start."
    )
    registry: Registry = Field(Registry(), description="Where the images are, and how they are pulled.")
    cluster: Cluster = Field(Cluster(), description="Names in the namespace that the pods run in.")
    default: Request = Field(Request(), description="Resources where neither the profile nor the stage says more.")
    images: dict[str, Request] = Field({}, description="Resources of the stages that run in an image.")
    stages: dict[str, Request] = Field({}, description="Resources of a stage, by its verb, such as generate.")
    nodes: Compute = Field(
        Compute(), description="What a node has where a training spans several; as its stage where nothing is said."
    )
    price: Price = Field(Price(), description="What an hour of this hardware costs, in USD.")
    settings: dict[str, dict[str, Any]] = Field(
        {}, description="Parameters of stages that go with the hardware, for the recipes that have them."
    )

    def resources(self, stage: Stage) -> Resources:
        """What a stage asks of the cluster. One that must not be retried is not, unless its own table says so."""
        own = _said(stage.resources)
        shared = overlaid(overlaid(_said(self.default), own), _said(self.images.get(stage.image, Request())))
        if own.get("retries") == 0:
            shared["retries"] = 0
        values = overlaid(shared, _said(self.stages.get(stage.verb, Request())))
        return validated(Resources, values, f"stage '{stage.verb}' in profile '{self.name}'")

    def is_fused(self, chosen: bool | None) -> bool:
        """Whether a pod runs a whole round: as was chosen, else as these loops are best run."""
        return self.fused if chosen is None else chosen

    def node(self, stage: Stage) -> Compute:
        """What each node has where the training of a stage spans several: as the stage's pod, where nothing is said."""
        return Compute(**self.resources(stage).model_dump(include={*Compute.model_fields}) | _said(self.nodes))

    def settings_for(self, recipe: Recipe[Any], *chosen: Mapping[str, Any], in_pods: bool = True) -> dict[str, Any]:
        """Those of its settings that a recipe has, and its prices: they lie under what the user has ``chosen``. What is
        chosen for the whole loop, as the engine, is chosen for the stages that the profile names, too. Outside of pods
        no work is shared by several.
        """
        stages = recipe.settings.stages()
        left_out = {name for each in chosen for name in each if name in INHERITED} | (
            {*SHARED} if not in_pods else set()
        )
        under = {
            name: {key: value for key, value in values.items() if key in stages[name].model_fields.keys() - left_out}
            for name, values in self.settings.items()
            if name in stages
        }
        price = ",".join(f"{name}={value}" for name, value in self.price.model_dump(exclude_unset=True).items())
        return {name: values for name, values in under.items() if values} | ({"price": price} if price else {})

    def with_prefix(self, prefix: str) -> Profile:
        """This profile with the images of another registry or folder."""
        registry = validated(Registry, self.registry.model_dump() | {"prefix": prefix}, "--image-prefix")
        return self.model_copy(update={"registry": registry})


def profiles() -> dict[str, Profile]:
    """The profiles that come with selfloop, by name."""
    return {name: find_profile(name) for name in PROVIDED}


def find_profile(name: str) -> Profile:
    """A profile by its name, or of a TOML file. Raises ``UserError`` with one sentence for what does not fit."""
    return validated(Profile, {"name": Path(name).stem} | _values(name), f"profile '{name}'")


def _values(name: str, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """A profile's values, laid over those of the one that it extends."""
    place = _place(name)
    if name in extending:
        raise UserError(f"Profile '{name}' extends itself: take 'extends' out of {' or '.join(extending)}.")
    values = read_toml(place, "profile", name)
    parent = values.pop("extends", "")
    if not parent:
        return values
    if not isinstance(parent, str):
        raise UserError(f"'extends' of profile '{name}' is {parent!r}: give the name of one profile.")
    if parent.endswith(".toml") and isinstance(place, Path):
        parent = str(place.parent / parent)
    below = _values(parent, (*extending, name))
    inherited = {key: value for key, value in below.items() if key not in ("name", "description")}
    return overlaid(inherited, values)


def _place(name: str) -> Traversable:
    """The file of a profile: one's own, or one that comes with selfloop."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in PROVIDED:
        raise unknown("profile", name, PROVIDED)
    return files(__name__) / f"{name}.toml"


def read_toml(place: Traversable, kind: str, name: str) -> dict[str, Any]:
    """What a TOML file says. Raises ``UserError`` for one that cannot be read, by its kind and its name."""
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read the {kind} {name}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{name} is not TOML: {error}.") from None


def _said(request: Compute) -> dict[str, Any]:
    return request.model_dump(exclude_unset=True)
