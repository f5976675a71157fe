"""Recipes: one file a loop. Only the CLI and the tests import them."""
