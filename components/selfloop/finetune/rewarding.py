"""TRL's ``RewardTrainer`` on texts that are encoded already."""

from trl import RewardTrainer

from selfloop.finetune.by_row import Prepared
from selfloop.finetune.training import Guarded


class Reward(Guarded, Prepared, RewardTrainer):
    """The loss of Bradley and Terry: the better completion of a pair shall have the higher reward."""
