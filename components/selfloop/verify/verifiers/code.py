"""``code``: programs are run against the tests of their task, in the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.environments import find_environment
from selfloop.verify.contract import ended

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


def code(rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
    """Good is a program that passes every test in its task's metadata and was ended by the policy."""
    return ended(rollouts, *find_environment("code").check_batch(tasks, rollouts["completion"]))
