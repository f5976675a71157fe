"""TRL's trainers on texts that are encoded already: their data set is a column of places in the order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from selfloop.finetune.offline.encoding import IGNORED, Encoded

if TYPE_CHECKING:
    import datasets

    from selfloop.records import Example

    Column = np.ndarray[Any, Any]


class Prepared:
    """A TRL trainer whose data set is a column of places: there is nothing to prepare in it."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def places(data: Encoded) -> datasets.Dataset:
    """The data set of a trainer that collates with ``collator``."""
    import datasets

    data.check_learnable()
    return datasets.Dataset.from_dict({"place": np.arange(len(data))})


def collator(
    data: Encoded, collate: Callable[[Column], dict[str, torch.Tensor]]
) -> Callable[[list[dict[str, int]]], dict[str, torch.Tensor]]:
    """Collate by the rows that stand at the places of a batch."""
    return lambda batch: collate(data.order[[each["place"] for each in batch]])


def rejected_sides(pairs: Sequence[Example]) -> list[Example]:
    """The worse completion of each pair, as an example."""
    return [
        e._replace(completion=e.rejected, segments=e.rejected_segments, finished=e.rejected_finished) for e in pairs
    ]


def masked(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch with a ``completion_mask`` in place of labels, as TRL's preference trainers take it."""
    labels = batch.pop("labels")
    return batch | {"completion_mask": (labels != IGNORED).long()}
