"""Tasks from an archive of texts: ``init_archive`` begins it, ``choose_parents`` draws what is varied next."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from kfp.dsl import Artifact, Dataset
from pydantic import Field

from selfloop.archive import Archive, Entry
from selfloop.environments import find_environment
from selfloop.propose.weights import checked_weights, shares
from selfloop.records import Task, writing
from selfloop.seeds import STREAM, seed_for
from selfloop.stages import Params, stage
from selfloop.strategies import Strategy


class ParentChoice(Strategy):
    """How likely each entry of an archive is to be a parent: a weight each, finite and not negative."""

    kind = "parent choice"
    package = __name__

    @abstractmethod
    def __call__(self, scores: Sequence[float], children: Sequence[int]) -> Sequence[float]:
        """Weights from the entries' scores, and the numbers of their children so far."""


class ScoreAndNovelty(ParentChoice):
    """A sigmoid of the score, over one more than the number of children (Darwin Goedel Machine, arXiv:2505.22954)."""

    name = "score-novelty"
    steepness: float = Field(10.0, gt=0, description="How steep the sigmoid of the score is.")
    midpoint: float = Field(0.5, description="The score at which it is 1/2.")

    def __call__(self, scores: Sequence[float], children: Sequence[int]) -> list[float]:
        """1 / (1 + exp(-steepness (score - midpoint))) / (1 + children)."""
        fitness = [(1 + math.tanh(self.steepness * (score - self.midpoint) / 2)) / 2 for score in scores]
        return [each / (1 + number) for each, number in zip(fitness, children, strict=True)]


class Best(ParentChoice):
    """The entries with the greatest score alone."""

    name = "best"

    def __call__(self, scores: Sequence[float], children: Sequence[int]) -> list[float]:
        """1 where the score is the greatest, else 0."""
        best = max(scores, default=0.0)
        return [float(score == best) for score in scores]


class Uniform(ParentChoice):
    """Every entry alike."""

    name = "uniform"

    def __call__(self, scores: Sequence[float], children: Sequence[int]) -> list[float]:
        """1 each."""
        return [1.0 for _ in scores]


class ArchiveParams(Params):
    """What an archive begins with."""

    inherits = frozenset({"environment", "seed"})

    environment: str = Field("sorting-network", description="The taskset whose texts are kept.")
    levels: list[int] = Field([3], min_length=1, description="Levels that the archive has texts of.")
    seed: int = Field(0, ge=0, description="Seed of the first texts.")


class ParentsParams(Params):
    """Which entries are varied."""

    inherits = frozenset({"environment", "seed", "round"})

    environment: str = Field("sorting-network", description="The taskset whose texts are kept.")
    choice: ParentChoice = Field(ScoreAndNovelty(), description="How likely each entry is to be a parent.")
    number: int = Field(32, ge=1, description="Parents of each level that are drawn a round, with replacement.")
    attempts: int = Field(4, ge=1, description="Variations of each draw.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")
    stream: str = Field("", description=STREAM)
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")


class NewArchive(NamedTuple):
    """The archive that a loop begins with."""

    archive: Artifact


class Parents(NamedTuple):
    """Tasks to vary entries of the archive; the metadata of each holds the number of its parent."""

    tasks: Dataset


@stage()
def init_archive(out: NewArchive, params: ArchiveParams) -> None:
    """Begin an archive with the empty text of each level."""
    environment = find_environment(params.environment)
    entries = []
    for level in params.levels:
        grade = environment.check(environment.variation("", level, "first"), "")
        entries.append(Entry(text="", level=level, score=grade.score, round=0))
    Archive(entries=tuple(entries)).write(out.archive)


@stage()
def choose_parents(out: Parents, params: ParentsParams, archive: Artifact) -> None:
    """Draw entries of the archive, as tasks to write variations of them."""
    environment, kept = find_environment(params.environment), Archive.of(archive)
    with writing(out.tasks.path, Task) as table:
        for level in sorted({entry.level for entry in kept.entries}):
            drawn = drawn_parents(kept, level, params.choice, params.number, seed_for(params, params.round, level))
            for place, number in enumerate(drawn):
                task = environment.variation(kept.entries[number].text, level, f"{params.round}-{level}-{place}")
                about = json.dumps({"parent": number})
                table.write([task._replace(suite="train", attempts=params.attempts, metadata=about)])


def drawn_parents(archive: Archive, level: int, choice: ParentChoice, number: int, seed: int) -> list[int]:
    """The numbers of entries of a level, drawn with replacement by their weights."""
    import numpy as np

    children: Counter[Any] = Counter(entry.parent for entry in archive.entries)
    of_level = [place for place, entry in enumerate(archive.entries) if entry.level == level]
    given = choice([archive.entries[place].score for place in of_level], [children[place] for place in of_level])
    weights = checked_weights(given, [f"entry {place}" for place in of_level], f"The parent choice '{choice}'")
    return [of_level[place] for place in np.random.default_rng(seed).choice(len(of_level), number, p=shares(weights))]
