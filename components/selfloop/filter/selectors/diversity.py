"""Selectors that keep what differs enough from what is already kept of its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from selfloop.errors import UserError, needing
from selfloop.filter.grams import OfGrams
from selfloop.filter.selecting import Selecting, Selector, Stateless, groups, where
from selfloop.trust import reading

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.filter.selecting import Column, Context, Kept

ALIKE = "too like another of its task"
BATCH_TEXTS = 64
"""Texts that are embedded at once."""


class Diverse(OfGrams, Stateless):
    """Keep a rollout where at most ``overlap`` of its n-grams are in those kept before it, task by task."""

    name = "diverse"
    overlap: float = Field(
        0.5, ge=0, le=1, description="Greatest share of n-grams that are in kept rollouts of the task."
    )

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Go through each task's rows in their order."""
        import numpy as np

        texts = batch["completion"].to_pylist()
        keep = np.zeros(len(texts), bool)
        for rows in groups(batch):
            seen: set[str] = set()
            for row in range(rows.start, rows.stop):
                own = self.grams(texts[row])
                if not seen or len(own & seen) <= self.overlap * len(own):
                    keep[row] = True
                    seen |= own
        return where(batch, keep, ALIKE)


class DiverseByEmbedding(Selector):
    """Keep a rollout where no kept one of its task is closer than ``cosine`` in the space of an embedding model."""

    name = "diverse-by-embedding"
    needs = "a sentence-embedding model, in safetensors"
    reads = frozenset({"embedder"})
    embedder: str = Field(description="Folder of a sentence-embedding model in transformers' format.")
    cosine: float = Field(0.9, ge=-1, le=1, description="Greatest similarity to a kept rollout of the task.")

    def begin(self) -> Selecting:
        """The model, which is loaded when it is asked."""
        return Embedding(self)


class Embedding:
    """A model that embeds each task's completions."""

    def __init__(self, selector: DiverseByEmbedding) -> None:
        self._by = selector
        self._embedder: Embedder | None = None

    def __call__(self, batch: pa.RecordBatch, context: Context) -> Kept:
        """Embed each task's completions, and go through them in their order."""
        import numpy as np

        self._embedder = self._embedder or Embedder(Path(self._by.embedder))
        texts = batch["completion"].to_pylist()
        keep = np.zeros(len(texts), bool)
        for rows in groups(batch):
            keep[rows] = apart(self._embedder(texts[rows]), self._by.cosine)
        return where(batch, keep, ALIKE)


def apart(vectors: Column, cosine: float) -> Column:
    """Which of some unit vectors are kept, where each must be no closer than this to those kept before it."""
    import numpy as np

    close = vectors @ vectors.T > cosine
    keep = np.zeros(len(vectors), bool)
    for row in range(len(vectors)):
        keep[row] = not close[row][keep].any()
    return keep


class Embedder:
    """A sentence-embedding model from a folder: the mean of the last layer's vectors of a text's tokens, of length 1.

    Raises ``UserError`` where the folder holds no such model, or one that is not in safetensors.
    """

    def __init__(self, folder: Path) -> None:
        with needing("The selector 'diverse-by-embedding'", "generate"):
            import torch
            from transformers import AutoModel, AutoTokenizer

        if not list(folder.glob("*.safetensors")):
            raise UserError(
                f"{folder} holds no safetensors: give the folder of a sentence-embedding model as 'embedder'."
            )
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **reading(folder))
            model: Any = AutoModel.from_pretrained(folder, use_safetensors=True, **reading(folder))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder} is no embedding model: {str(error).splitlines()[0]}") from None
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = model.eval().to(self._device)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def __call__(self, texts: Sequence[str]) -> Column:
        """Unit vectors, a row a text."""
        import numpy as np

        return np.concatenate(
            [self._embedded(texts[at : at + BATCH_TEXTS]) for at in range(0, len(texts), BATCH_TEXTS)]
        )

    def _embedded(self, texts: Sequence[str]) -> Column:
        import torch

        longest = min(self._tokenizer.model_max_length, self._model.config.max_position_embeddings)
        given = self._tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        given = given.to(self._device)
        with torch.inference_mode():
            vectors = self._model(**given).last_hidden_state.float()
        mask = given["attention_mask"].unsqueeze(-1)
        mean = (vectors * mask).sum(1) / mask.sum(1).clamp(min=1)
        made: Column = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return made
