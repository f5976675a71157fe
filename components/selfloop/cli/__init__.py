"""The command ``selfloop``."""

from selfloop.cli import lineage, lists, run
from selfloop.cli.app import app, main

__all__ = ["app", "lineage", "lists", "main", "run"]
