"""The images that are built here: how large they are, unpacked, and how long a container takes to list its stages.

Needs podman, and the images: ``make images``. A start is that of the container, the interpreter and selfloop.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from measuring import in_turns, publish, seconds, show, spread, wants_small
from selfloop import __version__

IMAGES = ("base", "sandbox", "finetune", "generate", "rl")
CONF = Path(".build/containers.conf")


def podman(*words: str) -> str:
    """What podman prints, set up as the images were built."""
    settings = {"CONTAINERS_CONF": str(CONF.resolve())} if CONF.exists() else {}
    done = subprocess.run(["podman", *words], check=True, capture_output=True, text=True, env=os.environ | settings)
    return done.stdout


def measured(image: str) -> dict[str, Any]:
    """The size of an image and of its layers, in bytes, and its largest packages, in MB."""
    name = f"selfloop/{image}:{__version__}"
    about = json.loads(podman("image", "inspect", name))[0]
    script = "cd /opt/selfloop/lib/python3.11/site-packages && du -sm * | sort -rn | head -4"
    listed = podman("run", "--rm", "--network=none", "--entrypoint=sh", name, "-c", script)
    largest = {package: int(size) for size, package in (line.split() for line in listed.splitlines())}
    return {"bytes": about["Size"], "layers": len(about["RootFS"]["Layers"]), "largest_mb": largest}


def started(image: str) -> None:
    """A container that says what stages there are."""
    locked = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--user=123456:123456")
    podman("run", *locked, f"selfloop/{image}:{__version__}", "--help")


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    if not CONF.exists():
        sys.stderr.write("Run it from the top of the repository, after make images.\n")
    found = {image: measured(image) for image in IMAGES}
    took = in_turns({image: partial(seconds, partial(started, image)) for image in IMAGES}, 1 if small else 5)
    starts = {image: spread(each) for image, each in took.items()}
    show(
        "Images",
        ["", "MB, unpacked", "largest packages, MB", "start, s"],
        [
            (
                image,
                round(of_it["bytes"] / 1e6),
                ", ".join(f"{name} {size}" for name, size in of_it["largest_mb"].items()),
                starts[image],
            )
            for image, of_it in found.items()
        ],
    )
    numbers = {image: of_it | {"start_seconds": starts[image]._asdict()} for image, of_it in found.items()}
    publish("images", small, {"images": numbers})


if __name__ == "__main__":
    main()
