"""How weights change: from nothing, from examples, from pairs, from a verifier's rewards, from a teacher."""

from selfloop.finetune.arms import ReinforceArmsParams, reinforce_arms
from selfloop.finetune.offline.distillation import DistillParams, distill_policy
from selfloop.finetune.offline.finetuning import FinetuneParams, finetune_policy
from selfloop.finetune.offline.pretraining import PretrainParams, pretrain_policy
from selfloop.finetune.proposer import ReinforceProposerParams, reinforce_proposer
from selfloop.finetune.online.reinforcement import ReinforceParams, reinforce_policy
from selfloop.finetune.offline.reward_model import RewardParams, train_reward

__all__ = [
    "DistillParams",
    "FinetuneParams",
    "PretrainParams",
    "ReinforceArmsParams",
    "ReinforceParams",
    "ReinforceProposerParams",
    "RewardParams",
    "distill_policy",
    "finetune_policy",
    "pretrain_policy",
    "reinforce_arms",
    "reinforce_policy",
    "reinforce_proposer",
    "train_reward",
]
