"""The command ``selfloop``."""

from selfloop.cli import claims, cluster, doctor, lineage, lists, run
from selfloop.cli.app import app, main

__all__ = ["app", "claims", "cluster", "doctor", "lineage", "lists", "main", "run"]
