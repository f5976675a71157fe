"""The command ``selfloop``."""

from selfloop.cli import doctor, lineage, lists, run
from selfloop.cli.app import app, main

__all__ = ["app", "doctor", "lineage", "lists", "main", "run"]
