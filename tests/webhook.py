"""A webhook for the tests: it takes what Slack documents to take, refuses the rest, and fails as it is told to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/services/T0001/B0002/the-secret-of-the-webhook"


@dataclass
class Webhook:
    """A running webhook. ``answers`` are given in turn before it takes anything: a status, 'drop' or 'hang'."""

    port: int = 0
    answers: list[int | str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    taken: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    @property
    def headlines(self) -> list[str]:
        """The first block of each notice that was taken."""
        return [told["blocks"][0]["text"]["text"].strip("*") for told in self.taken]


def check_message(told: dict[str, Any]) -> None:
    """Refuse what Slack refuses of a message, and text in which something may be taken for a link or a mention."""
    assert told.keys() == {"text", "blocks"}
    check_text(told["text"], 3000)
    assert 1 <= len(told["blocks"]) <= 50
    for block in told["blocks"]:
        if block["type"] == "context":
            assert block.keys() == {"type", "elements"}
            assert 1 <= len(block["elements"]) <= 10
            texts, most = block["elements"], 3000
        elif "fields" in block:
            assert block.keys() == {"type", "fields"}
            assert 1 <= len(block["fields"]) <= 10
            texts, most = block["fields"], 2000
        else:
            assert block.keys() == {"type", "text"}
            texts, most = [block["text"]], 3000
        assert block["type"] in ("section", "context")
        for text in texts:
            assert text.keys() == {"type", "text"}
            assert text["type"] == "mrkdwn"
            check_text(text["text"], most)
    assert len(json.dumps(told["blocks"])) < 13_000


def check_text(text: str, most: int) -> None:
    assert 1 <= len(text) <= most
    without_links = re.sub(r"<https?://[^<>|]+\|[\w ]+>", "", text)
    assert not re.search(r"[<>]|&(?!(amp|lt|gt);)", without_links), text


@contextmanager
def listening() -> Iterator[Webhook]:
    """Run a webhook for the length of a block."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.requests += 1
            answer = hook.answers.pop(0) if hook.answers else 200
            if answer == "hang":
                hook.released.wait()
            if isinstance(answer, str):
                return
            if answer == 200:
                answer = self._taken(json.loads(body))
            self.send_response(answer)
            for name, value in hook.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def _taken(self, told: dict[str, Any]) -> int:
            if (self.path, self.headers["Content-Type"]) != (PATH, "application/json"):
                return 404
            try:
                check_message(told)
            except AssertionError:
                return 400
            hook.taken.append(told)
            return 200

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hook.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield hook
        finally:
            hook.released.set()
            server.shutdown()
