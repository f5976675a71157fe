"""Who makes tasks: ``draw_base`` for the base policy, then a curriculum, a fixed set of levels, or a policy."""

from selfloop.propose.about import AboutParams, ask_about
from selfloop.propose.archive import ArchiveParams, ParentsParams, choose_parents, init_archive
from selfloop.propose.base import BaseData, BaseParams, draw_base
from selfloop.propose.examples import WriteParams, write_examples
from selfloop.propose.fixed import DrawParams, Fixed, draw_tasks
from selfloop.propose.frontier import Frontier, ProposeParams, propose_tasks
from selfloop.propose.learned import LearnedParams, ProposalArchiveParams, init_proposal_archive, propose_by_policy
from selfloop.propose.schedule import Schedule
from selfloop.propose.tailored import TailorParams, tailor_tasks

__all__ = [
    "AboutParams",
    "ArchiveParams",
    "BaseData",
    "BaseParams",
    "DrawParams",
    "Fixed",
    "Frontier",
    "LearnedParams",
    "ParentsParams",
    "ProposalArchiveParams",
    "ProposeParams",
    "Schedule",
    "TailorParams",
    "WriteParams",
    "ask_about",
    "choose_parents",
    "draw_base",
    "draw_tasks",
    "init_archive",
    "init_proposal_archive",
    "propose_by_policy",
    "propose_tasks",
    "tailor_tasks",
    "write_examples",
]
