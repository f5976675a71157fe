"""``code``: programs are run against the tests of their task, in the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfloop.environments import find_environment
from selfloop.environments.code import Tested
from selfloop.verify.contract import Verifier, ended

if TYPE_CHECKING:
    import pyarrow as pa

    from selfloop.verify.contract import Context, Judged


class Code(Verifier):
    """Good is a program that passes every test in its task's metadata and was ended by the policy."""

    name = "code"
    needs = "tasks with unit tests, and the sandbox"
    runs_code = True

    def __call__(self, rollouts: pa.RecordBatch, tasks: pa.RecordBatch, context: Context) -> Judged:
        """Run each program against the tests of its task, as its environment does where that runs programs."""
        environment = context.environment if isinstance(context.environment, Tested) else find_environment("code")
        return ended(rollouts, *environment.check_batch(tasks, rollouts["completion"]))
