"""The end of a round: the gate's decision, what the next round begins with, the report, and the promotion."""

from selfloop.promote.close import changing, close_stage
from selfloop.promote.gate import GateParams, check_items, decide, gain_of, unseen
from selfloop.promote.restore import RestoreParams, restore_stage

__all__ = [
    "GateParams",
    "RestoreParams",
    "changing",
    "check_items",
    "close_stage",
    "decide",
    "gain_of",
    "restore_stage",
    "unseen",
]
