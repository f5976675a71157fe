"""Addresses with credentials are refused and shown nowhere; what is secret is sent where nobody reads it on the way."""

from pathlib import Path

import pytest
from selfloop.addresses import check_address, is_private
from selfloop.cli import app
from selfloop.cluster.connection import connect
from selfloop.errors import UserError
from selfloop.fetch import check_source
from selfloop.lineage.tracking import client
from selfloop.store import open_store
from typer.testing import CliRunner


@pytest.mark.parametrize("uri", ["s3://ada:walrus@bucket/p", "s3://walrus@bucket", "s3://:walrus@b"])
def test_an_address_with_credentials_is_refused_without_them(uri: str) -> None:
    for refuse in (open_store, lambda given: check_address(given, "put them elsewhere")):
        with pytest.raises(UserError, match="holds credentials, which would be kept and shown") as refused:
            refuse(uri)
        assert "walrus" not in str(refused.value)


@pytest.mark.parametrize("uri", ["s3://bucket/a@b", "models:/x@champion", "/tmp/a@b", "file:///a@b", "sqlite:///a@b"])
def test_an_at_sign_elsewhere_is_none(uri: str) -> None:
    assert check_address(uri, "") == uri


def test_a_policy_and_a_store_with_credentials_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "SELFLOOP_STORE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    given = [
        ["--policy", "s3://ada:walrus@bucket/p"],
        ["--store", "s3://ada:walrus@bucket/p"],
        ["--tracking-uri", "https://ada:walrus@host"],
    ]
    for arguments in given:
        done = CliRunner().invoke(app, ["run", "length-generalization", *arguments])
        assert isinstance(done.exception, UserError)
        assert "walrus" not in str(done.exception) + done.output
    with pytest.raises(UserError, match="holds credentials"):
        check_source("s3://ada:walrus@bucket/p")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"walrus" in path.read_bytes()]


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://host", True),
        ("http://localhost:8080", True),
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://host", False),
        ("http://localhost.evil.com", False),
        ("http://127.0.0.1.evil.com", False),
        ("http://10.0.0.1", False),
        ("http://ml-pipeline.kubeflow:8888", False),
        ("http://ml-pipeline.kubeflow.svc.cluster.local", False),
    ],
)
def test_a_token_is_sent_by_https_or_within_this_machine(
    monkeypatch: pytest.MonkeyPatch, url: str, private: bool
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert is_private(url) is private
    for name in ("SELFLOOP_KFP_TOKEN", "SELFLOOP_KFP_COOKIES"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "walrus")
            if private:
                assert connect(url).endpoint == url
                continue
            with pytest.raises(UserError, match="would be sent a token that everybody on the way reads") as refused:
                connect(url)
            assert "walrus" not in str(refused.value)


def test_what_mlflow_would_send_is_sent_by_https_or_within_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    secrets = {"MLFLOW_TRACKING_TOKEN": "a token", "MLFLOW_TRACKING_PASSWORD": "a password"}

    def refused(uri: str) -> str:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        try:
            client()
        except UserError as error:
            return str(error)
        return ""

    for name, told in secrets.items():
        with monkeypatch.context() as patched:
            patched.setenv(name, "walrus")
            said = refused("http://ada:otter@host:5000/path")
            assert said == f"http://host:5000 would be sent {told} that everybody on the way reads: use https."
            assert refused("http://localhost:5000") + refused("https://host") == ""
    assert refused("http://host:5000") == ""
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]\nmlflow_tracking_username = ada\n")
    assert "would be sent a password" in refused("http://host:5000")


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://ml-pipeline.kubeflow:8888", True),
        ("http://ml-pipeline.kubeflow.svc", True),
        ("http://ml-pipeline.kubeflow.svc.cluster.local:8888", True),
        ("http://ml-pipeline", True),
        ("http://evil.com", False),
        ("http://a.kubeflow.svc.evil.com", False),
        ("http://host.example.org", False),
    ],
)
def test_within_a_cluster_its_services_are_private(monkeypatch: pytest.MonkeyPatch, url: str, private: bool) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert is_private(url) is private
