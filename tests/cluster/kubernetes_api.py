"""A Kubernetes API server for the tests: the part of the API that selfloop speaks, over TLS, and strict about it.

It keeps objects, refuses a write to another version of one than the last, and knows a bearer token. What a test plants
in ``faults`` strikes before or after the work was done; what it puts into ``denied`` its roles do not allow.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from selfloop.cluster.access import Access, of_person

TOKEN = "token-of-the-tests"
NAMESPACE = "team-a"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
METADATA_ONLY = "as=PartialObjectMetadata"
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
VERBS = {"POST": "create", "PUT": "update", "DELETE": "delete"}
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}

Json = dict[str, Any]


@dataclass
class Fault:
    """What happens to the next ``times`` requests of a method whose path holds a text.

    A status is answered, and nothing is done. Without one the request is done, and its answer is lost.
    """

    method: str = ""
    path: str = ""
    status: int | None = None
    times: int = 1

    def strikes(self, method: str, path: str) -> bool:
        if not self.times or method != (self.method or method) or self.path not in path:
            return False
        self.times -= 1
        return True


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class KubernetesApi:
    """A running server. ``objects`` are by path; ``calls`` are the method, the path and the Accept header of each."""

    place: Path
    port: int = 0
    objects: dict[str, Json] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """API groups, with or without a version, that are not installed."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    """What who asks may not do: verb and resource, such as ``("create", "leases")``."""
    denied_to_stages: set[tuple[str, str]] = field(default_factory=set)
    """What reviews say that the account of the stages may not do."""
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    _version: int = 100
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate that vouches for the server."""
        return self.place / "ca.crt"

    def kubeconfig(self, token: str = TOKEN, namespace: str | None = NAMESPACE) -> Path:
        """A person's configuration for this server."""
        context = {"cluster": "tests", "user": "me"} | ({"namespace": namespace} if namespace else {})
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.host, "certificate-authority": "ca.crt"}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": context}],
            "current-context": "tests",
        }
        path = self.place / "kubeconfig"
        path.write_text(yaml.safe_dump(configuration))
        return path

    def put(self, path: str, made: Mapping[str, Any]) -> None:
        """Put an object there, whatever there was."""
        with self._lock:
            self._keep(path, dict(made))

    def answer(self, method: str, path: str, headers: Message, body: bytes) -> tuple[int, Json]:
        """Status and body for a request."""
        accept = headers.get("Accept", "")
        try:
            with self._lock:
                self.calls.append((method, path, accept))
                if headers.get("Authorization", "").lower() != f"bearer {TOKEN}".lower():
                    raise _RefusedError(401, "Unauthorized")
                return 200 + (method == "POST"), self._done(method, path, accept, body)
        except _RefusedError as error:
            return error.status, refusal(error.status, str(error))

    def _done(self, method: str, path: str, accept: str, body: bytes) -> Json:
        resource, name = parsed(path)
        verb = VERBS.get(method) or ("get" if name else "list")
        if (verb, resource) in self.denied:
            raise _RefusedError(403, f'{resource} is forbidden: User "me" cannot {verb} resource "{resource}"')
        if any(path.startswith(f"/apis/{group}/") for group in self.absent):
            raise _RefusedError(404, "the server could not find the requested resource")
        if resource.endswith("accessreviews") and method == "POST":
            return self._review(json.loads(body), resource)
        if method == "GET":
            return self._read(path, resource, name, accept)
        if method == "DELETE" and resource == "trainjobs":
            return self._delete(path, json.loads(body))
        if method not in ("POST", "PUT") or resource != "leases":
            raise _RefusedError(405, f"{method} {path} is not for selfloop")
        return self._write(method, path, json.loads(body))

    def _read(self, path: str, resource: str, name: str, accept: str) -> Json:
        if name:
            if path not in self.objects:
                raise _RefusedError(404, f'{resource} "{name}" not found')
            found = self.objects[path]
            return {"metadata": found["metadata"]} if METADATA_ONLY in accept else found
        items = [made for at, made in self.objects.items() if at.rpartition("/")[0] == path]
        return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}

    def _write(self, method: str, path: str, made: Json) -> Json:
        check_lease(made)
        given = made["metadata"].get("resourceVersion")
        if method == "POST":
            _require(given is None, "metadata.resourceVersion: must not be set on objects to be created")
            path = f"{path}/{made['metadata']['name']}"
            namespace = re.sub(r"^/apis/[^/]+/v1/(namespaces/[^/]+)/.*", r"/api/v1/\1", path)
            if namespace not in self.objects:
                raise _RefusedError(404, f"namespaces {namespace.rpartition('/')[2]!r} not found")
            if path in self.objects:
                raise _RefusedError(409, f"{path} already exists")
            return self._keep(path, made)
        _require(given is not None, "metadata.resourceVersion: must be specified for an update")
        _require(path.endswith(f"/{made['metadata']['name']}"), "the name in the URL is not that of the object")
        if path not in self.objects:
            raise _RefusedError(404, f"{path} not found")
        if self.objects[path]["metadata"]["resourceVersion"] != given:
            raise _RefusedError(409, "the object has been modified; please apply your changes to the latest version")
        return self._keep(path, made)

    def _delete(self, path: str, options: Json) -> Json:
        if path not in self.objects:
            raise _RefusedError(404, f"{path} not found")
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, self.objects[path]["metadata"]["uid"]):
            raise _RefusedError(409, "the UID in the precondition is not that of the object")
        del self.objects[path]
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _keep(self, path: str, made: Json) -> Json:
        self._version += 1
        metadata = {"name": path.rpartition("/")[2], **made.get("metadata", {}), "resourceVersion": str(self._version)}
        self.objects[path] = {**made, "metadata": metadata}
        return self.objects[path]

    def _review(self, asked: Json, plural: str) -> Json:
        _require(f"{asked['kind']}s".lower() == plural and asked["apiVersion"] == "authorization.k8s.io/v1", "kind")
        spec = asked["spec"]
        if plural == "localsubjectaccessreviews":
            _require(asked["metadata"]["namespace"] == NAMESPACE, "metadata.namespace")
            _require(
                spec["user"] == f"system:serviceaccount:{NAMESPACE}:selfloop" and bool(spec["groups"]), "spec.user"
            )
        about = spec["resourceAttributes"]
        _require({"verb", "resource", "namespace"} <= about.keys(), "spec.resourceAttributes")
        _require(about.keys() <= {"verb", "resource", "namespace", "group", "subresource"}, "unknown field")
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        return {**asked, "metadata": {}, "status": {"allowed": (about["verb"], resource) not in self.denied_to_stages}}


