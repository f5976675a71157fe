"""Selectors that keep one of several rollouts that say the same, or nearly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfloop.filter.grams import grams
from selfloop.filter.selecting import where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept

MISSED_MORE = (0.1, 0.9)
"""What the index avoids: false candidates hardly, as each is compared, missed ones more."""


def unique(batch: pa.RecordBatch, context: Context) -> Kept:
    """Keep the first of a task's rollouts that say the same, letter by letter."""
    import numpy as np
    import pyarrow as pa

    row = np.arange(batch.num_rows)
    rows = pa.table({"group": batch["group"], "said": batch["completion"], "row": row})
    first = rows.group_by(["group", "said"]).aggregate([("row", "min")])["row_min"].to_numpy()
    keep = np.zeros(batch.num_rows, bool)
    keep[first] = True
    return where(batch, keep, "duplicate")


class MinHashed:
    """Keep what is not nearly the same as a text kept before, of any task of the round (MinHash, Broder 1997).

    Candidates come from datasketch's LSH index over the n-grams' signatures; one of them is a near duplicate where
    the estimated Jaccard similarity reaches ``similarity``.
    """

    def __init__(self) -> None:
        self._index: Any = None
        self._signatures: list[Any] = []

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Look each row up, and remember it where it is new."""
        import zlib

        import numpy as np
        from datasketch import MinHash, MinHashLSH

        params = context.params
        size = {"num_perm": params.permutations}
        if self._index is None:
            self._index = MinHashLSH(threshold=params.similarity, weights=MISSED_MORE, **size)
        texts = batch["completion"].to_pylist()
        if params.compared == "prompt and completion":
            texts = [f"{asked}\n{said}" for asked, said in zip(batch["prompt"].to_pylist(), texts, strict=True)]
        hashed = ([gram.encode() for gram in grams(text, params)] for text in texts)
        signatures = MinHash.generator(hashed, hashfunc=zlib.crc32, **size)
        keep = np.fromiter((self._is_new(each, params.similarity) for each in signatures), bool, len(texts))
        return where(batch, keep, "near duplicate")

    def _is_new(self, signature: Any, similarity: float) -> bool:
        near = self._index.query(signature)
        if any(signature.jaccard(self._signatures[other]) >= similarity for other in near):
            return False
        self._index.insert(len(self._signatures), signature, check_duplication=False)
        self._signatures.append(signature)
        return True
