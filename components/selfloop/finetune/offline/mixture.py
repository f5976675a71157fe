"""The examples of a training: drawn from several tables by their shares, for so many steps or epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from selfloop.finetune.offline.methods import Method
from selfloop.finetune.offline.replays import Even, Replay
from selfloop.finetune.params import TrainingParams
from selfloop.records import Example, read, take
from selfloop.seeds import seed_for

if TYPE_CHECKING:
    import numpy as np

    Column = np.ndarray[Any, Any]

SOURCES = ("newest", "replay_pool", "seed_data")


class MixtureParams(TrainingParams):
    """Shares of the mixture count only for the sources that hold examples."""

    duration: Literal["steps", "epochs"] = Field("steps", description="Draw for steps, or see all of it some times.")
    epochs: int = Field(1, ge=1, description="epochs: times that each example of a source with a share is seen.")
    newest_share: float = Field(0.5, ge=0, le=1, description="Share of the examples kept in this round.")
    replay_share: float = Field(0.25, ge=0, le=1, description="Share of the replay pool, of all rounds.")
    replay: Replay = Field(Even(), description="Which examples of the replay pool are drawn from.")
    seed_share: float = Field(0.25, ge=0, le=1, description="Share of the seed data, of the base policy.")

    @property
    def shares(self) -> dict[str, float]:
        """The share of each source."""
        return {"newest": self.newest_share, "replay_pool": self.replay_share, "seed_data": self.seed_share}


def usable_rows(method: Method, table: str) -> Column:
    """Which examples of a table a method can use, a bool each."""
    import numpy as np

    masks = [np.empty(0, bool)]
    for batch in read(table, Example, ["good", "weight", "rate", "rejected"]):
        masks.append(method.usable(batch).to_numpy(zero_copy_only=False))
    return np.concatenate(masks)


def mixture(
    params: MixtureParams, sources: Mapping[str, str], usable: Mapping[str, Column], shares: Mapping[str, float]
) -> tuple[list[Example], Column]:
    """The examples of a training run, each once, and the order in which they are seen, with repetitions.

    ``usable`` are the row numbers of each source that may be drawn, ``shares`` say how often each source is.
    """
    import numpy as np

    rng = np.random.default_rng(seed_for(params, params.round, "mixture"))
    drawn = (
        by_epochs(params, usable, shares, rng) if params.duration == "epochs" else by_steps(params, usable, shares, rng)
    )
    source, rows = drawn
    examples: list[Example] = []
    order = np.empty(len(source), dtype=np.int64)
    for number, path in enumerate(sources.values()):
        here = source == number
        distinct, inverse = np.unique(rows[here], return_inverse=True)
        order[here] = inverse + len(examples)
        examples.extend(take(path, Example, distinct))
    return examples, order


def earlier(
    params: MixtureParams, sources: Mapping[str, str], usable: Mapping[str, Column], number: int
) -> list[Example]:
    """So many different examples of the replay pool and the seed data, or all of them where there are no more."""
    import numpy as np

    before = [(name, row) for name in SOURCES[1:] for row in usable[name]]
    rng = np.random.default_rng(seed_for(params, params.round, "earlier"))
    drawn = [before[place] for place in sorted(rng.permutation(len(before))[:number])]
    made: list[Example] = []
    for name in SOURCES[1:]:
        made += take(sources[name], Example, np.array([row for source, row in drawn if source == name], np.int64))
    return made


def by_steps(
    params: MixtureParams, usable: Mapping[str, Column], shares: Mapping[str, float], rng: np.random.Generator
) -> tuple[Column, Column]:
    """Sources and row numbers, drawn with replacement for all steps."""
    import numpy as np

    weights = np.array(list(shares.values()))
    source = rng.choice(len(weights), size=params.steps * params.batch_size, p=weights / weights.sum())
    place = rng.random(len(source))
    rows = np.empty(len(source), np.int64)
    for number, name in enumerate(shares):
        here = source == number
        rows[here] = usable[name][(place[here] * len(usable[name])).astype(np.int64)] if here.any() else 0
    return source, rows


def by_epochs(
    params: MixtureParams, usable: Mapping[str, Column], shares: Mapping[str, float], rng: np.random.Generator
) -> tuple[Column, Column]:
    """Sources and row numbers: all examples of the sources with a share, in a new order each epoch."""
    import numpy as np

    source = np.concatenate([np.full(len(usable[name]), n) for n, name in enumerate(shares) if shares[name]])
    rows = np.concatenate([usable[name] for name in shares if shares[name]])
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(params.epochs)])
    return source[order], rows[order]