def parsed(path: str) -> tuple[str, str]:
    """The resource and the name in a path; a name that is empty where there is none."""
    found = re.fullmatch(r"/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/[^/]+(?=/))?/([a-z]+)(?:/([^/]+))?", path)
    if not found:
        raise _RefusedError(404, f"{path} is unknown")
    return found[1], found[2] or ""


def check_lease(made: Json) -> None:
    """Refuse what a cluster refuses of a Lease."""
    _require(made.keys() <= {"apiVersion", "kind", "metadata", "spec"}, "unknown field")
    _require((made.get("apiVersion"), made.get("kind")) == ("coordination.k8s.io/v1", "Lease"), "apiVersion, kind")
    metadata, spec = made["metadata"], made["spec"]
    _require(metadata.keys() <= {"name", "labels", "annotations", "resourceVersion"}, "metadata: unknown field")
    _require(bool(LABEL.fullmatch(metadata["name"])), "metadata.name")
    known = {"holderIdentity": str, "acquireTime": str, "leaseTransitions": int}
    _require(all(isinstance(value, known[name]) for name, value in spec.items()), "spec")
    _require(bool(MICRO_TIME.fullmatch(spec["acquireTime"])), "spec.acquireTime")
    _require(spec.get("holderIdentity") != "" and spec["leaseTransitions"] >= 0, "spec")


def refusal(status: int, message: str) -> Json:
    """A ``Status``, as a cluster answers with it."""
    about = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**about, "message": message, "reason": REASONS.get(status, "InternalError"), "code": status}


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise _RefusedError(422, f"the object is invalid: {what}")


@contextmanager
def serving(place: Path) -> Iterator[KubernetesApi]:
    """Run a server for the length of a block; its certificate lies in a folder. It has the namespace ``team-a``."""
    api = KubernetesApi(place)
    api.put(f"/api/v1/namespaces/{NAMESPACE}", {"kind": "Namespace", "status": {"phase": "Active"}})
    _certify(place)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(place / "ca.crt", place / "ca.key")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            with api._lock:
                fault = next((fault for fault in api.faults if fault.strikes(self.command, path)), None)
            if fault and fault.status:
                status, said = fault.status, refusal(fault.status, "planted")
            else:
                status, said = api.answer(self.command, path, self.headers, body)
            if fault and not fault.status:
                self.close_connection = True
                return
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # a client that does not trust it hangs up
            pass

    with Listening(("127.0.0.1", 0), Handler) as listening:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        listening.daemon_threads = True
        api.port = listening.server_address[1]
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield api
        finally:
            listening.shutdown()


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesApi]:
    """A server for a test, which a module takes as ``kubernetes = kubernetes_api.kubernetes``."""
    place = tmp_path / "kubernetes"
    place.mkdir()
    with serving(place) as api:
        yield api


@pytest.fixture
def access(kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> Access:
    """A person's access to it."""
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig()))
    return of_person()


@pytest.fixture
def pod(kubernetes: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kubelet gives a pod: address, token, certificate and namespace; the folder where they lie."""
    for name, text in (("token", TOKEN), ("namespace", NAMESPACE)):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kubernetes.port))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(kubernetes.authority))
    monkeypatch.setattr("selfloop.cluster.access.NAMESPACE_OF_POD", tmp_path / "namespace")
    return tmp_path


def _certify(place: Path) -> None:
    """A certificate that vouches for itself, for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (place / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "ca.key").write_bytes(private)
