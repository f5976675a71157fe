"""Images for what a person brought, such as a recipe of their own or a data set: those of the stages lack it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfloop.identity import brought
from selfloop.modes.tracing import stages_of
from selfloop.places import near
from selfloop.profiles import Profile
from selfloop.recipe import Recipe
from selfloop.settings import Settings

PLACE = "/opt/recipes"
"""Where an image has a person's own modules."""
PROVIDED = "selfloop_recipes"


def dockerfile(recipe: Recipe[Any], settings: Settings, profile: Profile, fused: bool) -> str:
    """What to build, and of what, so that the pods of a loop find what a person brought; empty where nothing was."""
    found = brought(settings, recipe.module)
    code = [_file(name) for name in found.code if name.partition(".")[0] != PROVIDED]
    data = [place for place in found.data if Path(place).exists()]
    if not code and not data:
        return ""
    images = sorted({stage.image for stage in stages_of(recipe, settings, fused)})
    names = ", ".join(dict.fromkeys([*(path.name for path in code), *data]))
    own = "registry.example.com/mine"
    return "\n".join(
        [
            f"The images of its stages lack {names}. For IMAGE in {' '.join(images)}, build {own}/IMAGE:"
            f"{profile.registry.tag} of",
            "",
            f"    FROM {profile.registry.prefix}/IMAGE:{profile.registry.tag}",
            *_copied(code, data),
            "",
            f"and compile with --image-prefix {own}.",
        ]
    )


def _copied(code: Sequence[Path], data: Sequence[str]) -> list[str]:
    modules = [f"    COPY {near(path)} {PLACE}/{path.name}" for path in dict.fromkeys(code)]
    tables = [f"    COPY {near(Path(place))} {_in_image(place)}" for place in data]
    return [*modules, *tables, *([f"    ENV PYTHONPATH={PLACE}"] if modules else [])]


def _in_image(place: str) -> str:
    """Where a pod looks for a file that a setting names: as it is spelt, from its working directory."""
    return place if Path(place).is_absolute() else f"/tmp/{place}"  # noqa: S108 (the images' working directory)


def _file(module: str) -> Path:
    """The file of a module of this name, or the folder of its package."""
    if module.endswith(".py"):
        return Path(module)
    spec = find_spec(module.partition(".")[0])
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0] if places else (spec.origin if spec and spec.origin else module))
