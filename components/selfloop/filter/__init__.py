"""What is kept: ``filter_rollouts`` sends rollouts through selectors, ``band_tasks`` keeps tasks of the frontier."""

from selfloop.filter.archiving import ExtendParams, extend_archive
from selfloop.filter.balancing import (
    BalanceParams,
    SamplingParams,
    TemperParams,
    balance_sampling,
    init_sampling,
    temper_tasks,
)
from selfloop.filter.band import BandParams, band_tasks
from selfloop.filter.filter import filter_rollouts
from selfloop.filter.inverting import InvertParams, invert_examples
from selfloop.filter.pairing import PairParams, pair_rollouts
from selfloop.filter.params import FilterParams
from selfloop.filter.repairing import RepairParams, repair_rollouts
from selfloop.filter.selecting import Selector
from selfloop.filter.selectors.verdicts import Correct

__all__ = [
    "BalanceParams",
    "BandParams",
    "Correct",
    "ExtendParams",
    "FilterParams",
    "InvertParams",
    "PairParams",
    "RepairParams",
    "SamplingParams",
    "Selector",
    "TemperParams",
    "balance_sampling",
    "band_tasks",
    "extend_archive",
    "filter_rollouts",
    "init_sampling",
    "invert_examples",
    "pair_rollouts",
    "repair_rollouts",
    "temper_tasks",
]
