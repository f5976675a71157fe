"""The images as they are written: Dockerfiles, the bake file, the versions, the seccomp profile."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import hcl2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from selfloop import __version__
from selfloop.modes.fused import fused_stage
from selfloop.recipe import find_recipe
from selfloop.stages import stages

from ..containers import ROOT, SECCOMP
from ..packages import IMAGES, dockerfile, required


@pytest.fixture(scope="module")
def bake() -> dict[str, Any]:
    """docker-bake.hcl, with the quotes that the parser leaves taken off."""
    text = (ROOT / "images/docker-bake.hcl").read_text()

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(bare(name)): bare(each) for name, each in value.items()}
        if isinstance(value, list):
            return [bare(each) for each in value]
        return value.strip('"') if isinstance(value, str) else value

    def named(kind: str) -> dict[str, Any]:
        return {name: block for each in parsed[kind] for name, block in each.items()}

    parsed = bare(hcl2.loads(text))
    return {kind: named(kind) for kind in ("variable", "group", "target")}


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    files = [str(path) for path in sorted(ROOT.glob("images/*/Dockerfile"))]
    done = subprocess.run([str(program), *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_each_folder_is_an_image_of_the_bake_file_and_of_the_build(bake: dict[str, Any]) -> None:
    assert sorted(bake["group"]["default"]["targets"]) == IMAGES
    told = subprocess.run([sys.executable, "images/build.py", "nothing"], cwd=ROOT, capture_output=True, text=True)
    known = told.stderr.rpartition("known are ")[2].strip(".\n").split(", ")
    assert (told.returncode, sorted(known)) == (1, IMAGES)


def test_each_stage_names_an_image_that_there_is() -> None:
    named = {stage.image for stage in stages().values()}
    named |= {fused_stage(find_recipe("length-generalization"), part).image for part in ("start", "round")}
    assert named <= set(IMAGES)


def test_the_bake_file_builds_what_the_dockerfiles_ask_for(bake: dict[str, Any]) -> None:
    for name in bake["group"]["default"]["targets"]:
        target = bake["target"][name]
        above = bake["target"][target["inherits"][0]]
        file = (above | target)["dockerfile"]
        assert file == f"images/{name}/Dockerfile"
        declared = set(re.findall(r"^ARG (\w+)", dockerfile(name), re.MULTILINE))
        assert set(target.get("args", {})) <= declared
        assert target["tags"] == [f"${{IMAGE_PREFIX}}/{name}:${{VERSION}}"]
        stood_on = declared & {"BASE_IMAGE", "INSTALLER", "PACKAGES", "SOURCE"}
        if name != "base":
            assert {above["args"][each] for each in stood_on} <= set(above["contexts"])
            for context in above["contexts"].values():
                shared = bake["target"][context.removeprefix("target:")]
                assert f" AS {shared['target']}\n" in dockerfile("base")


def test_version_and_upstream_stand_in_the_bake_file_as_elsewhere(bake: dict[str, Any]) -> None:
    assert bake["variable"]["VERSION"]["default"] == __version__
    upstream = re.search(r"^ARG BASE_IMAGE=(\S+@sha256:[0-9a-f]{64})$", dockerfile("base"), re.MULTILINE)
    assert upstream
    assert bake["variable"]["BASE_IMAGE"]["default"] == upstream[1]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_ends_as_nobody_with_labels_and_its_source_last(image: str) -> None:
    last = dockerfile(image).rpartition("\nFROM ")[2]
    assert "USER" not in last, "the last stage keeps the user of what it stands on"
    assert "RUN" not in last, "nothing is installed in the stage that stays"
    assert [line for line in last.splitlines() if line.startswith("COPY")][-1] == "COPY --from=source /added /"
    labels = re.findall(r"org\.opencontainers\.image\.(\w+)=", last)
    assert {"title", "description", "licenses", "version", "revision"} <= set(labels)
    for target in ("python", "isolated"):
        users = re.findall(r"^USER (\S+)$", dockerfile("base").split(f" AS {target}\n")[1].split("\nFROM ")[0], re.M)
        assert users[-1] == "65532:65532"


@pytest.mark.parametrize("image", [*IMAGES, "tests"])
def test_whatever_an_image_asks_for_is_pinned(image: str) -> None:
    extras, constraints = "run dev reasoning-gym gguf", "constraints.txt"
    if image == "sandbox":
        assert "pip" not in dockerfile(image)
    elif image != "tests":
        extras = re.findall(r"requirements.py (.+?) \$\{EXTRAS\}", dockerfile(image))[0]
        constraints = re.findall(r"--constraint (\S+)", dockerfile(image))[0]
    pins = [line.split("==") for line in (ROOT / "images" / constraints).read_text().splitlines()]
    pinned: dict[str, str] = {canonicalize_name(name): version for name, version in pins}
    for requirement in map(Requirement, required(*extras.split())):
        if requirement.name.startswith("types-"):
            continue
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {constraints}"
        assert version in requirement.specifier
    assert pinned["torch"] == "2.13.0"


def test_an_extra_that_names_others_brings_what_they_bring() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = required("run")
    assert {*extras["stage"], *extras["generate"]} <= set(told)
    assert not [line for line in told if line.startswith("selfloop")]


def test_the_seccomp_profile_is_one_that_a_kubelet_reads() -> None:
    profile = json.loads(SECCOMP.read_text())
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    for rule in profile["syscalls"]:
        assert set(rule) <= {"names", "action", "args", "errnoRet"}
        assert rule["names"] == sorted(set(rule["names"]))
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    ways_out = "bpf init_module kexec_load keyctl add_key open_by_handle_at perf_event_open ptrace reboot userfaultfd"
    assert not allowed & {*ways_out.split(), "io_uring_setup", "process_vm_readv", "move_mount", "fsopen", "chroot"}


def test_the_sizes_in_the_documentation_are_those_measured() -> None:
    measured = json.loads((ROOT / "tests/benchmarks/results/images.json").read_text())["images"]
    told = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \|", (ROOT / "images/README.md").read_text(), re.MULTILINE)
    assert {name: int(size.replace(",", "")) for name, size in told} == {
        name: round(each["bytes"] / 1e6) for name, each in measured.items()
    }
    assert set(measured) == set(IMAGES)
