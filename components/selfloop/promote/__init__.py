"""The end of a round: the gate's decision, what the next round begins with, the report, and the promotion."""

from selfloop.promote.close import close_stage
from selfloop.promote.gate import TARGET, GateParams, Outcome, decide
from selfloop.promote.restore import RestoreParams, restore_stage

__all__ = ["TARGET", "GateParams", "Outcome", "RestoreParams", "close_stage", "decide", "restore_stage"]
