"""The options that several commands have, and the settings that they come to."""

from __future__ import annotations

import functools
import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from selfloop import pipelines
from selfloop.errors import UserError
from selfloop.profiles import read_toml
from selfloop.recipe import Recipe
from selfloop.settings import Settings
from selfloop.trust import trust

if TYPE_CHECKING:
    from selfloop.cluster.connection import Connection


def said(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse an option that is given and says nothing."""
    if value is not None and not value.strip():
        raise UserError(f"{parameter.opts[0]} says nothing: give it a value, or leave it out.")
    return value


RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, module:attribute, or a .py file.")]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override any parameter: --set finetune.lr=3e-4.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="A TOML file with settings.")]
FormName = Annotated[
    str | None,
    typer.Option("--form", help="One of the recipe's forms, a paper's settings; see 'selfloop list forms'."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Rounds = Annotated[int | None, typer.Option("--rounds", help="Rounds at most.")]
RoundsARun = Annotated[
    int | None,
    typer.Option(
        "--rounds-a-run", min=1, help="Rounds of one run on a cluster; others continue it. Default: what fits."
    ),
]
EnvironmentName = Annotated[
    str | None, typer.Option("--environment", help="The taskset; see 'selfloop list environments'.")
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy", help="'scratch', a directory, a model id of the Hub, gguf:FILE, models:/NAME@ALIAS, s3://..."
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="What the loop may spend in all: tokens=1e9,hours=12,usd=40, or one of them.",
        callback=said,
    ),
]
EngineChoice = Annotated[
    str | None,
    typer.Option("--engine", help="What decodes, in every stage that asks a policy: auto, transformers, vllm."),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow; default: the file runs/mlflow.db.", callback=said),
]
StoreUri = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="SELFLOOP_STORE",
        help="Where policies are kept: a folder or s3://...; default: beside MLflow.",
    ),
]
Unsafe = Annotated[
    bool, typer.Option("--unsafe-no-sandbox", help="Run generated code unprotected; it is noted in the lineage.")
]
TrustCode = Annotated[
    list[str],
    typer.Option(
        "--trust-code",
        metavar="SHA256",
        callback=trust,
        help="Run a policy's own Python code, named by its digest; may be given again.",
    ),
]
ProfileName = Annotated[
    str, typer.Option("--profile", help="The cluster's hardware: a name of 'selfloop list profiles', or a .toml file.")
]
ImagePrefix = Annotated[
    str | None,
    typer.Option(
        "--image-prefix", envvar="IMAGE_PREFIX", help="Registry and folder of the images; default: the profile's."
    ),
]
Fused = Annotated[
    bool | None,
    typer.Option("--fused/--pods", help="A pod a round, or a pod a stage; default: as the profile says."),
]
Control = Annotated[bool, typer.Option("--control", help="The recipe's control arm: same steps, no data of its own.")]
Kfp = Annotated[
    str | None,
    typer.Option("--kfp", envvar="SELFLOOP_KFP_ENDPOINT", help="Address of Kubeflow Pipelines, as in a browser."),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="SELFLOOP_NAMESPACE", help="Namespace where the loops run.")
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", help="Certificates to trust; default: SSL_CERT_FILE, or the public ones.")
]

Experiment = Annotated[
    str | None, typer.Option("--experiment", help="Experiment in KFP; default: the loop's name in MLflow's registry.")
]


class Group:
    """Options that several commands have: in the signature of a command that is ``grouped``, it stands for all."""


@dataclass(frozen=True, kw_only=True)
class SettingsOptions(Group):
    """What the settings of a run are made of."""

    config: ConfigFile = None
    sets: Sets = field(default_factory=list)
    form: FormName = None
    rounds: Rounds = None
    environment: EnvironmentName = None
    policy: PolicyName = None
    engine: EngineChoice = None
    budget: BudgetOption = None
    control: Control = False
    trust_code: TrustCode = field(default_factory=list)

    def overrides(self, recipe: Recipe[Any], **more: Any) -> list[Mapping[str, Any]]:
        """What they lay over a recipe's settings, with the values of ``more`` options."""
        names = ("form", "rounds", "environment", "policy", "engine", "budget")
        return overrides(recipe, self.config, self.sets, {name: getattr(self, name) for name in names} | more)


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(SettingsOptions):
    """What a pipeline is compiled from: the settings, and what it runs on."""

    rounds_a_run: RoundsARun = None
    fused: Fused = None
    profile: ProfileName = "cpu"
    image_prefix: ImagePrefix = None

    @property
    def how(self) -> dict[str, Any]:
        """How a pipeline is compiled, beside its settings."""
        return {name: getattr(self, name) for name in ("profile", "image_prefix", "fused", "rounds_a_run", "control")}


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(Group):
    """Where Kubeflow Pipelines is."""

    kfp: Kfp = None
    namespace: Namespace = "selfloop"
    ca_file: CaFile = None

    def connected(self) -> Connection:
        """The way to the API, which has answered."""
        pipelines.check_installed()
        from selfloop.cluster.connection import connect

        connection = connect(self.kfp, self.namespace, self.ca_file)
        connection.check()
        return connection


@dataclass(frozen=True, kw_only=True)
class RunOptions(ClusterOptions):
    """Where a run begins, and its seed, which the form of a compiled pipeline takes."""

    experiment: Experiment = None
    seed: Seed = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: in the place of each parameter that is a ``Group`` stand its options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: kind for name, kind in hints.items() if inspect.isclass(kind) and issubclass(kind, Group)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            of_group = get_type_hints(groups[name], include_extras=True)
            parameters += [_option(each.name, of_group[each.name], _default(each)) for each in fields(groups[name])]
        else:
            parameters.append(_option(name, hints[name], parameter.default))

    @functools.wraps(command)
    def flat(**given: Any) -> None:
        made = {
            name: kind(**{each.name: given.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **made)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    return flat


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


def overrides(
    recipe: Recipe[Any], config: Path | None, sets: list[str], given: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """What a person lays over a recipe's settings: the file, ``--set``, and the options of their own, in this order."""
    return [
        read_toml(config, "configuration", str(config)) if config else {},
        *(_from_set(recipe.settings, text) for text in sets),
        {name: value for name, value in given.items() if value is not None},
    ]


def _from_set(settings: type[Settings], text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes KEY=VALUE, not '{text}'.")
    is_text = settings.annotation(key) is str and value[:1] not in ("'", '"')
    try:
        parsed: Any = value if is_text else tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return dict(parsed)
