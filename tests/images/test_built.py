"""The images as they were built: who they run as, what is in them, and above all what is not."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from selfloop import __version__

from ..containers import ROOT, in_container, podman
from .conftest import reference

pytestmark = [pytest.mark.slow, pytest.mark.debian("buildah"), pytest.mark.debian("podman")]
IMAGES = ("base", "sandbox", "finetune", "generate", "rl")
COMPILERS = "gcc cc g++ c++ clang tcc rustc go nvcc make ld as"


def inspected(image: str) -> dict[str, Any]:
    return dict(json.loads(podman("image", "inspect", reference(image)).stdout)[0])


def shell(image: str, script: str, *options: str) -> str:
    done = in_container(reference(image), ["sh", "-c", script], *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is_and_runs_as_nobody_known(image: str) -> None:
    about = inspected(image)
    assert about["Config"]["User"] == "65532:65532"
    assert about["Config"]["Entrypoint"] == ["python3", "-m", "selfloop"]
    labels = about["Labels"]
    assert labels["org.opencontainers.image.title"] == f"selfloop {image}"
    assert labels["org.opencontainers.image.version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"])
    assert "Healthcheck" not in about["Config"], "none of them serves anything"


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_in_an_image_compiles(image: str) -> None:
    assert shell(image, f"for name in {COMPILERS}; do command -v $name; done; true") == ""


@pytest.mark.parametrize("image", IMAGES)
def test_only_base_lacks_the_sandbox_and_only_base_and_sandbox_lack_torch(image: str) -> None:
    listed = shell(image, "ls /opt/selfloop/lib/python3.11/site-packages").split()
    assert ("torch" in listed) == (image not in ("base", "sandbox"))
    assert ("trl" in listed) == (image in ("finetune", "rl"))
    assert ("vllm" in listed) == (image in ("generate", "rl"))
    assert (shell(image, "command -v bwrap || true") != "") == (image != "base")


@pytest.mark.parametrize("image", IMAGES)
def test_the_packages_of_an_image_fit_each_other(image: str) -> None:
    told = shell(image, "python3 -m pip --no-cache-dir check || true").splitlines()
    left_out = ("torchvision", "torchaudio", "torchcodec", "triton")
    told = [line for line in told if not any(name in line for name in left_out)]
    assert told in ([], ["No broken requirements found."])


@pytest.mark.parametrize("image", IMAGES)
def test_no_image_keeps_how_this_machine_reaches_its_packages(image: str) -> None:
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    private = set(re.findall(r"(?:file://)?/[\w./-]+|https?://\S+?(?=[\s'/])", listed.stdout))
    private = {each.removeprefix("file://") for each in private} - {"/etc/ssl/certs/ca-certificates.crt"}
    private |= {"/dev/shm/packages", "/run/secrets/certificates", "pip.conf"}
    about = json.dumps(inspected(image)["History"]) + json.dumps(inspected(image)["Config"])
    allowed = {"pip.conf"}  # the history names where the secret lay, and not what was in it
    assert not [each for each in private - allowed if each in about]
    assert shell(image, "ls /opt").split() == ["selfloop"]
    assert shell(image, "find /home /srv /mnt /media /tmp -mindepth 1") == ""
    words = " ".join(f"-e '{each}'" for each in sorted(private - allowed))
    found = shell(image, f"grep -rIlF {words} /etc /opt /usr/local /var 2>/dev/null || true", "--user=0").split()
    assert not found
    assert shell(image, "test ! -e /etc/pip.conf && ls -A /run/secrets 2>/dev/null || true") == ""


@pytest.mark.parametrize("image", IMAGES)
def test_whatever_wants_to_write_writes_below_tmp(image: str) -> None:
    asked = "import os, pathlib, getpass; print(pathlib.Path.home(), getpass.getuser(), os.environ['PYTHONHASHSEED'])"
    assert in_container(reference(image), ["python3", "-c", asked]).stdout == "/tmp selfloop 0\n"
    environment = shell(image, "env")
    for name in ("HF_HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "SELFLOOP_CACHE"):
        assert f"{name}=/tmp/" in environment
    assert in_container(reference(image), ["touch", "/opt/selfloop/mark"]).returncode != 0


@pytest.mark.parametrize("image", IMAGES)
def test_the_entry_point_runs_a_stage(image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    names = ("examples", "held_out", "replay_pool", "progress")
    words = [word for name in names for word in (f"--{name.replace('_', '-')}", f"/out/{name}")]
    done = in_container(
        reference(image),
        ["python3", "-m", "selfloop", "draw_base", *words, "--levels", "1", "--per-level", "5"],
        f"--volume={tmp_path}:/out",
    )
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / name / "manifest.json").is_file() for name in names)


@pytest.mark.parametrize("image", IMAGES)
def test_the_command_of_people_is_there_too(image: str) -> None:
    done = in_container(reference(image), ["selfloop", "doctor", "--help"])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_user_s_own_stage_is_a_file_beside_selfloop(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from typing import NamedTuple\n\n"
        "from kfp.dsl import Artifact\n"
        "from selfloop.artifacts import write_json\n"
        "from selfloop.stages import Params, stage\n\n"
        "class Greeting(NamedTuple):\n"
        "    greeting: Artifact\n\n"
        "@stage()\n"
        "def greet(out: Greeting, params: Params) -> None:\n"
        '    """Say hello."""\n'
        "    write_json(out.greeting.path, 'hello')\n"
    )
    (tmp_path / "Dockerfile").write_text(
        f"FROM {reference('base')}\nCOPY mine.py /opt/recipes/mine.py\nENV PYTHONPATH=/opt/recipes\n"
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    assert (
        podman("build", "--isolation=oci", "--network=host", "--tag=selfloop-test/own", str(tmp_path)).returncode == 0
    )
    try:
        command = ["python3", "-m", "selfloop", "mine:greet", "--greeting", "/out/greeting"]
        done = in_container("localhost/selfloop-test/own", command, f"--volume={tmp_path / 'out'}:/out")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out/greeting/manifest.json").is_file()
    finally:
        podman("image", "rm", "selfloop-test/own")


def test_a_push_without_a_registry_is_refused() -> None:
    told = subprocess.run([sys.executable, "images/build.py", "--push"], cwd=ROOT, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (
        1,
        "images: 'selfloop' names no registry to push to: set IMAGE_PREFIX=HOST/PATH.\n",
    )
