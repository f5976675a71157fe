"""How weights change: ``pretrain_policy`` from nothing, ``finetune_policy`` from a policy, both on one trainer."""

from selfloop.finetune.finetune import FinetuneParams, finetune_policy
from selfloop.finetune.pretrain import PretrainParams, pretrain_policy

__all__ = ["FinetuneParams", "PretrainParams", "finetune_policy", "pretrain_policy"]
