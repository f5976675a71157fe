"""An archive of texts, such as programs, as a loop's state.

What is kept is never forgotten: stepping stones that score less than the best may lead further than it does.
"""

from __future__ import annotations

from kfp.dsl import Artifact
from pydantic import BaseModel, ConfigDict, ValidationError

from selfloop.artifacts import read_json, write_json
from selfloop.errors import UserError


class Entry(BaseModel):
    """A text of the archive. ``score`` is in [0, 1], ``parent`` the number of the entry that it was made of, from 0 on;
    none of those that the archive began with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    level: int
    score: float
    round: int
    parent: int | None = None


class Archive(BaseModel):
    """Texts in the order in which they came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, artifact: Artifact) -> Archive:
        """The archive that an artifact holds. Raises ``UserError`` for anything else."""
        try:
            return cls.model_validate(read_json(artifact.path))
        except (ValidationError, OSError):
            raise UserError(f"{artifact.path} is no archive: continue from a version that has one.") from None

    def write(self, artifact: Artifact) -> None:
        """Write the archive, and what a person wants to know of it first."""
        write_json(artifact.path, self.model_dump(mode="json"))
        best = {str(entry.level): entry.score for entry in sorted(self.entries, key=lambda entry: entry.score)}
        artifact.metadata.update(entries=len(self.entries), best=best)

    def best(self, level: int) -> Entry | None:
        """The entry of a level with the greatest score, the shortest and then the first of several."""
        of_level = [entry for entry in self.entries if entry.level == level]
        return max(of_level, key=lambda entry: (entry.score, -len(entry.text)), default=None)
