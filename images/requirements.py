"""Print what selfloop needs from the package index, with the extras named: ``python3 requirements.py stage train``."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def requirements(project: dict[str, Any], extras: list[str]) -> Iterator[str]:
    """The project's requirements and those of its extras; an extra that names others brings these."""
    yield from project["dependencies"]
    own = f"{project['name']}["
    for extra in extras:
        for each in project["optional-dependencies"][extra]:
            if each.startswith(own):
                yield from requirements(project, each.removeprefix(own).removesuffix("]").split(","))
            else:
                yield each


if __name__ == "__main__":
    found = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    print("\n".join(dict.fromkeys(requirements(found, sys.argv[1:]))))
