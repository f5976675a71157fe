"""Build, tag and push the images: with ``docker buildx bake`` where Docker runs, else with buildah, and no registry.

buildah's images stand on a Debian that debootstrap makes, unless ``BASE_IMAGE`` names another; it wants root. How pip
reaches its packages on this machine (index, certificates, local folders) is lent to the build, and is in no image.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("base", "sandbox", "finetune", "generate", "rl")
TARGETS = ("python", "isolated", "installer", "packages", "source")
"""The targets of base's Dockerfile that the other images build on, by the name that these have for them."""
DEBIAN = "localhost/debian:bookworm"
LENT = "/dev/shm/packages"  # noqa: S108 (in memory while a step runs, so that no layer keeps even the name)


class Names(NamedTuple):
    """What the images are called: ``prefix/image:version``."""

    prefix: str
    version: str

    def of(self, image: str) -> str:
        """The reference of an image or of a target."""
        return f"{self.prefix}/{image}:{self.version}"


def version() -> str:
    """selfloop's version, read and not imported."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "components/selfloop/__init__.py").read_text(encoding="utf-8"))
    assert found
    return found[1]


def revision() -> str:
    """The commit, and whether there is more than it; ``unknown`` outside a repository."""
    asked = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def run(*command: str) -> None:
    """Run a command, shown first. Raises ``SystemExit`` where it fails; it has said why."""
    sys.stderr.write(f"+ {' '.join(command)}\n")
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit(f"images: {command[0]} failed: what it says stands above.")


def pip_settings() -> dict[str, str]:
    """How pip is set up here, the strongest place last: its files, then the environment."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    known = [re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.+)", line) for line in listed]
    order = {"global": 0, "install": 1, ":env:": 2}
    found = sorted((match for match in known if match), key=lambda match: order[match[1]])
    return {match[2]: str(ast.literal_eval(match[3])) for match in found}


@contextmanager
def lent(docker: bool) -> Iterator[list[str]]:
    """Words for the build that lend it this machine's pip: secrets, and for buildah the local folders."""
    settings, folders = pip_settings(), dict[str, str]()

    def moved(match: re.Match[str]) -> str:
        place = folders.setdefault(match[2], f"{LENT}/{len(folders)}")
        return f"{match[1] or ''}{place}"

    settings.pop("constraint", None)  # a file of this machine; the images' own say every version
    certificates = settings.pop("cert", os.environ.get("REQUESTS_CA_BUNDLE", ""))
    for name in {"find-links", "index-url", "extra-index-url"} & settings.keys():
        above = r"(?<!\S)(file://)?(/(?:[^\s/]+/)*?[^\s/]+)(?=/simple/?(?:\s|$)|\s|$)"
        settings[name] = re.sub(above, moved, settings[name])
    with TemporaryDirectory() as folder:
        file, lines = Path(folder, "pip.conf"), [f"{name} = {value}" for name, value in settings.items()]
        lines += ["cert = /run/secrets/certificates"] if certificates else []
        file.touch(mode=0o600)
        file.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
        secrets = [f"id=pip,src={file}"] + ([f"id=certificates,src={certificates}"] if certificates else [])
        if docker:
            yield [word for secret in secrets for word in ("--set", f"*.secrets={secret}")]
        else:
            volumes = [f"--volume={there}:{here}:ro" for there, here in folders.items()]
            yield [*(f"--secret={secret}" for secret in secrets), *volumes]


def bake(images: Sequence[str], names: Names, push: bool) -> None:
    """Build with Docker, as docker-bake.hcl says."""
    os.environ.update(IMAGE_PREFIX=names.prefix, VERSION=names.version, REVISION=revision())
    with lent(docker=True) as words:
        run("docker", "buildx", "bake", "-f", "images/docker-bake.hcl", *words, "--push" if push else "--load", *images)


