"""Negative-aware fine-tuning (Chen et al., arXiv:2505.18116)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from selfloop.finetune.offline.methods import GivenExamples, Method, TrainedOn

if TYPE_CHECKING:
    import pyarrow as pa


class Nft(Method):
    """Learn from good and bad completions of groups that are partly good, each by its group's rate."""

    name = "nft"
    needs = "ones of groups that are partly good"
    learns_from_wrong = True
    weight: Literal["1", "1-r", "sqrt((1-r)/r)"] = Field("1-r", description="Weight of a group by its rate r.")
    negative: float = Field(1.0, ge=0, description="Weight of the text to train away from.")
    epsilon: float = Field(1.0, gt=0, description="Floor of the implicit negative policy's ratio.")
    normalizer: float = Field(1000.0, gt=0, description="What a text's sum over its tokens is divided by.")

    def usable(self, examples: pa.RecordBatch) -> pa.Array:
        """Those of groups that are neither all good nor all bad."""
        import pyarrow.compute as pc

        return pc.and_(pc.greater(examples["rate"], 0), pc.less(examples["rate"], 1))

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train by NFT's loss."""
        from selfloop.finetune.offline.nft_trainer import train_nft

        return train_nft(given, self.model_dump())
