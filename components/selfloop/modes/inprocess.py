"""Mode 1: every stage call runs at once, in this interpreter.

Finished stages are found by content key (stage, parameters, input digests, code) and skipped, so a run that was killed
resumes where it stopped. A stage works in a ``.partial`` folder that is renamed when all its outputs are sealed.
"""

import fcntl
import json
import os
import shutil
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from kfp.dsl import HTML, Artifact, Metrics

import selfloop.environments  # noqa: F401 (it says what is brought by a parameter of this name)
from selfloop import artifacts, metering, progress
from selfloop.errors import UserError
from selfloop.identity import work_key
from selfloop.links import link
from selfloop.loop import LoopSettings, loop_of
from selfloop.modes.noting import check
from selfloop.recipe import Recipe
from selfloop.settings import Settings
from selfloop.stages import Params, Stage, digest_of, executed_by, is_page

RETURNED = "returned.json"
KEY = ".key"
"""The file in a stage's folder that holds the whole of its content key."""
RUN = "run.json"
KFP = "kfp"
"""The folder in which ``kfp.local`` runs a pipeline."""
NOTE = "mlflow-run.txt"
"""Which run of MLflow a run's folder belongs to."""
FINISHED = "finished"
"""A file in the folder of a run that came to its end."""
CLEARED = "cleared"
"""A file in the folder of a finished run whose stages' folders go, or are gone."""


class Listener(Protocol):
    """Who is told what happens in a run; the terminal's display is one."""

    def stage_begins(self, round: int, stage: Stage) -> None:
        """A stage starts to work."""

    def stage_moves(self, done: int, total: int, unit: str) -> None:
        """The running stage has finished ``done`` of ``total`` units."""

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        """A stage is finished, or was found finished."""


class Silent:
    """A listener that says nothing."""

    def stage_begins(self, round: int, stage: Stage) -> None:
        """Say nothing."""

    def stage_moves(self, done: int, total: int, unit: str) -> None:
        """Say nothing."""

    def stage_ends(self, round: int, stage: Stage, outputs: Any, skipped: bool) -> None:
        """Say nothing."""


class InProcess:
    """Runs stages in a workspace: ``root/round-03/generate_rollouts-1f2e3d4c5b6a/rollouts``.

    What another run, whose folder lies ``beside``, did in the same round and by the same key is not done again.
    ``pages`` are the newest of each name that stages made for people to look at.
    """

    def __init__(
        self, root: Path, listener: Listener | None = None, round: int = 0, beside: Sequence[Path] = ()
    ) -> None:
        self._root, self.round, self._beside = root.resolve(), round, beside
        self._listener: Listener = listener or Silent()
        self.pages: dict[str, Artifact] = {}
        self._reports: dict[tuple[str, str], str] = {}

    def begins(self, round: int, proceed: Any) -> bool:
        """Open a round unless the last one said that the loop is finished."""
        if proceed:
            self.round = round
        return bool(proceed)

    def call(self, stage: Stage, params: Params, inputs: dict[str, Artifact]) -> Any:
        """Run a stage, or find it finished."""
        key = content_key(stage, params, inputs)
        place = _place(self._root / f"round-{self.round:02}", stage, key)
        skipped = _is_done(place, stage, key) or self._taken_over(place, stage, key)
        if not skipped:
            self._listener.stage_begins(self.round, stage)
            with progress.watched_by(self._listener.stage_moves), metering.in_round(self.round):
                self._run(stage, params, inputs, place, key)
        returned = artifacts.read_json(place, RETURNED) if stage.returns else None
        made = {name: found(place / name, kind) for name, kind in stage.outputs.items()}
        outputs = stage.made(made, returned)
        self._show(stage, {name: artifact for name, artifact in made.items() if is_page(type(artifact))})
        self._listener.stage_ends(self.round, stage, outputs, skipped)
        if stage.concludes is not None:
            stage.concludes(outputs)
        return outputs

    def _show(self, stage: Stage, pages: Mapping[str, Artifact]) -> None:
        """Keep the newest pages of each name; a stage's report tells all that its report of the round before told."""
        for name, page in pages.items():
            before = self._reports.get((stage.name, name))
            if isinstance(page, HTML) and before != page.path:
                self._reports[stage.name, name] = page.path
                if before is not None:
                    Path(before).unlink(missing_ok=True)
        self.pages |= pages

    def map(self, stage: Stage, params: Params, inputs: dict[str, Artifact]) -> list[Artifact]:
        """Run the shards of a stage one after the other."""
        shards = (params.model_copy(update={"shard": shard}) for shard in range(getattr(params, "shards", 1)))
        return [self.call(stage, each, inputs)[0] for each in shards]

    def _taken_over(self, place: Path, stage: Stage, key: str) -> bool:
        """Give the files of another run's stage a name here, too, where one did the same."""
        others = (_place(root / place.parent.name, stage, key) for root in self._beside)
        other = next((each for each in others if _is_done(each, stage, key)), None)
        if other is None:
            return False
        partial = _partial(place)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(other, partial, copy_function=link)
        shutil.rmtree(place, ignore_errors=True)  # of which somebody removed a part
        os.rename(partial, place)
        return True

    def _run(self, stage: Stage, params: Params, inputs: dict[str, Artifact], place: Path, key: str) -> None:
        partial = _partial(place)
        _clear(partial)
        partial.mkdir(parents=True, exist_ok=True)
        (partial / KEY).write_text(key)
        made = {name: kind(name=name, uri=str(partial / name)) for name, kind in stage.outputs.items()}
        outputs = stage.run(stage.made(made), params, inputs)
        if stage.returns:
            artifacts.write_json(partial, getattr(outputs, stage.returns), RETURNED)
        shutil.rmtree(place, ignore_errors=True)  # of which somebody removed a part
        os.rename(partial, place)


