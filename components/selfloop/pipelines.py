"""Recipes as pipelines: compiled into a file, submitted to Kubeflow Pipelines, scheduled there.

What ``selfloop compile``, ``submit`` and ``schedule`` do, from Python.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.errors import UserError
from selfloop.places import check_output
from selfloop.profiles import Profile, find_profile
from selfloop.recipe import Recipe, find_recipe
from selfloop.settings import Settings

if TYPE_CHECKING:
    from selfloop.cluster.connection import Connection
    from selfloop.cluster.uploads import Package


class Pipeline(NamedTuple):
    """A compiled pipeline: its file, what it was made of, and how many of the rounds one run of it holds."""

    file: Path
    recipe: Recipe[Any]
    settings: Settings
    profile: Profile
    rounds_a_run: int


class Submitted(NamedTuple):
    """A run that was begun on a cluster, or a schedule: its id there, where it can be seen, and its pipeline's name and
    version. ``rounds_a_run`` of the ``rounds`` are in one run, which begins the next. ``connection`` is the way to the
    cluster.
    """

    id: str
    name: str
    url: str
    recipe: str
    version: str
    rounds: int
    rounds_a_run: int
    connection: Connection


def compile_pipeline(
    recipe: str | Recipe[Any],
    output: str | Path,
    *overrides: Mapping[str, Any],
    profile: str = "cpu",
    image_prefix: str | None = None,
    fused: bool | None = None,
    rounds_a_run: int | None = None,
    control: bool = False,
    **settings: Any,
) -> Pipeline:
    """Write a recipe as a pipeline for the UI of Kubeflow Pipelines, into a ``.yaml`` file.

    Recipe and settings are given as to ``run``; those of the ``profile``, a name of ``selfloop list profiles`` or a
    ``.toml`` file, lie under them. ``image_prefix`` is the registry and folder of the images. ``fused`` is a pod a
    round, ``False`` a pod a stage, where the profile is not to say. A run holds ``rounds_a_run``, or as many as a
    cluster keeps. Raises ``UserError`` for what recipe, environment, profile or cluster would refuse.
    """
    from selfloop.modes import compiling

    file = Path(output)
    check_output(file)
    found = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
    hardware = find_profile(profile)
    hardware = hardware.with_prefix(image_prefix) if image_prefix else hardware
    under = (hardware.settings_for(found, *overrides, settings), found.control if control else {})
    resolved = found.resolve(*under, *overrides, settings)
    held = compiling.compile_pipeline(found, resolved, file, hardware.is_fused(fused), hardware, rounds_a_run)
    return Pipeline(file, found, resolved, hardware, held)


def submit(
    recipe: str | Recipe[Any],
    *overrides: Mapping[str, Any],
    kfp: str | None = None,
    namespace: str = "selfloop",
    ca_file: str | Path | None = None,
    experiment: str | None = None,
    origin: str | None = None,
    seed: int | None = None,
    **how: Any,
) -> Submitted:
    """Begin a run of a recipe on a cluster.

    ``kfp`` is the address of Kubeflow Pipelines (``SELFLOOP_KFP_ENDPOINT`` where it is left out), ``ca_file`` holds
    certificates to trust. ``experiment`` is one of KFP, called after the loop where it is left out; ``origin``
    continues from ``champion``, ``NAME@champion`` or ``NAME/VERSION``. Everything else is as for
    ``compile_pipeline``. Raises ``UserError`` where the cluster does not answer or refuses.
    """
    with _uploaded(recipe, overrides, how, kfp, namespace, ca_file, experiment) as (made, connection, place):
        from selfloop.cluster import runs  # which is there, once that was found

        values = runs.parameters(place.package, seed, origin)
        id = runs.submit(connection, place.package, place.version, place.experiment, values)
        return _submitted(made, place, id, id, connection.run_url(id), connection)


def schedule(
    recipe: str | Recipe[Any],
    *overrides: Mapping[str, Any],
    cron: str | None = None,
    every: str | None = None,
    name: str | None = None,
    kfp: str | None = None,
    namespace: str = "selfloop",
    ca_file: str | Path | None = None,
    experiment: str | None = None,
    seed: int | None = None,
    **how: Any,
) -> Submitted:
    """Let a recipe run again and again on a cluster, each time from the loop's champion with its state.

    Either ``cron``, five fields in UTC (``"0 2 * * *"``), or ``every`` (``"30m"``, ``"6h"``, ``"1d"``). The schedule is
    called ``name``, or as its experiment. Everything else is as for ``submit``.
    """
    check_installed()
    from selfloop.cluster import runs, schedules

    when = schedules.trigger(cron, every)
    with _uploaded(recipe, overrides, how, kfp, namespace, ca_file, experiment) as (made, connection, place):
        values = runs.parameters(place.package, seed, schedules.CHAMPION)
        called = name or experiment or made.settings.loop
        id = schedules.schedule(connection, called, place.package, place.version, place.experiment, when, values)
        return _submitted(made, place, id, called, "", connection)


def check_installed() -> None:
    """Refuse where the extra that speaks to a cluster is not installed."""
    try:
        import selfloop.cluster.schedules  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'selfloop[cluster]'.") from None


class _Place(NamedTuple):
    """Where a pipeline is in KFP."""

    package: Package
    version: Any
    experiment: str


@contextmanager
def _uploaded(
    recipe: str | Recipe[Any],
    overrides: tuple[Mapping[str, Any], ...],
    how: Mapping[str, Any],
    kfp: str | None,
    namespace: str,
    ca_file: str | Path | None,
    experiment: str | None,
) -> Iterator[tuple[Pipeline, Connection, _Place]]:
    """A recipe's pipeline in KFP, where it is uploaded unless it is there."""
    check_installed()
    from selfloop.cluster import uploads
    from selfloop.cluster.connection import connect

    connection = connect(kfp, namespace, Path(ca_file) if ca_file else None)
    with packaged(recipe, *overrides, **how) as (made, package):
        connection.check()
        version = uploads.uploaded(connection, package)
        yield (
            made,
            connection,
            _Place(package, version, uploads.experiment(connection, experiment or made.settings.loop)),
        )


@contextmanager
def packaged(
    recipe: str | Recipe[Any], *overrides: Mapping[str, Any], **how: Any
) -> Iterator[tuple[Pipeline, Package]]:
    """A recipe's pipeline in a file that stays for the block, as it is uploaded."""
    from selfloop.cluster.uploads import Package

    with tempfile.TemporaryDirectory() as folder:
        made = compile_pipeline(recipe, Path(folder, "loop.yaml"), *overrides, **how)
        yield made, Package(made.recipe.label, made.recipe.target, made.file, made.profile.cluster.service_account)


def _submitted(made: Pipeline, place: _Place, id: str, name: str, url: str, connection: Connection) -> Submitted:
    package = place.package
    rounds = made.settings.rounds
    return Submitted(id, name, url, package.recipe, package.version, rounds, made.rounds_a_run, connection)
