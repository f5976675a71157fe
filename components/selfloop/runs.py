"""Runs of loops on this machine: begun or resumed from Python as from the command line, and read again afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.errors import HaltedError, UserError
from selfloop.places import RUNS, check_output, near, registry
from selfloop.recipe import Recipe, find_recipe

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.lineage.tree import Tree
    from selfloop.modes.inprocess import Listener
    from selfloop.settings import Settings

REPORT = "report.html"


class Plan(NamedTuple):
    """What a run will be: its recipe and settings, its folder, and what a person typed for its origin."""

    recipe: Recipe[Any]
    settings: Settings
    folder: Path
    reference: str | None = None


def run(
    recipe: str | Recipe[Any],
    *overrides: Mapping[str, Any],
    output: str | Path | None = None,
    origin: str | None = None,
    control: bool = False,
    profile: str | None = None,
    tracking_uri: str | None = None,
    store: str | None = None,
    listener: Listener | None = None,
    **settings: Any,
) -> Run:
    """Run a recipe in this process, or resume a run that was stopped; what ``selfloop run`` does.

    ``recipe`` is a name of ``selfloop list recipes``, ``module:attribute``, a ``.py`` file or a ``Recipe``.
    Settings are laid over those of the recipe: ``overrides`` in their order, such as what ``tomllib`` reads of a
    configuration, then ``settings``, as ``rounds=3, environment="countdown", finetune={"lr": 1e-4}``. ``control`` is
    the recipe's control arm. Of a ``profile`` the settings and prices apply, under all others; its resources are what a
    cluster is asked for. ``output`` is the run's folder, below ``runs`` and named after the settings where it is
    left out; ``origin`` continues from ``NAME@champion``, ``NAME@previous`` or ``NAME/VERSION``. MLflow and the store
    are those given, else those that the environment names (``MLFLOW_TRACKING_URI``, ``SELFLOOP_STORE``), else beside
    the run's folder. ``listener`` is told as stages begin and end.

    Raises ``UserError`` for settings or places that cannot be used, before any work, and ``HaltedError`` where a guard
    halted the loop: what is finished is kept, and its folder can be read as a ``Run``.
    """
    runs = Path(output).parent if output else RUNS
    with registry(tracking_uri, store, runs):
        found = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
        planned = plan(found, *overrides, settings, output=output, origin=origin, control=control, profile=profile)
        check_places(planned)
        return carry_out(planned, listener)


def plan(
    recipe: Recipe[Any],
    *overrides: Mapping[str, Any],
    output: str | Path | None = None,
    origin: str | None = None,
    control: bool = False,
    profile: str | None = None,
) -> Plan:
    """What a run with these settings will be, of which nothing was done yet. Raises ``UserError`` as ``run`` does."""
    from selfloop.lineage.tracking import check_answers
    from selfloop.modes.noting import check
    from selfloop.profiles import find_profile
    from selfloop.profiles.fitting import check_here

    hardware = find_profile(profile) if profile is not None else None
    under = hardware.settings_for(recipe, *overrides, in_pods=False) if hardware else {}
    laid = [under, recipe.control if control else {}, *overrides]
    settings = recipe.resolve(*laid)
    if hardware:
        check_here(hardware, recipe, settings)
    folder = Path(output) if output else RUNS / f"{recipe.name}-{fingerprint(settings, origin)}"
    if origin is not None:
        check_answers(os.environ["MLFLOW_TRACKING_URI"])
        folder, pinned, first = place_from(origin, folder, output is not None)
        named = {} if settings.model else {"model": pinned.rpartition("/")[0]}
        settings = recipe.resolve(*laid, named, {"origin": pinned, "first": first})
    check(recipe, settings)
    return Plan(recipe, settings, folder, origin)


def check_places(planned: Plan) -> None:
    """Refuse, before any work, a folder, an MLflow or a store that cannot be used, and an engine that is not there."""
    from selfloop.lineage.tracking import check_place

    check_output(planned.folder, is_folder=True)
    stages = (getattr(planned.settings, name) for name in planned.settings.stages())
    if "vllm" in {planned.settings.engine, *(getattr(params, "engine", "") for params in stages)}:
        from selfloop.generate.engines import check_vllm

        check_vllm()
    check_place(os.environ["MLFLOW_TRACKING_URI"], os.environ.get("SELFLOOP_STORE"))


def carry_out(planned: Plan, listener: Listener | None = None) -> Run:
    """Run what is planned, in places that were checked, or resume it. Raises as ``run`` does."""
    from selfloop import lineage
    from selfloop.artifacts import write_json
    from selfloop.modes import inprocess
    from selfloop.report.history import read_history, read_moments
    from selfloop.report.render import render
    from selfloop.settings import whole

    recipe, settings, folder, reference = planned
    page = folder / REPORT
    with (
        inprocess.claimed(folder, recipe, settings, reference),
        lineage.tracked_run(folder.name, whole(settings), folder / inprocess.NOTE, folder / "mlflow") as run_id,
        reported(folder, page),
    ):
        lineage.note_beginning(settings.loop)
        last, measured = inprocess.complete(recipe, settings, folder, listener)
        history, moments = read_history(last.history.path), read_moments(last.history.path)
        champion = str(Path(getattr(last, recipe.roles[0]).path).absolute())
        page.write_text(render(history, moments, measured, champion), encoding="utf-8")
        lineage.finish(run_id, page, measured)
        write_json(folder, dict(measured), inprocess.FINISHED)
    return Run(folder, os.environ["MLFLOW_TRACKING_URI"])


def place_from(reference: str, folder: Path, is_chosen: bool) -> tuple[Path, str, int]:
    """The folder of a run that continues from ``reference``, the origin, pinned, and the number of its first round.

    What an alias named when a run began is kept in its folder, so that the same command resumes it. After a run that is
    finished the same command begins the next one, from what the alias names then, in a folder of its own.
    """
    from selfloop.lineage.rounds import find_origin
    from selfloop.modes.inprocess import FINISHED

    is_fixed = re.fullmatch(r".+[@/]\d+", reference) is not None
    place, number = folder, 1
    while kept := _kept_origin(place, reference):
        if is_fixed or not (place / FINISHED).exists():
            return place, *kept
        if is_chosen:
            raise UserError(
                f"{folder} holds a finished run, which continued from {kept[0]}: choose another --output to continue "
                f"from what {reference} is now."
            )
        number += 1
        place = folder.with_name(f"{folder.name}-{number}")
    found = find_origin(reference)
    return place, found.pinned, found.first


def _kept_origin(folder: Path, reference: str) -> tuple[str, int] | None:
    """What a reference named when the run in this folder began; none where there is no run that began so."""
    from selfloop.artifacts import read_json
    from selfloop.modes.inprocess import RUN

    begun = read_json(folder, RUN) if (folder / RUN).is_file() else {}
    if begun.get("reference") != reference:
        return None
    return begun["settings"]["origin"], begun["settings"]["first"]


def fingerprint(settings: Settings, reference: str | None = None) -> str:
    """Eight hex digits that name a configuration, and what a person typed for its origin."""
    whole = json.dumps(settings.overrides(), sort_keys=True) + (reference or "")
    return hashlib.sha256(whole.encode()).hexdigest()[:8]


@contextmanager
def reported(folder: Path, page: Path) -> Iterator[None]:
    """Leave the report where a person finds it also when a guard halted the loop."""
    try:
        yield
    except HaltedError as error:
        last = newest_report(folder)
        if last is None:
            raise
        shutil.copyfile(last, page)
        raise HaltedError(f"{error} The report is {near(page)}.") from None


def newest_report(folder: Path) -> Path | None:
    """The report that the last stage of a run wrote."""
    pages = sorted(folder.rglob("*/report"), key=lambda page: -page.stat().st_mtime)
    return next((page for page in pages if page.is_file()), None)


def why_it_ended(settings: Settings, rounds: Sequence[Mapping[str, Any]], moments: Sequence[Mapping[str, Any]]) -> str:
    """Why a loop ended before the rounds that were asked for, in a sentence; empty where it did not."""
    last = rounds[-1]["round"]
    if over := moments[-1].get("ends"):
        return f"The budget ended the loop after round {last}: {over}"
    if last < settings.last:
        return f"The schedule '{settings.overrides()['schedule']}' ended the loop after round {last}."
    return ""


@dataclass(frozen=True)
class Run:
    """A run's folder, read: ``selfloop.Run("runs/first")`` opens one that was made before, finished or not.

    ``tracking_uri`` is the MLflow that it was tracked in: left out, the one that the environment names, else the
    file beside the folder. Raises ``UserError`` for a folder that holds no run, and for one whose stages
    ``selfloop gc`` removed or ``kfp.local`` made where these are asked for.
    """

    folder: Path
    tracking_uri: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        self.begun  # noqa: B018 (refuses what is no run)

    @cached_property
    def begun(self) -> Mapping[str, Any]:
        """What it was begun with, as JSON: where its ``recipe`` is found, its ``settings``, and what a person typed."""
        from selfloop.artifacts import read_json
        from selfloop.modes.inprocess import RUN

        if not (self.folder / RUN).is_file():
            raise UserError(
                f"{self.folder} is no run of selfloop (it has no {RUN}): give the folder that 'selfloop run' named."
            )
        return dict(read_json(self.folder, RUN))

    @cached_property
    def recipe(self) -> Recipe[Any]:
        """The recipe that it is a run of."""
        return find_recipe(self.begun["recipe"])

    @cached_property
    def settings(self) -> Settings:
        """All settings that it was begun with."""
        settings: Settings = self.recipe.resolve(self.begun["settings"])
        return settings

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end; one that was stopped is continued by the call that began it."""
        from selfloop.modes.inprocess import FINISHED

        return (self.folder / FINISHED).exists()

    @property
    def id(self) -> str:
        """The id of its run in MLflow."""
        from selfloop.modes.inprocess import NOTE

        return (self.folder / NOTE).read_text().strip()

    @property
    def measured(self) -> Mapping[str, Any]:
        """What was measured of the last champion, on items that no decision was made on; nothing before its end."""
        from selfloop.artifacts import read_json
        from selfloop.modes.inprocess import FINISHED

        return dict(read_json(self.folder, FINISHED)) if self.is_finished else {}

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The rounds that have ended, in their order, as the report tells of them: a dict each with ``round``,
        ``decision``, accuracies, counts.
        """
        from selfloop.report.history import read_history

        last = self._last_close()
        return list(read_history(last / "new_history")["rounds"]) if last else []

    @property
    def ended_early(self) -> str:
        """Why the loop ended before the rounds that were asked for, in a sentence; empty where it did not."""
        from selfloop.report.history import read_moments

        last = self._last_close()
        if last is None or not self.is_finished:
            return ""
        return why_it_ended(self.settings, self.rounds, read_moments(last / "new_history"))

    @property
    def champion(self) -> Path:
        """The folder of the policy in force after the last round: safetensors, configuration and tokenizer.

        ``transformers`` loads it with ``from_pretrained``. Of a loop with several roles it is the first one's.
        """
        return self.role(self.recipe.roles[0])

    def role(self, name: str) -> Path:
        """The folder of what a role holds after the last round that has ended."""
        from selfloop.lookup import unknown

        if name not in self.recipe.roles:
            raise unknown(f"role of recipe '{self.recipe.name}'", name, self.recipe.roles)
        last = self._last_close()
        if last is None:
            raise UserError(f"No round of {self.folder} has ended yet: let it run, the same call resumes it.")
        return last / f"new_{name}"

    def decision(self, round: int) -> dict[str, Any]:
        """What was decided in a round: ``verdict``, ``promoted``, ``reason``, the ``suites`` and the ``guards``."""
        return dict(self._round(round)["decision"])

    def rollouts(self, round: int) -> pa.Table:
        """The attempts of a round as an Arrow table, a row each, with the columns ``ok``, ``score`` and ``reason`` of
        their verdicts. ``.to_pandas()`` makes a data frame of it.
        """
        attempts, verdicts = self.table(round, "rollouts"), self.table(round, "verdicts")
        for name in ("ok", "score", "reason"):
            attempts = attempts.append_column(name, verdicts[name])
        return attempts

    def table(self, round: int, name: str) -> pa.Table:
        """A table of a round: ``tasks``, ``rollouts``, ``verdicts``, ``audit`` (verdicts beside the truth),
        ``examples`` (what was kept), ``others`` (the audit of another policy's attempts), ``results`` (answers of
        candidate and champion on held-out items).
        """
        from selfloop.artifacts import MANIFEST, manifest_of
        from selfloop.lookup import unknown
        from selfloop.promote.close import EVIDENCE
        from selfloop.records import read_table

        self._round(round)
        if name not in EVIDENCE:
            raise unknown("table of a round", name, EVIDENCE)
        place = self._close(self._folder(round))
        digest = manifest_of(place / "new_history").inputs.get(name) if place else None
        if digest is None:
            raise UserError(f"Round {round} of {self.folder} has no table '{name}': this loop makes none.")
        found = (each.parent for each in sorted(self._folder(round).glob(f"*/*/{MANIFEST}")))
        return read_table(next(each for each in found if manifest_of(each).digest == digest))

    @property
    def report(self) -> Path:
        """The report, one HTML file; of a run that is not finished, the one of its last round."""
        page = self.folder / REPORT
        found = page if page.is_file() else newest_report(self.folder)
        if found is None:
            raise UserError(f"{self.folder} has no report yet: no stage of it that reports has ended.")
        return found

    @property
    def lineage(self) -> Tree:
        """The versions of the loop that this run made, with what they came from and what is in force, from MLflow."""
        from selfloop.lineage.registry import Registry
        from selfloop.lineage.tree import tree

        with registry(self.tracking_uri, None, self.folder.parent):
            return tree(Registry(self.settings.loop), self.id)

    def _round(self, number: int) -> dict[str, Any]:
        rounds = {each["round"]: each for each in self.rounds}
        if number not in rounds:
            known = f"it has the rounds {min(rounds)} to {max(rounds)}" if rounds else "none has ended yet"
            raise UserError(f"There is no round {number} in {self.folder}: {known}.")
        return rounds[number]

    def _folder(self, round: int) -> Path:
        return self.folder / f"round-{round:02}"

    def _last_close(self) -> Path | None:
        """Where the last round that has ended was closed."""
        from selfloop.modes.inprocess import CLEARED, KFP

        if (self.folder / CLEARED).exists() or (self.folder / KFP).is_dir():
            why = "were made by kfp.local" if (self.folder / KFP).is_dir() else "'selfloop gc' removed"
            raise UserError(f"{self.folder} is a run whose stages {why}: read its report, or its lineage in MLflow.")
        folders = sorted(self.folder.glob("round-*"), key=lambda each: -int(each.name.partition("-")[2]))
        return next((place for each in folders if (place := self._close(each))), None)

    @staticmethod
    def _close(folder: Path) -> Path | None:
        """Where a round was closed; the newest place, where its stages were changed and run again."""
        from selfloop.modes.inprocess import RETURNED

        closed = [each for each in folder.glob("close_round-*") if not each.suffix and (each / RETURNED).is_file()]
        return max(closed, key=lambda each: each.stat().st_mtime, default=None)
