"""The part of Kubernetes' API that logs come from, as a real HTTP server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from .api import Api

DOCUMENT = Path(__file__).with_name("pods_api.json")
LIMITS = {"cpu": "2", "memory": "4Gi"}
IMAGE = {"image": "selfloop/base", "imageID": "sha256:0", "ready": False, "restartCount": 0}


class Kept(NamedTuple):
    run: str
    node: str
    phase: str
    log: str
    began: str
    status: int
    reason: str


class Cluster:
    def __init__(self) -> None:
        self.api = Api(DOCUMENT)
        self.pods: dict[tuple[str, str], Kept] = {}
        self.token = "token-of-ada"
        self.refuses: dict[str, int] = {}
        """The status that an operation is refused with."""
        self.mistakes: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.url = ""

    def add(
        self,
        run: str,
        task: str,
        log: str,
        phase: str = "Succeeded",
        namespace: str = "selfloop",
        status: int = 0,
        reason: str = "",
        attempt: int = 0,
    ) -> None:
        """A pod as Argo makes it: its node says which task it is of. ``status`` and ``reason`` are how it ended."""
        graph = "root.condition-1" if task.removesuffix("-driver") in ("work-4", "work-5") else "root"
        node = f"wf.{graph}.{task}{'' if task.endswith('driver') else f'.executor({attempt})'}"
        began = f"2026-11-21T02:00:{len(self.pods):02}Z"
        reason = reason or {"Succeeded": "Completed", "Failed": "Error"}.get(phase, "")
        kept = Kept(run, node, phase, log, began, status or int(phase == "Failed"), reason)
        self.pods[namespace, f"wf-system-container-impl-{len(self.pods)}"] = kept

    def kubeconfig(self, place: Path) -> None:
        """Write how a person reaches this cluster."""
        user = {"name": "ada", "user": {"token": self.token}}
        context = {"name": "here", "context": {"cluster": "here", "user": "ada"}}
        cluster = {"name": "here", "cluster": {"server": self.url}}
        whole = {"apiVersion": "v1", "kind": "Config", "current-context": "here"}
        place.write_text(yaml.safe_dump(whole | {"users": [user], "contexts": [context], "clusters": [cluster]}))


def state(pod: Kept) -> dict[str, Any]:
    """The state of the container that works in a pod, as the kubelet tells it."""
    if pod.phase in ("Pending", "Running"):
        return {"waiting": {}} if pod.phase == "Pending" else {"running": {"startedAt": pod.began}}
    return {"terminated": {"exitCode": pod.status, "reason": pod.reason, "finishedAt": "2026-11-21T02:01:30Z"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        operation = self.cluster.api.operation("GET", url.path)
        if operation is None:
            self._refuse(404, "the server could not find the requested resource")
            return
        query = parse_qs(url.query)
        self.cluster.queries.append({name: values[0] for name, values in query.items()})
        self.cluster.mistakes += self.cluster.api.query_mistakes(operation, query)
        if self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
            self._refuse(401, "Unauthorized")
        elif operation.id in self.cluster.refuses:
            self._refuse(self.cluster.refuses[operation.id], "planted")
        elif operation.id.startswith("list"):
            self._send(200, "application/json", json.dumps(self._pods(operation.places["namespace"], query)).encode())
        else:
            self._log(operation.places["namespace"], operation.places["name"], query)

    def _pods(self, namespace: str, query: dict[str, list[str]]) -> Any:
        run = query["labelSelector"][0].partition("=")[2]
        items = [
            {
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "creationTimestamp": pod.began,
                    "annotations": {"workflows.argoproj.io/node-name": pod.node},
                },
                "spec": {"containers": [{"name": "wait"}, {"name": "main", "resources": {"limits": LIMITS}}]},
                "status": {
                    "phase": pod.phase,
                    "startTime": pod.began,
                    "containerStatuses": [{**IMAGE, "name": "main", "state": state(pod)}],
                },
            }
            for (place, name), pod in self.cluster.pods.items()
            if (place, pod.run) == (namespace, run)
        ]
        return {"kind": "PodList", "apiVersion": "v1", "items": items}

    def _log(self, namespace: str, name: str, query: dict[str, list[str]]) -> None:
        pod = self.cluster.pods[namespace, name]
        if pod.phase == "Pending":
            self._refuse(400, 'container "main" is waiting to start: ImagePullBackOff')
            return
        lines = pod.log.splitlines(keepends=True)[-int(query.get("tailLines", ["1000000"])[0]) :]
        self._send(200, "text/plain", "".join(lines).encode())

    def _refuse(self, status: int, said: str) -> None:
        told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said, "code": status}
        self._send(status, "application/json", json.dumps(told).encode())

    def _send(self, status: int, kind: str, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving_pods() -> Iterator[Cluster]:
    cluster = Cluster()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
