"""Settings with which any recipe runs two rounds in seconds: read off its own parameters, with no list of recipes."""

from typing import Any

from selfloop.recipe import Recipe

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "heads": 2,
    "layers": 1,
    "warmup_steps": 1,
    "decay_steps": 1,
    "batch_size": 16,
    "group_size": 4,
    "held_out_per_level": 8,
    "items_per_level": 12,
    "proposals": 30,
    "per_role": 30,
    "number": 8,
    "per_level": 12,
    "max_tokens": 24,
    "when_empty": "continue",
    "when_nothing": "keep policy",
}
"""By the name of a parameter, in whichever stage it is."""
OF_STAGE: dict[str, dict[str, Any]] = {
    "base": {"per_level": 60},
    "pretrain": {"steps": 30, "lr": 1e-2, "batch_size": 32},
    "propose": {"ahead": 1, "look_beyond": 0},
    "evaluate": {"samples": 1},
    "measure": {"per_level": 8, "samples": 1, "beyond": 1},
    "gate": {"require": "nothing", "guards": []},
}
"""Where a stage wants another value than the rest; a stage that a recipe has not is left out."""
STEPS = 2


def tiny(recipe: Recipe[Any], form: str = "") -> dict[str, Any]:
    """Two rounds of a recipe, or of one of its forms, in seconds: the machinery, not the learning."""
    found: dict[str, Any] = {"rounds": 2, "seed": 3, "form": form}
    for stage, params in recipe.settings.stages().items():
        small = {"steps": STEPS} | SMALL | OF_STAGE.get(stage, {})
        found[stage] = {name: value for name, value in small.items() if name in params.model_fields}
    before = recipe.resolve({"form": form})
    for stage, values in found.items():  # what a recipe leaves at nothing stays so
        for name in ("proposals",):
            if isinstance(values, dict) and name in values and not getattr(getattr(before, stage), name):
                del values[name]
    return found
