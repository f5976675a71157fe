"""What each image installs, and an environment with these packages alone, where there is no image."""

import re
import subprocess
import sys
import tomllib
import venv
from collections import defaultdict
from functools import cache
from importlib.metadata import distribution, distributions, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .containers import ROOT

IMAGES = sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile"))


def dockerfile(image: str) -> str:
    return (ROOT / f"images/{image}/Dockerfile").read_text()


def required(*extras: str) -> list[str]:
    """What an image installs for these extras."""
    command = [sys.executable, "images/requirements.py", *extras]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def extras(image: str) -> list[str]:
    """The extras that an image installs, those of the base that it stands on among them."""
    written = dockerfile(image)
    beneath = extras("base") if "\nARG PACKAGES=" in written else []
    return [*beneath, *" ".join(re.findall(r"requirements\.py (.+?) \$\{EXTRAS\}", written)).split()]


@cache
def installed(image: str) -> frozenset[str]:
    """The names of all distributions in an image. What vLLM brings along is not known here."""
    vllm = {"vllm"} if "\nARG VLLM=" in dockerfile(image) else set()
    return needed(*required(*extras(image))) | vllm


def needed(*requirements: str) -> frozenset[str]:
    """The names of all distributions that some requirements come to, as the metadata of those here says."""
    found = set[tuple[str, str]]()
    for line in requirements:
        _add(Requirement(line), "", found)
    return frozenset(name for name, _ in found)


def _add(requirement: Requirement, extra: str, found: set[tuple[str, str]]) -> None:
    """Add a distribution and, as its metadata says, those that it asks for."""
    name = canonicalize_name(requirement.name)
    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
        return
    for each in {"", *requirement.extras}:
        if (name, each) not in found:
            found.add((name, each))
            for line in distribution(name).requires or []:
                _add(Requirement(line), each, found)


def lacks(image: str, package: str) -> bool:
    """Whether no distribution of an image, and not Python itself, brings a package that is imported by this name."""
    bringing = {canonicalize_name(name) for name in _brought().get(package, [package])}
    return package not in sys.stdlib_module_names and not bringing & installed(image)


@cache
def _brought() -> dict[str, list[str]]:
    return dict(packages_distributions())


def environment(image: str, place: Path) -> Path:
    """Make a virtual environment of links to an image's packages, with selfloop as it is here. Returns its programs."""
    venv.create(place, symlinks=True)
    site = lent(installed(image), place)
    (site / "selfloop.pth").write_text(f"{ROOT / 'components'}\n{ROOT / 'pipelines'}\n")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        module, _, function = target.partition(":")
        script = place / "bin" / name
        script.write_text(f"#!{place}/bin/python3\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    return place / "bin"


def lent(chosen: frozenset[str], place: Path) -> Path:
    """Let a virtual environment have packages of this one, by links. Returns where it has them."""
    (site,) = place.glob("lib/python3*/site-packages")
    for link, target in _links(chosen, site).items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return site


def _links(chosen: frozenset[str], site: Path) -> dict[Path, Path]:
    """What each link below ``site`` leads to: a whole folder where all in it was chosen, else file by file."""
    files = {each: [str(file) for file in each.files or []] for each in distributions()}
    owners = defaultdict[str, set[str]](set)
    for each, owned in files.items():
        for top in {file.partition("/")[0] for file in owned}:
            owners[top].add(canonicalize_name(each.name))
    whole = {top for top, by in owners.items() if by <= chosen}
    made: dict[Path, Path] = {}
    for each, owned in files.items():
        if canonicalize_name(each.name) in chosen:
            home = Path(str(each.locate_file("")))
            parts = {top if (top := file.partition("/")[0]) in whole else file for file in owned}
            made |= {site / part: home / part for part in parts if not part.startswith("..")}  # those are programs
    return made