def _place(round: Path, stage: Stage, key: str) -> Path:
    """Where a stage works: its folder shows twelve digits of its key, all of them where another's begins with these."""
    short = round / f"{stage.name}-{key[:12]}"
    taken = {_key_in(short), _key_in(_partial(short))} - {"", key}
    return round / f"{stage.name}-{key}" if taken else short


def _partial(place: Path) -> Path:
    """Where a stage works until all its outputs are sealed."""
    return place.with_name(f"{place.name}.partial")


def _key_in(place: Path) -> str:
    """The key of the stage whose folder this is; empty where it is nobody's."""
    with suppress(FileNotFoundError):
        return (place / KEY).read_text()
    return ""


def _is_done(place: Path, stage: Stage, key: str) -> bool:
    """Whether a stage of this key is finished here."""
    return _key_in(place) == key and _is_whole(place, stage)


def _is_whole(place: Path, stage: Stage) -> bool:
    """Whether a finished stage has all its outputs still: what was removed, as it was damaged, is made again."""
    names = {
        RETURNED if stage.returns else "",
        *(
            name if is_page(kind) else f"{name}/{artifacts.MANIFEST}"
            for name, kind in stage.outputs.items()
            if kind is not HTML
        ),
    }
    return place.is_dir() and all((place / name).exists() for name in names)


