"""Every command that a manifest names is run in the environment of the image that it names."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..packages import dockerfile
from .building import MANIFESTS

pytestmark = pytest.mark.slow

Programs = Callable[[str], Path]


def containers_of_ours(thing: Any) -> Iterator[dict[str, Any]]:
    """Whatever names one of selfloop's images, however deep it lies."""
    inner = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else []
    if isinstance(thing, dict) and re.match(r"selfloop/\w+:", str(thing.get("image", ""))):
        yield thing
    for each in inner:
        yield from containers_of_ours(each)


def command(container: dict[str, Any]) -> tuple[str, list[str]]:
    """The image of a container and what is run in it: the image's own entry point where no command is named."""
    image = container["image"].partition("/")[2].partition(":")[0]
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", dockerfile("base"), re.MULTILINE)
    return image, [*container.get("command", json.loads(entry)), *container.get("args", [])]


COMMANDS = [
    command(container)
    for place in sorted(MANIFESTS.rglob("*.yaml"))
    for document in yaml.safe_load_all(place.read_text())
    for container in containers_of_ours(document)
]


def ran(programs: Path, words: list[str], **surroundings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(programs)} | surroundings
    found = next(place for place in environment["PATH"].split(":") if os.access(f"{place}/{words[0]}", os.X_OK))
    return subprocess.run(
        [f"{found}/{words[0]}", *words[1:]], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(("image", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_the_command_is_known_in_the_image(programs_of: Programs, image: str, words: list[str]) -> None:
    done = ran(programs_of(image), [*words, "--help"])
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_no_image_is_started_without_being_looked_at() -> None:
    text = "".join(place.read_text() for place in MANIFESTS.rglob("*.yaml"))
    assert len(COMMANDS) == len(re.findall(r"image: selfloop/", text))
    assert {"selfloop", "python3"} <= {words[0] for _, words in COMMANDS}


def test_the_doctor_looks_at_everything_with_the_packages_of_its_image(programs_of: Programs) -> None:
    whole, sandboxed = [each for each in COMMANDS if "doctor" in each[1]]
    (image, words), nowhere = whole, "http://127.0.0.1:1"
    addresses = {"SELFLOOP_KFP_ENDPOINT": nowhere, "MLFLOW_TRACKING_URI": nowhere, "AWS_ENDPOINT_URL_S3": nowhere}
    addresses |= {"SELFLOOP_STORE": "s3://bucket/prefix", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = ran(programs_of(image), [*words, "--in-pod"], **addresses)
    assert (done.returncode, done.stderr) == (1, "")
    for subject in ("KFP", "MLflow", "store"):
        assert re.search(rf"^. {subject} ", done.stdout, re.MULTILINE), done.stdout
    assert f"{nowhere} does not answer well" in done.stdout
    assert "lacks the package" not in done.stdout
    assert not re.search("^. sandbox", done.stdout, re.MULTILINE), "it has no bubblewrap, and the other container has"
    image, words = sandboxed
    done = ran(programs_of(image), [*words, "--in-pod"])
    assert re.findall(r"^[✓✗–] (\w+)", done.stdout, re.MULTILINE) == ["sandbox"], done.stdout
