"""What a training hands on beside the weights: what its strategies remember; and a policy that was not trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfloop.artifacts import read_json, write_json
from selfloop.finetune.running.launch import Job, is_first
from selfloop.finetune.running.moments import read_moments, write_moments

if TYPE_CHECKING:
    from selfloop.finetune.running.moments import Moments

STATE = "state"
"""The input and the output in which strategies remember."""


def stored(job: Job) -> dict[str, Any]:
    """What the strategies remember of earlier rounds, by slot."""
    return dict(read_json(job.inputs[STATE])) if STATE in job.inputs else {}


def earlier_moments(job: Job) -> Moments:
    """What an optimizer knew at the end of the last round; nothing where none left it."""
    return read_moments(Path(job.inputs[STATE])) if STATE in job.inputs else {}


def handed_on(job: Job) -> dict[str, Any]:
    """Hand the policy on as it is, and what is remembered. Returns what the training came to."""
    from selfloop.policy import hand_on

    if is_first():
        hand_on(job.inputs["policy"], job.output)
        write_json(job.output / STATE, stored(job))
        if moments := earlier_moments(job):
            write_moments(job.output / STATE, moments)
    return {"steps": 0, "loss": 0.0}
