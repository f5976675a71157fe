"""Better and worse completions: DPO on pairs, KTO on single ones."""

from __future__ import annotations

from pydantic import Field

from selfloop.finetune.offline.methods import GivenExamples, Method, TrainedOn


class Dpo(Method):
    """Make the completion of each pair more likely, against its rejected one (Rafailov et al., arXiv:2305.18290)."""

    name = "dpo"
    needs = "pairs of a better and a worse completion"
    needs_pairs = True
    weighs = False
    beta: float = Field(0.1, gt=0, description="How closely the policy is held to where it starts.")

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train by DPO's loss; the reference is what the training starts from."""
        from selfloop.finetune.offline.preference_trainers import train_dpo

        return train_dpo(given, self.beta)


class Kto(Method):
    """Make good completions more likely and others less (Ethayarajh et al., arXiv:2402.01306)."""

    name = "kto"
    needs = "ones with a weight"
    learns_from_wrong = True
    weighs = False
    beta: float = Field(0.1, gt=0, description="How closely the policy is held to where it starts.")

    def __call__(self, given: GivenExamples) -> TrainedOn:
        """Train by KTO's loss; the reference is what the training starts from."""
        from selfloop.finetune.offline.preference_trainers import train_kto

        return train_kto(given, self.beta)
