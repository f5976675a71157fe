"""Who makes tasks: ``draw_base`` for the base policy, then a curriculum, a fixed set of levels, or a policy."""

from selfloop.propose.base import BaseData, BaseParams, draw_base
from selfloop.propose.curriculum import AdvanceParams, ProposeParams, advance_curriculum, propose_tasks
from selfloop.propose.fixed import DrawParams, ProgressParams, check_progress, draw_tasks
from selfloop.propose.learned import KnownParams, LearnedParams, begin_known, propose_by_policy

__all__ = [
    "AdvanceParams",
    "BaseData",
    "BaseParams",
    "DrawParams",
    "KnownParams",
    "LearnedParams",
    "ProgressParams",
    "ProposeParams",
    "advance_curriculum",
    "begin_known",
    "check_progress",
    "draw_base",
    "draw_tasks",
    "propose_by_policy",
    "propose_tasks",
]
