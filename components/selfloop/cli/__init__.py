"""The command ``selfloop``."""

from selfloop.cli import cluster, doctor, lineage, lists, run
from selfloop.cli.app import app, main

__all__ = ["app", "cluster", "doctor", "lineage", "lists", "main", "run"]
