"""Running Python that nobody has read: each program in namespaces, a file system and limits of its own.

``run_programs`` runs whole programs; ``selfloop.sandbox.grading`` runs functions on tests and judges what they return
outside the sandbox. Where programs cannot be kept apart, nothing runs, unless a person asked for that in so many words.
"""

from selfloop.sandbox.isolation import UNSAFE, is_unsafe, probe
from selfloop.sandbox.replies import Answer
from selfloop.sandbox.running import Call, Limits, Outcome, Program, Sandbox, run_programs

__all__ = [
    "UNSAFE",
    "Answer",
    "Call",
    "Limits",
    "Outcome",
    "Program",
    "Sandbox",
    "is_unsafe",
    "probe",
    "run_programs",
]
