"""A Kubernetes API server for the tests, with Kubeflow's Trainer behind it: what a training across nodes speaks to.

It speaks TLS, knows the token of a service account, and takes a TrainJob only as ``kubeflow-trainer-api`` describes it:
a field that the API does not know is refused. The command of a TrainJob really runs, one process group a node, with the
environment that the Trainer's torch runtime gives, the secrets of the runtime among it. Where a test wants nodes that
cannot be had here, it puts their pods there itself (``pretend``).
"""

from __future__ import annotations

import copy
import datetime
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

TOKEN = "token-of-the-tests"
NAMESPACE = "team-a"
POD = "finetune-pod"
IMAGE = "registry.test/selfloop/finetune@sha256:" + "0" * 64
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
INDEX = "batch.kubernetes.io/job-completion-index"
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}

Json = dict[str, Any]


class RefusedError(Exception):
    """What the server answers instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Fault:
    """What happens to the next ``times`` requests of a verb for a resource, after the first ``skip`` of them.

    A status is answered and nothing done; without one the request is done and its answer lost.
    """

    verb: str
    resource: str
    status: int | None = None
    times: int = 1
    skip: int = 0

    def strikes(self, verb: str, resource: str) -> bool:
        if not self.times or (verb, resource) != (self.verb, self.resource):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Node:
    """A pod of a TrainJob and what it says. ``process`` is there where its command really runs."""

    pod: Json
    log: list[tuple[str, str]] = field(default_factory=list)
    before: list[tuple[str, str]] = field(default_factory=list)
    """The log of its container before it was started again."""
    dies_at: str = ""
    """The line after which its machine is gone; with none it stays."""
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None

    def say(self, line: str) -> None:
        self.log.append((now(), line))


@dataclass
class TrainerApi:
    """A running server. ``calls`` are verb and resource of each request."""

    place: Path
    port: int = 0
    pods: dict[str, Json] = field(default_factory=dict)
    jobs: dict[str, Json] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=lambda: defaultdict(list))
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    """Those that the TrainingRuntime gives its nodes."""
    events: list[Json] = field(default_factory=list)
    runtime: dict[str, str] = field(default_factory=dict)
    """What else of an environment it gives them."""
    pretend: Callable[[TrainerApi, str], None] | None = None
    """What is done with a new TrainJob, by name, instead of running it."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    absent: bool = False
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    created: list[Json] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def environment(self) -> dict[str, str]:
        """What Kubernetes puts into the environment of a pod."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port), "POD_NAME": POD}

    def files(self) -> dict[str, Path]:
        """What Kubernetes mounts into a pod: its account's token, the server's authority, the namespace."""
        return {name: self.place / name for name in ("token", "ca.crt", "namespace")}

    def add_pod(self, name: str = POD, phase: str = "Running", **spec: Any) -> Json:
        """A pod that a pipeline started."""
        container = {"name": "main", "image": "selfloop/finetune:tag", "env": [], "resources": {}}
        pod = {
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "labels": {}},
            "spec": {"containers": [container]} | spec,
            "status": {"phase": phase},
        }
        self.pods[name] = pod
        return pod

    def add_node(self, job: str, number: int, state: Json, **status: Any) -> Node:
        """A pod of a TrainJob whose container is in a state."""
        limits = self.jobs[job]["spec"]["trainer"].get("resourcesPerNode", {}).get("limits", {})
        labels = {"jobset.sigs.k8s.io/jobset-name": job, "jobset.sigs.k8s.io/replicatedjob-name": "node"}
        name = f"{job}-node-0-{number}-{uuid.uuid4().hex[:5]}"
        container_status = {
            "name": "node",
            "image": IMAGE,
            "imageID": "",
            "ready": False,
            "restartCount": status.pop("restarts", 0),
            "lastState": status.pop("last", {}),
            "state": state,
        }
        pod = {
            "metadata": {
                "name": name,
                "uid": uuid.uuid4().hex,
                "labels": labels | {INDEX: str(number)},
                "creationTimestamp": second(),
            },
            "spec": {"containers": [{"name": "node", "resources": {"limits": limits}}]},
            "status": {"phase": "Pending", "containerStatuses": [container_status]} | status,
        }
        node = Node(pod)
        self.nodes[job].append(node)
        return node

    def finish(self, job: str, kind: str, reason: str = "Done", message: str = "it is over") -> None:
        """Set the condition with which a TrainJob ends."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
        self.jobs[job].setdefault("status", {}).setdefault("conditions", []).append(condition)

    def warn(self, about: str, reason: str, message: str) -> None:
        """An event of the kind Warning."""
        self.events.append(
            {
                "metadata": {"name": f"{about}.{len(self.events)}", "namespace": NAMESPACE},
                "involvedObject": {"name": about, "namespace": NAMESPACE},
                "type": "Warning",
                "reason": reason,
                "message": message,
            }
        )

    def stop(self) -> None:
        """End what runs."""
        for job in list(self.nodes):
            self._end(job)

    def answer(self, method: str, url: str, authorization: str, body: bytes) -> tuple[int, Json | str] | None:
        """Status and body for a request; none where the answer is lost."""
        path, asked = urlsplit(url).path, {key: value[0] for key, value in parse_qs(urlsplit(url).query).items()}
        try:
            with self.lock:
                resource, name = parsed(path)
                verb = {"POST": "create", "DELETE": "delete"}.get(method) or ("get" if name else "list")
                self.calls.append((verb, resource))
                if authorization.lower() != f"bearer {TOKEN}".lower():
                    raise RefusedError(401, "Unauthorized")
                if (verb, resource) in self.denied:
                    raise RefusedError(
                        403, f'{resource} is forbidden: User "stage" cannot {verb} resource "{resource}"'
                    )
                fault = next((each for each in self.faults if each.strikes(verb, resource)), None)
                if fault and fault.status:
                    raise RefusedError(fault.status, "the server is out of order")
                made = self._done(verb, resource, name, asked, json.loads(body or b"{}"))
                return None if fault else (201 if method == "POST" else 200, made)
        except RefusedError as error:
            about = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(error)}
            return error.status, {**about, "reason": REASONS.get(error.status, "Error"), "code": error.status}

    def _done(self, verb: str, resource: str, name: str, asked: dict[str, str], body: Json) -> Json | str:
        known: dict[tuple[str, str], Callable[[], Json | str]] = {
            ("create", "trainjobs"): lambda: self._create(body),
            ("get", "trainjobs"): lambda: self._job(name),
            ("delete", "trainjobs"): lambda: self._delete(name, body),
            ("get", "pods"): lambda: self._found(self.pods, "pods", name),
            ("list", "pods"): lambda: {"items": self._pods(asked["labelSelector"])},
            ("get", "pods/log"): lambda: self._log(name, asked),
            ("list", "events"): lambda: {"items": self._events(asked["fieldSelector"])},
        }
        if (verb, resource) not in known:
            raise RefusedError(405, f"{verb} {resource} is not for selfloop")
        return known[verb, resource]()

    def _create(self, made: Json) -> Json:
        if self.absent:
            raise RefusedError(404, "the server could not find the requested resource")
        check(made)
        name = made["metadata"]["name"]
        if name in self.jobs:
            raise RefusedError(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        self.created.append(copy.deepcopy(made))
        self.jobs[name] = made
        made["metadata"] |= {"uid": uuid.uuid4().hex, "creationTimestamp": second()}
        (self.pretend or TrainerApi.start)(self, name)
        return made

    def _job(self, name: str) -> Json:
        job = self._found(self.jobs, "trainjobs", name)
        self._settle(name)
        return job

    def _delete(self, name: str, options: Json) -> Json:
        job = self._found(self.jobs, "trainjobs", name)
        if options.get("preconditions", {}).get("uid", job["metadata"]["uid"]) != job["metadata"]["uid"]:
            raise RefusedError(409, "the UID in the precondition is another one")
        if options.get("propagationPolicy") != "Foreground":
            raise RefusedError(422, "a TrainJob is to go after its pods")
        self._end(name)
        del self.jobs[name], self.nodes[name][:]
        return {"kind": "Status", "status": "Success"}

    def _pods(self, selector: str) -> list[Json]:
        wanted = dict(part.split("=") for part in selector.split(","))
        pods = [node.pod for nodes in self.nodes.values() for node in nodes]
        return [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]

    def _events(self, selector: str) -> list[Json]:
        key, _, value = selector.partition("=")
        return [event for event in self.events if event[key] == value]

    def _log(self, name: str, asked: dict[str, str]) -> str:
        node = next((n for nodes in self.nodes.values() for n in nodes if n.pod["metadata"]["name"] == name), None)
        if node is None:
            raise RefusedError(404, f'pods "{name}" not found')
        waits = "waiting" in node.pod["status"]["containerStatuses"][0]["state"]
        if waits and asked.get("previous") != "True":
            raise RefusedError(400, 'container "node" is waiting to start')
        lines = node.before if asked.get("previous") == "True" else node.log
        lines = lines[-int(asked["tailLines"]) :] if "tailLines" in asked else lines
        if "sinceSeconds" in asked:
            since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=int(asked["sinceSeconds"]))
            lines = [each for each in lines if each[0] >= since.strftime("%Y-%m-%dT%H:%M:%S")]
        return "".join(f"{stamp} {line}" for stamp, line in lines)

    def _found(self, among: dict[str, Json], resource: str, name: str) -> Json:
        if name not in among:
            raise RefusedError(404, f'{resource} "{name}" not found')
        return among[name]

    def start(self, name: str) -> None:
        """Run the command of a TrainJob as the Trainer's torch runtime does, a group of processes a node."""
        trainer = self.jobs[name]["spec"]["trainer"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for number in range(trainer["numNodes"]):
            node = self.add_node(name, number, {"running": {"startedAt": second()}}, phase="Running")
            home = self.place / f"{name}-{number}-{uuid.uuid4().hex[:5]}"
            home.mkdir()
            environment = {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "HOME": str(home),
                "TMPDIR": str(home),
                "SELFLOOP_CACHE": str(home / "cache"),
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(number),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
            }
            environment |= {key: value.format(node=number) for key, value in self.runtime.items()}
            for secret in self.secrets.values():
                environment |= secret
            environment |= {each["name"]: each["value"] for each in trainer.get("env", [])}
            node.process = subprocess.Popen(
                trainer["command"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            node.reader = threading.Thread(target=_read, args=(node,), daemon=True)
            node.reader.start()

    def _settle(self, name: str) -> None:
        """See which nodes ended: one that failed ends the TrainJob and all other nodes."""
        nodes = [node for node in self.nodes.get(name, []) if node.process]
        if not nodes or self.jobs[name].get("status"):
            return
        for node in nodes:
            _note_end(node)
        statuses = [node.process.poll() for node in nodes if node.process]
        if any(statuses):
            self._end(name)
            self.finish(name, "Failed", "FailedJobs", "jobset failed due to one or more job failures")
        elif all(status == 0 for status in statuses):
            self.finish(name, "Complete", "AllJobsCompleted", "jobset completed successfully")

    def _end(self, name: str) -> None:
        for node in self.nodes.get(name, []):
            if node.process and node.process.poll() is None:
                os.killpg(node.process.pid, signal.SIGTERM)
        for node in self.nodes.get(name, []):
            if node.process:
                node.process.wait(60)


def _read(node: Node) -> None:
    assert node.process is not None
    assert node.process.stdout is not None
    for line in node.process.stdout:
        node.say(line)
        if node.dies_at and line.strip() == node.dies_at:
            leader = psutil.Process(node.process.pid)
            for process in (*leader.children(recursive=True), leader):
                process.kill()


def _note_end(node: Node) -> None:
    """Note in a pod's status that its process ended, once all that it said is in the log."""
    assert node.process is not None
    assert node.reader is not None
    status = node.process.poll()
    if status is None:
        return
    node.reader.join(60)
    ended = {
        "exitCode": status if status >= 0 else 128 - status,
        "reason": "Error" if status else "Completed",
        "finishedAt": second(),
    }
    node.pod["status"]["containerStatuses"][0]["state"] = {"terminated": ended}
    node.pod["status"]["phase"] = "Failed" if status else "Succeeded"


def now() -> str:
    """The time as a log has it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def second() -> str:
    """The time as an object has it."""
    return now()[:19] + "Z"


def parsed(path: str) -> tuple[str, str]:
    """The resource and the name in a path."""
    found = re.fullmatch(rf"(?:{JOBS}|{CORE}/(pods|events))(?:/([^/]+))?(/log)?", path)
    if not found:
        raise RefusedError(404, f"{path} is unknown")
    return (found[1] or "trainjobs") + (found[3] or ""), found[2] or ""


def check(made: Json) -> None:
    """Refuse what the Trainer's API and its webhook refuse of a TrainJob."""
    try:
        known = TrainerV1alpha1TrainJob.from_dict(made)
    except ValueError as error:
        raise RefusedError(422, f"the TrainJob is invalid: {error}") from None
    assert known is not None
    if known.to_dict() != made:
        raise RefusedError(422, "the TrainJob has fields that the API does not know")
    spec, metadata = made["spec"], made["metadata"]
    if (made["apiVersion"], made["kind"]) != ("trainer.kubeflow.org/v1alpha1", "TrainJob"):
        raise RefusedError(422, "apiVersion, kind")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"]):
        raise RefusedError(422, "metadata.name must match RFC 1035 DNS label format")
    if spec["runtimeRef"] != {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": "selfloop-torch"}:
        raise RefusedError(403, 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request')
    names = [variable["name"] for variable in spec["trainer"].get("env", [])]
    if RESERVED & set(names) or len(set(names)) < len(names):
        raise RefusedError(403, "must not have reserved envs, nor one twice")


@contextmanager
def serving(place: Path) -> Iterator[TrainerApi]:
    """Run a server for the length of a block; what a pod finds mounted lies in a folder."""
    api = TrainerApi(place)
    _certify(place)
    (place / "token").write_text(TOKEN)
    (place / "namespace").write_text(NAMESPACE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(place / "ca.crt", place / "ca.key")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = api.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            if answer is None:
                self.close_connection = True
                return
            status, made = answer
            sent = made.encode() if isinstance(made, str) else json.dumps(made).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(made, str) else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # a client that was ended hangs up
            pass

    with Listening(("127.0.0.1", 0), Handler) as listening:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        api.port = listening.server_address[1]
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield api
        finally:
            api.stop()
            listening.shutdown()


def _certify(place: Path) -> None:
    """A certificate that vouches for itself, for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    today, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), today - day, today + day)
    made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    signed = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, hashes.SHA256()
    )
    (place / "ca.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    kind = serialization.PrivateFormat.PKCS8
    (place / "ca.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
