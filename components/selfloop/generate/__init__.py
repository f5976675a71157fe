"""Attempts at tasks: engines decode, protocols say who speaks when, windows make the work resumable and shareable."""

from selfloop.generate.draw import draw
from selfloop.generate.generate import JoinParams, generate_rollouts, join_rollouts
from selfloop.generate.params import DecodingParams, GenerateParams

__all__ = ["DecodingParams", "GenerateParams", "JoinParams", "draw", "generate_rollouts", "join_rollouts"]
