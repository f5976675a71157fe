"""What is kept to train on: ``filter_rollouts`` sends the rollouts through selectors, each counts what it rejects."""

from selfloop.filter.filter import filter_rollouts
from selfloop.filter.params import FilterParams
from selfloop.filter.selectors import PAIRS

__all__ = ["PAIRS", "FilterParams", "filter_rollouts"]
