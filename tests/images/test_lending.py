"""What a build is lent of this machine: how pip reaches its packages, and nothing of it by name."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapping[str, str]:
    """pip set up as behind a company's index, with folders of its own."""
    for folder in ("wheels", "index/simple"):
        (tmp_path / folder).mkdir(parents=True)
    given = {
        "PIP_INDEX_URL": "https://somebody:hush@index.example.com/simple",
        "PIP_EXTRA_INDEX_URL": f"file://{tmp_path}/index/simple",
        "PIP_FIND_LINKS": f"{tmp_path}/wheels",
        "PIP_CONSTRAINT": f"{tmp_path}/constraints.txt",
        "PIP_CERT": f"{tmp_path}/ca.pem",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def secrets(words: list[str], mark: str) -> dict[str, Path]:
    found = [word.removeprefix(mark) for word in words if word.startswith(mark)]
    return {secret.split(",")[0].removeprefix("id="): Path(secret.split(",src=")[1]) for secret in found}


def test_buildah_is_lent_the_settings_as_a_secret_and_the_folders_in_memory(
    build: ModuleType, settings: Mapping[str, str], tmp_path: Path
) -> None:
    with build.lent(docker=False) as words:
        given = secrets(words, "--secret=")
        assert given["certificates"] == tmp_path / "ca.pem"
        assert given["pip"].stat().st_mode & 0o777 == 0o600
        text = given["pip"].read_text()
        assert settings["PIP_INDEX_URL"] in text
        assert "cert = /run/secrets/certificates" in text
        assert str(tmp_path) not in text
        volumes = dict(word.removeprefix("--volume=").split(":")[:2] for word in words if word.startswith("--volume="))
        assert volumes.keys() == {f"{tmp_path}/index", f"{tmp_path}/wheels"}
        assert f"extra-index-url = file://{volumes[f'{tmp_path}/index']}/simple" in text
        assert f"find-links = {volumes[f'{tmp_path}/wheels']}" in text
        assert "hush" not in " ".join(words)
    assert not given["pip"].exists()


def test_docker_is_lent_the_same_secrets(build: ModuleType, settings: Mapping[str, str]) -> None:
    with build.lent(docker=True) as words:
        assert words[::2] == ["--set", "--set"]
        assert secrets(words[1::2], "*.secrets=").keys() == {"pip", "certificates"}
        assert not [word for word in words if "volume" in word]


def test_certificates_are_found_where_the_environment_names_them(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "REQUESTS_CA_BUNDLE": f"{tmp_path}/ca.pem"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.setattr(build, "pip_settings", dict)
    with build.lent(docker=False) as words:
        assert secrets(words, "--secret=")["certificates"] == tmp_path / "ca.pem"
