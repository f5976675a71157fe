"""The command ``selfloop``."""

from selfloop.cli import cluster, lineage, lists, run
from selfloop.cli.app import app, main

__all__ = ["app", "cluster", "lineage", "lists", "main", "run"]