def bud(images: Sequence[str], names: Names, push: bool) -> None:
    """Build with buildah, the shared targets first."""
    base = os.environ.get("BASE_IMAGE") or debian()
    given = [f"{name}={os.environ[name]}" for name in ("EXTRAS", "VLLM") if os.environ.get(name)]
    given += [f"VERSION={names.version}", f"REVISION={revision()}"]
    on_targets = [f"{name.upper()}={names.of(name)}" for name in TARGETS]
    with lent(docker=False) as words:
        for name in (*TARGETS, *images):
            image = "base" if name in TARGETS else name
            stands_on = base if image == "base" else names.of("isolated")
            arguments = [f"BASE_IMAGE={stands_on}", *given, *([] if image == "base" else on_targets)]
            # layers of what only installs are as large as the images, and take longer to keep than to make again
            kept = ["--layers"] if image == "base" else []
            command = ["buildah", "bud", *kept, "--isolation=oci", "--network=host", *words]
            command += [f"--build-arg={argument}" for argument in arguments]
            command += [f"--target={name}"] if name in TARGETS else []
            run(*command, f"--tag={names.of(name)}", f"--file=images/{image}/Dockerfile", ".")
    if push:
        send(images, names)


def send(images: Sequence[str], names: Names) -> None:
    """Push images to the registry in their names; who may, buildah knows (``buildah login``)."""
    for name in images:
        run("buildah", "push", names.of(name))


def debian() -> str:
    """A Debian of this machine's making, made once."""
    there = subprocess.run(["buildah", "inspect", DEBIAN], capture_output=True, check=False)  # noqa: S607
    if there.returncode:
        with TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # noqa: S103 (it becomes the image's root)
            run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder)
            shutil.rmtree(Path(folder, "var/cache/apt"))
            made = subprocess.run(["buildah", "from", "scratch"], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S607
            container = made.stdout.strip()
            run("buildah", "add", "--quiet", container, folder, "/")
            run("buildah", "commit", "--quiet", "--rm", container, DEBIAN)
    return DEBIAN


def containers_conf() -> Path:
    """Write what buildah and podman need in a machine without systemd and without the right to raise limits."""
    wanted = {"nofile": (resource.RLIMIT_NOFILE, 20000), "nproc": (resource.RLIMIT_NPROC, 8192)}
    limits = []
    for name, (which, most) in wanted.items():
        allowed = resource.getrlimit(which)[1]
        limit = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        limits.append(f'"{name}={limit}:{limit}"')
    lines = ["[containers]", f"default_ulimits = [{', '.join(limits)}]"]
    lines += ["[engine]", 'cgroup_manager = "cgroupfs"', 'events_logger = "file"', 'runtime = "runc"', ""]
    file = ROOT / ".build/containers.conf"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def engine() -> str:
    """Docker where its daemon answers, else buildah, set up for this machine."""
    chosen = os.environ.get("BUILDER")
    if not chosen:
        asked = [["docker", "info"], ["docker", "buildx", "version"]]
        answers = [shutil.which("docker") and subprocess.run(ask, capture_output=True, check=False) for ask in asked]
        chosen = "docker" if all(answer and not answer.returncode for answer in answers) else "buildah"
    if shutil.which(chosen) is None:
        raise SystemExit("images: neither Docker nor buildah is here: apt-get install buildah runc debootstrap.")
    if chosen == "buildah":
        os.environ.setdefault("CONTAINERS_CONF", str(containers_conf()))
    return chosen


def main() -> None:
    """Read the words and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", nargs="*", default=IMAGES, help=f"of {', '.join(IMAGES)}; all where none is named")
    parser.add_argument("--prefix", default="selfloop", help="registry and path before each image's name")
    parser.add_argument("--push", action="store_true", help="push what was built to the registry of the prefix")
    words = parser.parse_args()
    strange = [name for name in words.images if name not in IMAGES]
    if strange:
        raise SystemExit(f"images: there is no image '{strange[0]}': known are {', '.join(IMAGES)}.")
    if words.push and "." not in words.prefix.split("/")[0] and ":" not in words.prefix.split("/")[0]:
        raise SystemExit(f"images: '{words.prefix}' names no registry to push to: set IMAGE_PREFIX=HOST/PATH.")
    names = Names(words.prefix, version())
    {"docker": bake, "buildah": bud}[engine()](words.images, names, words.push)


if __name__ == "__main__":
    main()
