"""Who makes tasks: ``draw_base`` for the base policy, then a curriculum, a fixed set of levels, or a policy."""

from selfloop.propose.arms import ArmsParams, begin_arms
from selfloop.propose.base import BaseData, BaseParams, draw_base
from selfloop.propose.curriculum import Frontier, ProposeParams, propose_tasks
from selfloop.propose.fixed import DrawParams, Fixed, draw_tasks
from selfloop.propose.learned import KnownParams, LearnedParams, begin_known, propose_by_policy
from selfloop.propose.schedule import Schedule

__all__ = [
    "ArmsParams",
    "BaseData",
    "BaseParams",
    "DrawParams",
    "Fixed",
    "Frontier",
    "KnownParams",
    "LearnedParams",
    "ProposeParams",
    "Schedule",
    "begin_arms",
    "begin_known",
    "draw_base",
    "draw_tasks",
    "propose_by_policy",
    "propose_tasks",
]
