"""Who makes tasks: ``draw_base`` for the base policy, then, each round, a curriculum or a fixed set of levels."""

from selfloop.propose.arms import ArmsParams, begin_arms
from selfloop.propose.base import BaseParams, draw_base
from selfloop.propose.curriculum import AdvanceParams, ProposeParams, advance_curriculum, propose_tasks
from selfloop.propose.fixed import DrawParams, ProgressParams, check_progress, draw_tasks

__all__ = [
    "AdvanceParams",
    "ArmsParams",
    "BaseParams",
    "DrawParams",
    "ProgressParams",
    "ProposeParams",
    "advance_curriculum",
    "begin_arms",
    "check_progress",
    "draw_base",
    "draw_tasks",
    "propose_tasks",
]
