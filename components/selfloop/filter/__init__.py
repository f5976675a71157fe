"""What is kept to train on: ``filter_rollouts`` sends the rollouts through selectors, each counts what it rejects."""

from selfloop.filter.filter import filter_rollouts
from selfloop.filter.params import FilterParams

__all__ = ["FilterParams", "filter_rollouts"]
