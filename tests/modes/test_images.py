"""Images by digest, asked of Debian's registry, and of one that fails."""

import json
import logging
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from selfloop.modes import images
from selfloop.modes.images import credentials, parted, references, resolved
from selfloop.profiles import find_profile

from .. import registry
from ..registry import HOST, HTPASSWD, PASSWORD, USER, Registry, answering, basic, debian_registry

pytestmark = pytest.mark.slow

PARTS = st.from_regex(r"[a-z0-9]{1,5}(-[a-z0-9]{1,3})?", fullmatch=True)
REAL = pytest.mark.debian("docker-registry")
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's configuration, empty, and no authorities but the system's."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was warned of so far."""
    caplog.set_level(logging.WARNING, logger="selfloop")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A private authority, and a host that it vouches for, which is this machine."""
    found = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **named: Any) -> Any:
        return found("127.0.0.1" if host == HOST else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return trustme.CA()


@pytest.fixture(params=["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def trusted(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> trustme.CA:
    """The authority, trusted as users say it."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv(request.param, str(tmp_path / "authority.pem"))
    return authority


@pytest.fixture(scope="module")
def open_registry() -> Iterator[Registry]:
    with debian_registry() as found:
        yield found


@REAL
@pytest.mark.parametrize("index", [False, True])
def test_a_tag_becomes_the_digest_that_the_registry_has(
    open_registry: Registry, warned: Callable[[], list[str]], index: bool
) -> None:
    digest = open_registry.push("team/base", f"index-{index}", index)
    reference = f"{open_registry.host}/team/base:index-{index}"
    assert resolved([reference]) == {reference: f"{open_registry.host}/team/base@{digest}"}
    assert warned() == []


@REAL
def test_the_images_of_a_profile_are_pinned_and_what_is_not_there_keeps_its_tag(
    open_registry: Registry, warned: Callable[[], list[str]]
) -> None:
    profile = find_profile("cpu").with_prefix(f"{open_registry.host}/loops")
    digest = open_registry.push("loops/base", profile.registry.tag)
    found = references(profile, ["base", "generate", "finetune"])
    prefix, tag = profile.registry.prefix, profile.registry.tag
    assert found == {
        "base": f"{prefix}/base@{digest}",
        "generate": f"{prefix}/generate:{tag}",
        "finetune": f"{prefix}/finetune:{tag}",
    }
    assert warned() == [
        f"{prefix}/generate:{tag}, {prefix}/finetune:{tag}: no digest, so the tag stays and its image may change: its "
        "registry answered 404 Not Found."
    ]


@REAL
def test_a_login_and_a_private_authority_are_used(
    trusted: trustme.CA, docker_config: Path, tmp_path: Path, warned: Callable[[], list[str]]
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with debian_registry({"htpasswd": {"realm": "r", "path": str(tmp_path / "htpasswd")}}, trusted) as found:
        found.session.auth = (USER, PASSWORD)
        digest = found.push("team/base", "1")
        reference = f"{found.host}/team/base:1"
        assert resolved([reference]) == {reference: reference}
        assert len(warned()) == 1
        assert "without a login" in warned()[0]
        login = basic(USER, PASSWORD).removeprefix("Basic ")
        docker_config.write_text(json.dumps({"auths": {found.host: {"auth": login}}}))
        assert resolved([reference]) == {reference: f"{found.host}/team/base@{digest}"}
        docker_config.write_text(json.dumps({"auths": {found.host: {"auth": basic(USER, "wrong")[6:]}}}))
        assert resolved([reference]) == {reference: reference}
        assert not any(login in line or PASSWORD in line for line in warned())


@REAL
def test_tokens_are_fetched_for_everybody_and_for_who_logged_in(
    trusted: trustme.CA, docker_config: Path, tmp_path: Path
) -> None:
    issuer = registry.TokenIssuer()
    (tmp_path / "issuer.pem").write_bytes(issuer.bundle())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted.issue_cert(HOST).configure_cert(context)
    with answering(lambda _, path, headers: issuer.answer(path, headers), context) as (address, asked):
        realm = f"https://{HOST}:{address.rpartition(':')[2]}/token"
        token = {
            "realm": realm,
            "service": "images",
            "issuer": "tokens",
            "rootcertbundle": str(tmp_path / "issuer.pem"),
        }
        with debian_registry({"token": token}, trusted) as found:
            digests = {}
            for name in ("public/base", "team/base"):
                access = [{"type": "repository", "name": name, "actions": ["pull", "push"]}]
                found.session.headers["Authorization"] = f"Bearer {issuer.token(USER, access)}"
                digests[name] = found.push(name, "1")
            public, own = (f"{found.host}/{name}:1" for name in digests)
            pinned = [f"{found.host}/{name}@{digest}" for name, digest in digests.items()]
            assert resolved([public, own]) == {public: pinned[0], own: own}
            docker_config.write_text(json.dumps({"auths": {found.host: {"auth": basic(USER, PASSWORD)[6:]}}}))
            assert resolved([public, own]) == dict(zip((public, own), pinned, strict=True))
    assert all(line.startswith("GET /token?") and "scope=repository" in line for line in asked)


@REAL
def test_an_authority_that_nobody_trusts_is_not_asked(
    authority: trustme.CA, warned: Callable[[], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with debian_registry({"htpasswd": {"realm": "r", "path": str(tmp_path / "htpasswd")}}, authority) as found:
        reference = f"{found.host}/team/base:1"
        assert resolved([reference]) == {reference: reference}
    assert "(SSLError)" in warned()[0]


def test_a_credential_helper_is_asked(docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "bin" / "docker-credential-vault"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\nread host\n[ "$host" = ghcr.io ] && echo \'{"Username": "u", "Secret": "s"}\'\n')
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(helper.parent), prepend=os.pathsep)
    docker_config.write_text(json.dumps({"credsStore": "vault", "credHelpers": {"quay.io": "none"}}))
    assert credentials("ghcr.io") == basic("u", "s")
    assert credentials("localhost:5000") is None
    assert credentials("quay.io") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"auths": {}}'])
def test_without_a_login_one_is_nobody(docker_config: Path, text: str) -> None:
    docker_config.write_text(text)
    assert credentials("ghcr.io") is None


def test_dockers_own_registry_is_known_by_its_other_names(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": "dTpz"}}}))
    assert credentials("docker.io") == "Basic dTpz"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {}, b""), "answered 500"),
        ((429, {}, b""), "answered 429"),
        ((403, {}, b""), "answered 403"),
        ((401, {"WWW-Authenticate": "Basic"}, b""), "Auth requires HTTPS"),
        ((200, {}, b""), "tells no digest"),
        ((200, {"Docker-Content-Digest": "sha256:x"}, b""), "tells no digest"),
    ],
)
def test_a_registry_that_does_not_say_leaves_the_tag(
    answer: registry.Answer, said: str, warned: Callable[[], list[str]]
) -> None:
    with answering(lambda *_: answer) as (host, asked):
        reference = f"{host}/team/base:1"
        assert resolved([reference]) == {reference: reference}
    assert asked[0] == "HEAD /v2/team/base/manifests/1"
    assert len(warned()) == 1
    assert said in warned()[0]


