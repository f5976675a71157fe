"""Where a policy came from and what is in force.

MLflow holds the runs (``tracking``), the versions and the moves of the champion (``registry``); the store holds what
they are made of (``record``). Tracking is on where ``MLFLOW_TRACKING_URI`` is set.
"""

from selfloop.lineage.rounds import as_decided, carried_from, left_by, note_beginning, policy_of, record_round
from selfloop.lineage.tracking import finish, is_on, join_run, measured, opened_run, tracked_run

__all__ = [
    "as_decided",
    "carried_from",
    "finish",
    "is_on",
    "join_run",
    "left_by",
    "measured",
    "note_beginning",
    "opened_run",
    "policy_of",
    "record_round",
    "tracked_run",
]
