"""How good policies are: candidate and champion on the same items, a policy by level, and the metrics of results."""

from selfloop.evaluate.archives import CompareParams, compare_archives
from selfloop.evaluate.games import PlayersParams, compare_players
from selfloop.evaluate.metrics import accuracy_by_level, flips, maj_at_k, pass_at_k, solved_levels
from selfloop.evaluate.policies import EvaluateParams, MeasureParams, check_vault, evaluate_policies, measure_policy

__all__ = [
    "CompareParams",
    "EvaluateParams",
    "MeasureParams",
    "PlayersParams",
    "accuracy_by_level",
    "check_vault",
    "compare_archives",
    "compare_players",
    "evaluate_policies",
    "flips",
    "maj_at_k",
    "measure_policy",
    "pass_at_k",
    "solved_levels",
]
