"""Selectors that keep one of several rollouts that say the same, or nearly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from selfloop.filter.grams import OfGrams
from selfloop.filter.selecting import Selecting, Stateless, where

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Context, Kept

MISSED_MORE = (0.1, 0.9)
"""What the index avoids: false candidates hardly, as each is compared, missed ones more."""


class Unique(Stateless):
    """Keep the first of a task's rollouts that say the same, letter by letter."""

    name = "unique"

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """The rows that say something new of their task."""
        import numpy as np
        import pyarrow as pa

        row = np.arange(batch.num_rows)
        rows = pa.table({"group": batch["group"], "said": batch["completion"], "row": row})
        first = rows.group_by(["group", "said"]).aggregate([("row", "min")])["row_min"].to_numpy()
        keep = np.zeros(batch.num_rows, bool)
        keep[first] = True
        return where(batch, keep, "duplicate")


class MinHash(OfGrams):
    """Keep what is not nearly the same as a text kept before, of any task of the round (MinHash, Broder 1997).

    Candidates come from datasketch's LSH index over the n-grams' signatures; one of them is a near duplicate where
    the estimated Jaccard similarity reaches ``similarity``.
    """

    name = "minhash"
    compared: Literal["completion", "prompt-and-completion"] = Field(
        "completion", description="The text that is compared, over all tasks of the round."
    )
    similarity: float = Field(
        0.8, ge=0.05, le=0.95, description="Jaccard similarity from which on two are near duplicates."
    )
    permutations: int = Field(128, ge=64, le=1024, description="Hash functions; more estimate better.")

    def begin(self) -> Selecting:
        """An index that is empty."""
        return Signatures(self)


class Signatures:
    """The signatures of what was kept."""

    def __init__(self, selector: MinHash) -> None:
        from datasketch import MinHashLSH

        self._by, self._signatures = selector, list[Any]()
        self._index = MinHashLSH(threshold=selector.similarity, weights=MISSED_MORE, num_perm=selector.permutations)

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Look each row up, and remember it where it is new."""
        import zlib

        import numpy as np
        from datasketch import MinHash as Signature

        texts = batch["completion"].to_pylist()
        if self._by.compared == "prompt-and-completion":
            texts = [f"{asked}\n{said}" for asked, said in zip(batch["prompt"].to_pylist(), texts, strict=True)]
        hashed = ([gram.encode() for gram in self._by.grams(text)] for text in texts)
        signatures = Signature.generator(hashed, hashfunc=zlib.crc32, num_perm=self._by.permutations)
        keep = np.fromiter((self._is_new(each) for each in signatures), bool, len(texts))
        return where(batch, keep, "near duplicate")

    def _is_new(self, signature: Any) -> bool:
        near = self._index.query(signature)
        if any(signature.jaccard(self._signatures[other]) >= self._by.similarity for other in near):
            return False
        self._index.insert(len(self._signatures), signature, check_duplication=False)
        self._signatures.append(signature)
        return True
