"""The README's commands, by the programs that they name: options exist, and what needs no cluster is run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ..conftest import program
from .building import COMPONENTS, MANIFESTS, OVERLAYS, built

pytestmark = pytest.mark.slow

README = (MANIFESTS / "README.md").read_text()
LINES = re.findall(r"^    (\S.*)$", README, re.MULTILINE) + re.findall(r"`(kubectl [^`]* [^`]*)`", README)
ROOT = MANIFESTS.parent


def commands(line: str) -> list[list[str]]:
    """The commands that a line pipes together."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words, found = list(lexer), [list[str]()]
    for word in words:
        if word == "|":
            found.append([])
        else:
            found[-1].append(word)
    return found


ALL = [command for line in LINES for command in commands(line)]
KUBECTL = [command for command in ALL if command[0] == "kubectl"]
SELFLOOP = [command for command in ALL if command[0] == "selfloop"]


def run(command: list[str], typed: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=typed, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_ten_commands_lead_to_a_scheduled_loop() -> None:
    block = README.partition("in ten commands")[2].partition("The first also writes")[0]
    said, *told = re.findall(r"^    (\S.*)$", block, re.MULTILINE)
    assert len(told) == 10
    assert told[-1].startswith("selfloop schedule")
    assert block.count("registry.example.com") == said.count("registry.example.com") == 1, "it is said once"


def test_what_is_said_before_the_commands_is_what_they_read() -> None:
    """make and selfloop in their environment, and kustomize in the file that make writes."""
    names = re.findall(r"(\w+)=", next(line for line in LINES if line.startswith("export ")))
    assert names == ["IMAGE_PREFIX", "SELFLOOP_KFP_ENDPOINT"]
    made = subprocess.run(
        ["make", "--dry-run", "images", "PUSH=1"],
        env=os.environ | {"IMAGE_PREFIX": "reg.example/x"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--prefix reg.example/x --push" in made
    assert "echo IMAGE_PREFIX=reg.example/x > manifests/components/images/prefix.env" in made
    assert (MANIFESTS / "components/images/prefix.env").read_text() == "IMAGE_PREFIX=selfloop\n"
    shown = run([sys.executable, "-c", "from selfloop.cli import main; main()", "submit", "--help"]).stdout
    assert all(name in shown for name in names)


def test_all_that_is_told_is_a_command() -> None:
    assert {command[0] for command in ALL} == {"export", "kubectl", "make", "openssl", "selfloop", "tr"}
    assert len(README.splitlines()) <= 120


@pytest.mark.debian("kubectl")
@pytest.mark.parametrize("command", KUBECTL, ids=" ".join)
def test_kubectl_knows_the_options(command: list[str]) -> None:
    done = run([str(program("kubectl")), *command[1:], "--help"])
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.debian("kubectl")
@pytest.mark.debian("kustomize")
@pytest.mark.parametrize("command", [command for command in KUBECTL if command[1:3] == ["apply", "-k"]], ids=" ".join)
def test_kubectl_builds_what_is_applied(command: list[str]) -> None:
    done = run([str(program("kubectl")), "kustomize", command[3]])
    assert done.returncode == 0, done.stderr
    assert list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)) == built(
        str(Path(command[3]).relative_to("manifests"))
    )


@pytest.mark.debian("kubectl")
def test_the_secrets_are_those_that_are_asked_for() -> None:
    making = {line[line.index("generic") + 1]: line for line in KUBECTL if "generic" in line}
    (reading,) = (line for line in KUBECTL if "mlpipeline-minio-artifact" in line)
    dry = ["--dry-run=client", "--output"]
    has = ["create", "secret", "generic", "x", "--from-literal=accesskey=one", "--from-literal=secretkey=two"]
    given = run([str(program("kubectl")), *has, *dry, *reading[reading.index("--output") + 1 :]])
    assert given.stdout == "AWS_ACCESS_KEY_ID=one\nAWS_SECRET_ACCESS_KEY=two\n", given.stderr
    for name, typed in (("selfloop-s3", given.stdout), ("selfloop-postgres", "three")):
        made = run([str(program("kubectl")), *making[name][1:], *dry, "yaml"], typed)
        secret = yaml.safe_load(made.stdout)
        assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == (name, "selfloop")
        assert f"{name}`" in README
        assert all(f"`{key}`" in README for key in secret["data"])
    assert set(yaml.safe_load(made.stdout)["data"]) == {"POSTGRES_PASSWORD"}


@pytest.mark.parametrize("command", SELFLOOP, ids=" ".join)
def test_selfloop_knows_the_options(command: list[str]) -> None:
    done = run([sys.executable, "-c", "from selfloop.cli import main; main()", *command[1:], "--help"])
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_make_knows_the_targets() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {word for command in ALL if command[0] == "make" for word in command[1:] if "=" not in word}
    assert told == {"images", "manifests"} & targets


def test_every_folder_is_told_of() -> None:
    for folder in (*(f"base/{each.name}" for each in (MANIFESTS / "base").iterdir() if each.is_dir()), "components/"):
        assert f"`{folder}`" in README, folder
    assert all(f"`overlays/{name}`" in README for name in OVERLAYS)
    assert {"images", "kueue", "mlflow", "minio", "seaweedfs", "external-secrets", "outside"} == set(COMPONENTS)


def test_the_page_on_clusters_has_the_same_ten_commands() -> None:
    blocks = re.findall(r"(?:^    .+\n)+", README, re.MULTILINE)
    (ten,) = [block for block in blocks if "kubectl apply -k manifests/overlays/kubeflow\n" in block]
    assert ten.count("\n") == 10
    assert ten in (ROOT / "docs" / "cluster.md").read_text()
