"""Whether a loop's settings, a recipe and a profile fit each other, said before anything is compiled."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from selfloop import machine
from selfloop.errors import UserError
from selfloop.lookup import unknown
from selfloop.modes.fused import fused_stage
from selfloop.modes.tracing import stages_of
from selfloop.profiles import Profile, profiles
from selfloop.recipe import Recipe
from selfloop.settings import Settings
from selfloop.stages import Params, Stage, stages

IMAGES = ("base", "generate", "finetune", "rl", "sandbox")
"""The images that stages run in."""
ASK_NO_POLICY = ("base", "sandbox")
"""Those whose stages need no GPU."""
MADE = ("close", "restore", "start", "round", "resolve")
"""The stages that are read off a recipe."""

NEARLY = 0.8
"""How alike two names are of which one is taken for the other, misspelt."""


def check(profile: Profile, recipe: Recipe[Any], settings: Settings, fused: bool = False) -> None:
    """Refuse names that stand for nothing, and more GPUs than the profile gives. Raises ``UserError``: one sentence."""
    used = stages_of(recipe, settings, fused)
    _check_names(profile, recipe, used)
    for stage in used:
        profile.resources(stage)
    for name in recipe.settings.stages():
        params = getattr(settings, name)
        takers = [stage for stage in used if isinstance(params, stage.params) and stage.image not in ASK_NO_POLICY]
        if fused or takers:
            _check_gpus(profile, name, params, takers or [fused_stage(recipe, "round")])


def check_here(profile: Profile, recipe: Recipe[Any], settings: Settings) -> None:
    """Refuse the same where there are no pods, and more GPUs than this machine has."""
    check(profile, recipe, settings)
    used, there = stages_of(recipe, settings, fused=False), machine.gpus()
    wanted = {each.name: max(each.resources(stage).gpu for stage in used) for each in (*profiles().values(), profile)}
    number = wanted[profile.name]
    if number > there:
        enough = [name for name, needed in wanted.items() if needed <= there]
        gpus = f"{number} GPU{'s' * (number > 1)}"
        raise UserError(
            f"Profile '{profile.name}' is for {gpus}, and this machine has {there or 'none'}: choose --profile "
            f"{' or '.join(enough)}, or leave it out."
        )


def _check_names(profile: Profile, recipe: Recipe[Any], used: Iterable[Stage]) -> None:
    """Refuse stages and images that are none, and settings that are nearly some: others may be another recipe's."""
    known = stages().values()
    parts = recipe.settings.stages()
    verbs = {stage.verb for stage in (*known, *used)}
    fields = {key for params in (*(stage.params for stage in known), *parts.values()) for key in params.model_fields}
    set_ = {key for values in profile.settings.values() for key in values}
    for what, names, there, closeness in (
        ("stage", profile.stages, verbs | {*MADE}, 0.0),
        ("image", profile.images, {stage.image for stage in used} | {*IMAGES}, 0.0),
        ("stage with settings", profile.settings, verbs | {*parts}, NEARLY),
        ("parameter", set_, fields, NEARLY),
    ):
        for name in names:
            if name not in there and get_close_matches(name, there, n=1, cutoff=closeness):
                raise UserError(f"Profile '{profile.name}': {unknown(what, name, there)}")


def _check_gpus(profile: Profile, name: str, params: Params, takers: list[Stage]) -> None:
    wanted = getattr(params, "tensor_parallel", 1)
    stage = max(takers, key=lambda taker: profile.resources(taker).gpu)
    there = profile.resources(stage).gpu
    if wanted == 1 or wanted <= there:
        return
    enough = [other.name for other in profiles().values() if other.resources(stage).gpu >= wanted]
    other = f"choose --profile {enough[0]}, or " if enough else ""
    raise UserError(
        f"{name}.tensor_parallel={wanted} needs {wanted} GPUs where profile '{profile.name}' gives stage "
        f"'{stage.verb}' {there}: {other}set gpu under [stages.{stage.verb}] in a profile of your own."
    )
