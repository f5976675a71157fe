"""Where a policy came from and what is in force.

MLflow holds the runs (``tracking``), the versions and the moves of the champion (``registry``); the store holds what
they are made of (``record``). Tracking is on where ``MLFLOW_TRACKING_URI`` is set.
"""

from selfloop.lineage.registry import closed_by
from selfloop.lineage.rounds import as_decided, carried_from, ledgers, left_by, note_beginning, policy_of, record_round
from selfloop.lineage.tracking import (
    THIS_RUN,
    begun_as,
    finish,
    is_on,
    join_run,
    kill,
    measured,
    opened_run,
    patient,
    tracked_run,
)

__all__ = [
    "THIS_RUN",
    "as_decided",
    "begun_as",
    "carried_from",
    "closed_by",
    "finish",
    "is_on",
    "join_run",
    "kill",
    "ledgers",
    "left_by",
    "measured",
    "note_beginning",
    "opened_run",
    "patient",
    "policy_of",
    "record_round",
    "tracked_run",
]