@pytest.mark.parametrize("headers", [{}, {"WWW-Authenticate": "Bearer"}, {"WWW-Authenticate": 'Bearer realm="x"'}])
def test_a_login_that_is_not_understood_leaves_the_tag(
    headers: dict[str, str], trusted: trustme.CA, warned: Callable[[], list[str]]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusted.issue_cert(HOST).configure_cert(context)
    with answering(lambda *_: (401, headers, b""), context) as (address, _):
        reference = f"{HOST}:{address.rpartition(':')[2]}/team/base:1"
        assert resolved([reference]) == {reference: reference}
    assert len(warned()) == 1


def test_all_kinds_of_manifests_are_accepted() -> None:
    accepted: list[str] = []

    def answer(_: str, __: str, headers: dict[str, str]) -> registry.Answer:
        accepted.extend(headers["Accept"].split(", "))
        return 200, {"Docker-Content-Digest": DIGEST}, b""

    with answering(answer) as (host, _):
        assert resolved([f"{host}/base"]) == {f"{host}/base": f"{host}/base@{DIGEST}"}
    assert {registry.MANIFEST, registry.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"} <= {
        *accepted
    }


def test_a_registry_that_never_answers_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(images, "SECONDS", 0.2)
    let_go = threading.Event()

    def hang(*_: Any) -> registry.Answer:
        let_go.wait(60)
        return 200, {"Docker-Content-Digest": DIGEST}, b""

    with answering(hang) as (host, asked):
        tagged = [f"{host}/{name}:1" for name in ("base", "generate", "finetune")]
        assert resolved(tagged) == {reference: reference for reference in tagged}
        let_go.set()
    assert len(asked) == 1
    assert len(warned()) == 1
    assert "does not answer (ReadTimeout)" in warned()[0]


def test_a_registry_that_is_not_there_leaves_the_tag(warned: Callable[[], list[str]]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        reference = f"localhost:{bound.getsockname()[1]}/base:1"
        assert resolved([reference]) == {reference: reference}
    assert "does not answer (ConnectionError)" in warned()[0]


def test_a_prefix_that_names_no_registry_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    profile = find_profile("cpu")
    assert references(profile, ["base"]) == {"base": f"selfloop/base:{profile.registry.tag}"}
    pinned = f"ghcr.io/team/base@{DIGEST}"
    assert resolved([pinned]) == {pinned: pinned}
    assert warned() == []


@given(
    st.sampled_from(["localhost", "localhost:5000", "ghcr.io", "harbor.lan:8443", ""]),
    st.lists(PARTS, min_size=1, max_size=3),
    PARTS,
)
def test_a_reference_is_taken_apart_as_it_was_put_together(host: str, names: list[str], tag: str) -> None:
    repository = "/".join(names)
    assert parted("/".join(filter(None, (host, repository))) + f":{tag}") == (host, repository, tag)
    assert parted("/".join(filter(None, (host, repository)))) == (host, repository, "latest")
