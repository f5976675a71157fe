"""TRL's ``RewardTrainer`` on texts that are encoded already."""

from trl import RewardTrainer

from selfloop.finetune.offline.trl_data import Prepared
from selfloop.finetune.running.training import Guarded


class Reward(Guarded, Prepared, RewardTrainer):
    """The loss of Bradley and Terry: the better completion of a pair shall have the higher reward."""
