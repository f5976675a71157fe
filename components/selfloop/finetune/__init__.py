"""How weights change: from given data (``offline``), from a policy's own attempts (``online``), and how both run."""

from selfloop.finetune.offline.distillation import DistillParams, distill_policy
from selfloop.finetune.offline.finetuning import FinetuneParams, finetune_policy
from selfloop.finetune.offline.pretraining import PretrainParams, pretrain_policy
from selfloop.finetune.offline.reward_model import RewardParams, train_reward
from selfloop.finetune.online.params import ReinforceParams
from selfloop.finetune.online.reinforcement import TrainingStateParams, init_training_state, reinforce_policy

__all__ = [
    "DistillParams",
    "FinetuneParams",
    "PretrainParams",
    "ReinforceParams",
    "RewardParams",
    "TrainingStateParams",
    "distill_policy",
    "finetune_policy",
    "init_training_state",
    "pretrain_policy",
    "reinforce_policy",
    "train_reward",
]
