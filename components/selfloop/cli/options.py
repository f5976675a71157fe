"""The options that several commands have, and the settings that they come to."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from selfloop.errors import UserError
from selfloop.profiles import read_toml
from selfloop.recipe import Recipe
from selfloop.settings import Settings
from selfloop.trust import trust


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