def _clear(partial: Path) -> None:
    """Take away what a killed stage left, but for what it keeps to continue from: its names begin with a dot."""
    for path in partial.glob("[!.]*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def content_key(stage: Stage, params: Params, inputs: Mapping[str, Any]) -> str:
    """SHA-256 of all that a stage's outputs depend on: its name, its code, its parameters, what these name of a user's
    own, its inputs.
    """
    digests = {name: digest_of(inputs[name]) for name in stage.inputs if name in inputs}
    return work_key(params, digests, stage.function.__module__, stage=stage.target)


def found(place: Path, kind: type[Artifact]) -> Artifact:
    """The finished artifact at a place."""
    if is_page(kind):
        metadata = json.loads(place.read_text()) if kind is Metrics else {}
        return kind(name=place.name, uri=str(place), metadata=metadata)
    manifest = artifacts.manifest_of(place)
    return kind(name=place.name, uri=str(place), metadata=manifest.metadata | {"digest": manifest.digest})


S = typing.TypeVar("S", bound=LoopSettings)


def run(recipe: Recipe[S], settings: S, root: Path, listener: Listener | None = None) -> tuple[Any, Mapping[str, Any]]:
    """Run a recipe in this process, in the folder ``root``; run it again after a crash and it resumes.

    Returns what the last round left, and what was measured of it. Raises ``UserError`` where the folder belongs
    to another configuration or is in use by another run.
    """
    check(recipe, settings)
    with claimed(root, recipe, settings):
        return complete(recipe, settings, root, listener)


def complete(
    recipe: Recipe[S], settings: S, root: Path, listener: Listener | None = None, beside: Sequence[Path] = ()
) -> tuple[Any, Mapping[str, Any]]:
    """The rounds and the measurement at the end, in a folder that the caller has ``claimed``.

    What runs in folders ``beside`` it did, by the same key, is taken over.
    """
    driver = InProcess(root, listener, beside=beside)
    loop = loop_of(recipe)
    last = loop.drive(settings, driver)
    with executed_by(driver):
        return last, loop.measure(settings.for_round(driver.round), last)


@contextmanager
def claimed(root: Path, recipe: Recipe[Any], settings: Settings, reference: str | None = None) -> Iterator[None]:
    """Hold a run's folder: one run at a time, of one configuration and of one version of the code only.

    ``reference`` is what a person typed for the origin, such as NAME@champion; the folder remembers what it was then.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another run is at work in {root}: wait for it, or choose another --output.") from None
        about = {"recipe": recipe.target, "settings": settings.overrides()}
        if not (root / RUN).exists():
            if any(path.name != "run.lock" for path in root.iterdir()):
                raise UserError(f"{root} holds files that are no run of selfloop: choose another --output.")
            artifacts.write_json(root, about | {"code": artifacts.code_digest(), "reference": reference}, RUN)
        _check_same(root, about, settings.loop)
        if (root / CLEARED).exists():
            raise UserError(
                f"{root} holds a finished run, whose stages 'selfloop gc' removed: continue from its champion with "
                f"--from {settings.loop}@champion, or choose another --output."
            )
        yield


def finished_runs(folder: Path, ids: Collection[str]) -> list[Path]:
    """The folders of runs that came to their end and hold their stages still, of those with these runs in MLflow."""
    notes = (note for note in sorted(folder.glob(f"*/{NOTE}")) if note.read_text().strip() in ids)
    return [note.parent for note in notes if (note.parent / FINISHED).exists() and stage_folders(note.parent)]


def stage_folders(root: Path) -> list[Path]:
    """What the stages of a run left in its folder."""
    return [path for path in root.iterdir() if path.is_dir() and (path.name.startswith("round-") or path.name == KFP)]


def bytes_of_stages(root: Path) -> int:
    """What removing the stages of a run frees: files that have another name elsewhere, as in the store, stay."""
    found: dict[int, list[os.stat_result]] = {}
    for folder in stage_folders(root):
        for about in (path.lstat() for path in folder.rglob("*")):
            found.setdefault(about.st_ino, []).append(about)
    return sum(names[0].st_size for names in found.values() if len(names) == names[0].st_nlink)


def clear(root: Path) -> None:
    """Remove what the stages of a finished run left; a folder that a run is at work in is left alone."""
    with (root / "run.lock").open("w") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (root / CLEARED).touch()
        for folder in stage_folders(root):
            shutil.rmtree(folder)


def _check_same(root: Path, about: Mapping[str, Any], loop: str) -> None:
    before = artifacts.read_json(root, RUN)
    begun = {name: before.get(name) for name in about}
    if begun != about:
        raise UserError(
            f"{root} holds a run of another configuration ({_first_difference(begun, about)}): choose another "
            "--output, or give the same settings to resume it."
        )
    if before.get("code") != artifacts.code_digest():
        raise UserError(
            f"{root} holds a run that was begun by another version of selfloop's code: finish it with that version, or "
            f"continue from its champion with --from {loop}@champion and another --output."
        )


def _first_difference(before: Any, now: Any, path: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                return _first_difference(before.get(name), now.get(name), f"{path}.{name}" if path else name)
    return f"{path.removeprefix('settings.')} was {before!r}, now {now!r}"
