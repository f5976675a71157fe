"""Registries of images that tests talk to: Debian's own, and one that fails in the way a test says."""

import base64
import hashlib
import json
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .servers import free_port

HOST = "registry.test"
USER, PASSWORD = "builder", "opensesame"
HTPASSWD = "builder:$2b$05$e/QJEr0WNi0s9z3PnkF7WOXYJjHUH687ypJBXhxuS4YBr4DcrwA7a"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class Registry(NamedTuple):
    """A running registry: where it is, and how to push to it."""

    host: str
    url: str
    session: requests.Session

    def push(self, repository: str, tag: str, index: bool = False) -> str:
        """Push an image without layers, or an index of one, and give its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
        begun = self.session.post(f"{self.url}/v2/{repository}/blobs/uploads/")
        begun.raise_for_status()
        self.session.put(
            begun.headers["Location"], params={"digest": sha256(config)}, data=config.encode()
        ).raise_for_status()
        about = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(config),
            "size": len(config),
        }
        image = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": about, "layers": []})
        digest = self._put(repository, sha256(image) if index else tag, image, MANIFEST)
        if not index:
            return digest
        listed = {"mediaType": MANIFEST, "digest": digest, "size": len(image)}
        listed["platform"] = {"architecture": "amd64", "os": "linux"}
        whole = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]})
        return self._put(repository, tag, whole, INDEX)

    def _put(self, repository: str, reference: str, text: str, kind: str) -> str:
        where = f"{self.url}/v2/{repository}/manifests/{reference}"
        self.session.put(where, data=text.encode(), headers={"Content-Type": kind}).raise_for_status()
        return sha256(text)


def sha256(text: str) -> str:
    """The digest of a text as registries write it."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@contextmanager
def debian_registry(
    auth: dict[str, Any] | None = None, authority: trustme.CA | None = None, headers: dict[str, str] | None = None
) -> Iterator[Registry]:
    """Debian's docker-registry on a port of its own; with an authority, over TLS as the host ``registry.test``."""
    with tempfile.TemporaryDirectory() as folder:
        place, port = Path(folder), free_port()
        http: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
        session = requests.Session()
        session.headers.update(headers or {})
        host, scheme = f"127.0.0.1:{port}", "http"
        if authority is not None:
            certificate = authority.issue_cert(HOST)
            certificate.private_key_pem.write_to_path(place / "key.pem")
            certificate.cert_chain_pems[0].write_to_path(place / "cert.pem")
            authority.cert_pem.write_to_path(place / "ca.pem")
            http["tls"] = {"certificate": str(place / "cert.pem"), "key": str(place / "key.pem")}
            host, scheme = f"{HOST}:{port}", "https"
            session.verify = str(place / "ca.pem")
        config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(place / "data")}}, "http": http}
        config["log"] = {"level": "error"}
        (place / "config.yml").write_text(json.dumps(config | ({"auth": auth} if auth else {})))
        process = subprocess.Popen(
            [str(shutil.which("docker-registry")), "serve", str(place / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(f"{scheme}://127.0.0.1:{port}/v2/", process)
            yield Registry(host, f"{scheme}://{host}", session)
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5, context=trusting if url.startswith("https") else None).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            continue
        return
    raise RuntimeError(f"docker-registry does not answer at {url}.")


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(
    answer: Callable[[str, str, dict[str, str]], Answer], context: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A server whose every answer a function makes; its address, and the requests that came."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(f"{self.command} {self.path}")
            status, headers, body = answer(self.command, self.path, dict(self.headers))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TokenIssuer:
    """Who signs the tokens that a registry takes, as the registry's token authentication says."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        day, now = timedelta(days=1), datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .sign(self._key, hashes.SHA256())
        )

    def bundle(self) -> bytes:
        """The certificate that the registry trusts."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def token(self, subject: str, access: list[dict[str, Any]]) -> str:
        """A signed token."""
        der = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        now = int(time.time())
        claims = {"iss": "tokens", "sub": subject, "aud": "images", "exp": now + 300, "nbf": now - 10, "iat": now}
        parts = [
            _encoded({"typ": "JWT", "alg": "ES256", "x5c": [der]}),
            _encoded(claims | {"jti": "1", "access": access}),
        ]
        r, s = decode_dss_signature(self._key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
        signature = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode()
        return ".".join([*parts, signature])

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        """Pull for everybody from ``public/``, and all for who knows the password."""
        asked = parse_qs(urlsplit(path).query)
        known = headers.get("Authorization") == basic(USER, PASSWORD)
        access = []
        for scope in " ".join(asked.get("scope", [])).split():
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if known else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": allowed})
        token = self.token(USER if known else "", access)
        return 200, {"Content-Type": "application/json"}, json.dumps({"token": token}).encode()


def _encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def basic(user: str, password: str) -> str:
    """A name and a password as an ``Authorization`` header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
