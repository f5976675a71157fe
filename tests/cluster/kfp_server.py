"""Kubeflow Pipelines' API as a real HTTP server: it keeps what it is told, and checks all of it against the OpenAPI.

What is asked wrongly is answered with 400 and noted in ``mistakes``, which the fixture holds to be empty.
"""

import json
import ssl
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, unquote_plus, urlsplit

import yaml

from .api import Api, Operation

DOCUMENT = Path(__file__).with_name("kfp_api.json")
LOGIN = b"<!doctype html><html><title>Dex</title><form action=login></form></html>"
NEVER = "0001-01-01T00:00:00Z"
"""How KFP tells a time that has not come."""


class Fault(NamedTuple):
    """What the server does instead of answering, or after it has done what was asked."""

    status: int = 0
    headers: Mapping[str, str] = {}
    said: str = "planted"
    drops: str = ""
    """'before' or 'after' the request takes effect."""
    hangs: bool = False
    page: bool = False
    """Whether it answers with a page for people."""
    takes_effect: bool = False
    """Whether it refuses only after it has done what was asked."""


class Asked(NamedTuple):
    operation: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class RefusalError(Exception):
    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Kfp:
    """The server's state, which a test looks at and moves."""

    def __init__(self) -> None:
        self.api = Api(DOCUMENT)
        self.multi_user, self.namespaces = True, {"selfloop"}
        self.behind_ui: list[bool] = []
        """Whether the API is ready each time that the UI, which answers for it, is asked how it is."""
        self.token, self.cookie, self.dex = "", "", False
        self.page, self.prefix = 100, ""
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.compressed: set[str] = set()
        """The runs whose node status Argo has compressed: their tasks are told of as they were."""
        self.recurring: dict[str, dict[str, Any]] = {}
        self.faults: list[tuple[str, Fault]] = []
        self.looks: list[Callable[[str], None]] = []
        """What happens to a run before it is told: one of them each time that somebody looks."""
        self.asked: list[Asked] = []
        self.mistakes: list[str] = []
        self.url = ""
        self.released = threading.Event()
        self._lock = threading.RLock()
        self._clock = datetime(2026, 11, 21, 2, tzinfo=UTC)

    def count(self, operation: str) -> int:
        return sum(asked.operation == operation for asked in self.asked)

    def fault(self, operation: str, *faults: Fault) -> None:
        """Plant faults for the next requests of this kind."""
        self.faults += [(operation, fault) for fault in faults]

    def now(self) -> str:
        self._clock += timedelta(seconds=1)
        return self._clock.isoformat().replace("+00:00", "Z")

    def move(self, run_id: str, task: str, state: str, began: str = "", ended: str = "", driver: bool = False) -> None:
        """Move a task of a run; told as the API server tells the nodes of Argo's workflow, as long as it can."""
        if run_id in self.compressed:
            return
        details = self.runs[run_id].setdefault("run_details", {"task_details": []})["task_details"]
        details[:] = [detail for detail in details if detail["display_name"] != task]
        name = f"{task}-driver" if driver else task
        told: dict[str, Any] = {
            "run_id": run_id,
            "display_name": name,
            "create_time": began or NEVER,
            "start_time": began or NEVER,
        }
        told |= {"end_time": ended or NEVER, "execution_id": "0", "child_tasks": [{"pod_name": f"wf-{len(details)}"}]}
        details.append(told | ({"state": state} if state else {}))

    def end(self, run_id: str, state: str) -> None:
        """End a run; one that is being cancelled ends as failed."""
        state = "FAILED" if self.runs[run_id]["state"] == "CANCELING" else state
        self._enter(run_id, state)
        self.runs[run_id]["finished_at"] = self.now()

    def _enter(self, run_id: str, state: str) -> None:
        run = self._one(self.runs, run_id, "Run")
        run["state"] = state
        run.setdefault("state_history", []).append({"state": state, "update_time": self.now()})

    def tasks_of(self, run_id: str) -> list[str]:
        """The keys of all tasks of a run's pipeline."""
        reference = self.runs[run_id]["pipeline_version_reference"]
        spec = self.versions[reference["pipeline_version_id"]]["pipeline_spec"]
        spec = spec.get("pipeline_spec", spec)
        dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
        return [key for dag in dags for key in dag["tasks"]]

    def answer(self, operation: Operation, query: dict[str, str], body: Any) -> Any:
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation.id.split("_")[-1])
        with self._lock:
            return getattr(self, f"on{name}")(**operation.places, query=query, body=body)

    def on_get_healthz(self, **_: Any) -> Any:
        if not self.behind_ui:
            return {"multi_user": self.multi_user}
        ready = self.behind_ui.pop(0)
        told = {"apiServerMultiUser": self.multi_user, "multi_user": self.multi_user} if ready else {}
        return {"apiServerReady": ready, "frontendTagName": "2.17.0", **told}

    def on_list_experiments(self, query: dict[str, str], body: Any) -> Any:
        self._check_namespace(query.get("namespace", ""))
        return self._page("experiments", self.experiments, query)

    def on_create_experiment(self, query: dict[str, str], body: Any) -> Any:
        self._check_namespace(body.get("namespace", ""))
        return self._keep(self.experiments, "experiment_id", body, unique=True)

    def on_create_pipeline(self, query: dict[str, str], body: Any) -> Any:
        self._check_namespace(body.get("namespace", ""))
        return self._keep(self.pipelines, "pipeline_id", body, unique=True)

    def on_get_pipeline_by_name(self, name: str, query: dict[str, str], body: Any) -> Any:
        self._check_namespace(query.get("namespace", ""))
        return self._one({one["name"]: one for one in self.pipelines.values()}, name, "Pipeline")

    def on_get_pipeline(self, pipeline_id: str, **_: Any) -> Any:
        return self._one(self.pipelines, pipeline_id, "Pipeline")

    def on_list_pipeline_versions(self, pipeline_id: str, query: dict[str, str], body: Any) -> Any:
        self._one(self.pipelines, pipeline_id, "Pipeline")
        mine = {key: one for key, one in self.versions.items() if one["pipeline_id"] == pipeline_id}
        return self._page("pipeline_versions", mine, query)

    def on_upload_pipeline_version(self, query: dict[str, str], body: Any) -> Any:
        self._one(self.pipelines, query["pipelineid"], "Pipeline")
        spec, *platform = yaml.load_all(body["uploadfile"], Loader=yaml.CSafeLoader)
        whole = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        version: dict[str, Any] = {
            "name": query["name"],
            "display_name": query["name"],
            "description": query.get("description", ""),
        }
        version |= {"pipeline_id": query["pipelineid"], "pipeline_spec": whole}
        return self._keep(self.versions, "pipeline_version_id", version, unique=True)

    def on_get_pipeline_version(self, pipeline_id: str, pipeline_version_id: str, **_: Any) -> Any:
        return self._one(self.versions, pipeline_version_id, "PipelineVersion")

    def on_list_runs(self, query: dict[str, str], body: Any) -> Any:
        mine = {k: run for k, run in self.runs.items() if query.get("experiment_id", "") in ("", run["experiment_id"])}
        return self._page("runs", mine, query)

    def on_create_run(self, query: dict[str, str], body: Any) -> Any:
        self._check_reference(body)
        run = body | {"state": "PENDING", "storage_state": "AVAILABLE", "finished_at": "1970-01-01T00:00:00Z"}
        return self._keep(self.runs, "run_id", run)

    def on_get_run(self, run_id: str, **_: Any) -> Any:
        if self.looks:
            self.looks.pop(0)(run_id)
        return self._one(self.runs, run_id, "Run")

    def on_terminate_run(self, run_id: str, **_: Any) -> Any:
        self._enter(run_id, "CANCELING")
        return {}

    def on_list_recurring_runs(self, query: dict[str, str], body: Any) -> Any:
        self._check_namespace(query.get("namespace", ""))
        return self._page("recurringRuns", self.recurring, query)

    def on_create_recurring_run(self, query: dict[str, str], body: Any) -> Any:
        self._check_reference(body)
        cron = body["trigger"].get("cron_schedule", {}).get("cron", "0 0 0 0 0 0")
        if len(cron.split()) != 6:
            raise RefusalError(400, "Schedule cron is not a valid cron")
        return self._keep(self.recurring, "recurring_run_id", body | {"status": "ENABLED"})

    def on_delete_recurring_run(self, recurring_run_id: str, **_: Any) -> Any:
        self._one(self.recurring, recurring_run_id, "RecurringRun")
        del self.recurring[recurring_run_id]
        return {}

    def on_disable_recurring_run(self, recurring_run_id: str, **_: Any) -> Any:
        self._one(self.recurring, recurring_run_id, "RecurringRun")["status"] = "DISABLED"
        return {}

    def on_enable_recurring_run(self, recurring_run_id: str, **_: Any) -> Any:
        self._one(self.recurring, recurring_run_id, "RecurringRun")["status"] = "ENABLED"
        return {}

    def _check_namespace(self, namespace: str) -> None:
        if self.multi_user and namespace not in self.namespaces:
            raise RefusalError(403, f"User 'ada' is not authorized in namespace '{namespace}'")

    def _check_reference(self, body: Mapping[str, Any]) -> None:
        version = self.versions.get(body["pipeline_version_reference"].get("pipeline_version_id", ""))
        if version is None or body.get("experiment_id") not in self.experiments:
            raise RefusalError(400, "The pipeline version or the experiment does not exist")
        spec = version["pipeline_spec"]
        spec = spec.get("pipeline_spec", spec)
        form = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = set(body["runtime_config"].get("parameters", {})) - set(form)
        if unknown:
            raise RefusalError(400, f"parameters not in the pipeline: {sorted(unknown)}")

    def _keep(self, kept: dict[str, Any], id_name: str, told: Mapping[str, Any], unique: bool = False) -> Any:
        def name(one: Mapping[str, Any]) -> Any:
            return one.get("name", one["display_name"])

        if unique and any(name(one) == name(told) for one in kept.values()):
            raise RefusalError(409, f"The name {name(told)} already exists")
        made = dict(told) | {id_name: str(uuid.uuid4()), "created_at": self.now()}
        kept[made[id_name]] = made
        return made

    def _one(self, kept: Mapping[str, Any], key: str, kind: str) -> Any:
        if key not in kept:
            raise RefusalError(404, f"{kind} {key} not found")
        return kept[key]

    def _page(self, field: str, kept: Mapping[str, Any], query: Mapping[str, str]) -> Any:
        asked = json.loads(unquote_plus(query.get("page_token", "")) or "{}")
        if asked and ("filter" in query or "sort_by" in query):
            raise RefusalError(400, "page token does not match the supplied sort by and/or filtering criteria")
        asked = asked or {"filter": unquote_plus(query.get("filter", "")), "sort_by": query.get("sort_by", "")}
        found = self._found(kept, **{name: asked[name] for name in ("filter", "sort_by")})
        size, first = min(int(query.get("page_size") or 10), self.page), asked.get("first", 0)
        token = quote(json.dumps(asked | {"first": first + size}))
        more = {"next_page_token": token} if first + size < len(found) else {}
        return {field: found[first : first + size], "total_size": len(found), **more}

    def _found(self, kept: Mapping[str, Any], filter: str, sort_by: str) -> list[Any]:
        found = list(kept.values())
        for predicate in json.loads(filter or "{}").get("predicates", []):
            if predicate["operation"] != "EQUALS":
                raise RefusalError(400, "this server only knows EQUALS")
            found = [one for one in found if one.get(predicate["key"]) == predicate["stringValue"]]
        if sort_by:
            key, _, order = sort_by.partition(" ")
            found.sort(key=lambda one: str(one[key]), reverse=order == "desc")
        return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kfp: Kfp

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        kind, body = self._body()
        path = unquote(url.path)
        is_here = path.startswith(self.kfp.prefix)
        operation = self.kfp.api.operation(self.command, path.removeprefix(self.kfp.prefix)) if is_here else None
        if operation is None:
            self._send(404, {"code": 5, "message": "Not Found"})
            return
        if not self._knows_user():
            return
        query = parse_qs(url.query, keep_blank_values=True)
        asked = {name: values[0] for name, values in query.items()}
        self.kfp.asked.append(Asked(operation.id, asked, {k.lower(): v for k, v in self.headers.items()}, body))
        mistakes = self.kfp.api.query_mistakes(operation, query) + self.kfp.api.body_mistakes(operation, kind, body)
        if mistakes:
            self.kfp.mistakes += [f"{operation.id}: {mistake}" for mistake in mistakes]
            self._send(400, {"code": 3, "message": "; ".join(mistakes)})
            return
        fault = self._fault(operation.id)
        if fault is not None and fault.drops != "after" and not fault.takes_effect:
            self._fail(fault)
            return
        try:
            answer = self.kfp.answer(operation, asked, body)
        except RefusalError as refusal:
            self._send(refusal.status, {"code": 0, "message": str(refusal)})
            return
        is_of_ui = "apiServerReady" in answer  # of which the OpenAPI knows nothing
        wrong = [] if is_of_ui else self.kfp.api.answer_mistakes(operation, 200, answer)
        self.kfp.mistakes += [f"answer of {operation.id}: {mistake}" for mistake in wrong]
        if fault is not None:
            self._fail(fault)
            return
        self._send(200, answer)

    def _body(self) -> tuple[str, Any]:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get_content_type()
        if not raw:
            return kind, None
        if kind == "multipart/form-data":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts = BytesParser(EmailMessage, policy=HTTP).parsebytes(head + raw).iter_parts()
            return kind, {part.get_param("name", header="content-disposition"): _text(part) for part in parts}
        return kind, json.loads(raw)

    def _knows_user(self) -> bool:
        cookie, bearer = self.headers.get("Cookie", ""), self.headers.get("Authorization", "")
        if (self.kfp.cookie and cookie != self.kfp.cookie) or (self.kfp.token and bearer != f"Bearer {self.kfp.token}"):
            if self.kfp.dex:
                self._send(302, LOGIN, {"Location": "/dex/auth?state=secret", "Content-Type": "text/html"})
            else:
                self._send(401, {"code": 16, "message": "Request header error: there is no user identity header."})
            return False
        return True

    def _fault(self, operation: str) -> Fault | None:
        for place, (planted, fault) in enumerate(self.kfp.faults):
            if planted == operation:
                del self.kfp.faults[place]
                return fault
        return None

    def _fail(self, fault: Fault) -> None:
        if fault.hangs:
            self.kfp.released.wait(60)
        if fault.hangs or fault.drops:
            self.close_connection = True
            return
        self._send(fault.status, LOGIN if fault.page else {"code": 13, "message": fault.said}, fault.headers)

    def _send(self, status: int, answer: Any, headers: Mapping[str, str] = {}) -> None:
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(raw))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)


def _text(part: MIMEPart) -> str:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # who hangs up is no fault of the server
            super().handle_error(request, client_address)


@contextmanager
def serving(certificate: Any = None) -> Iterator[Kfp]:
    """The server on a port that the system gives; with a certificate of ``trustme`` it speaks TLS."""
    kfp = Kfp()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"kfp": kfp}))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    kfp.url = f"http{'s' * (certificate is not None)}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield kfp
    finally:
        kfp.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
