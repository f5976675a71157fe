"""The command ``selfloop``."""

import selfloop.cli.run  # noqa: F401 (first: the help lists commands in the order of their definition)
from selfloop.cli import claims, cluster, doctor, gate, lineage, lists, run, show
from selfloop.cli.app import app, main

__all__ = ["app", "claims", "cluster", "doctor", "gate", "lineage", "lists", "main", "run", "show"]
