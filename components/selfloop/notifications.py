"""Notifications: what the gate decided, sent to a webhook that takes what Slack takes.

``SELFLOOP_WEBHOOK_URL`` is where to; whoever knows it may write there, so it is in no log and no error.
``SELFLOOP_WEBHOOK_ON`` names the verdicts that are sent: promoted, pending and halted unless it is said otherwise. A
webhook that is away delays a round by half a minute at most, and never fails it.

Where a registry remembers the round, it also remembers that the webhook was notified: a stage that runs again does not
say it twice, unless it was killed between the two. Without a registry each run of the stage notifies it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from http.client import HTTPException, InvalidURL
from itertools import accumulate
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, get_args
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_random_exponential
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from selfloop import __version__, lineage
from selfloop.addresses import is_private
from selfloop.decision import TARGET, Outcome
from selfloop.errors import UserError
from selfloop.lineage import tracking
from selfloop.lineage.registry import Registry, Version
from selfloop.lookup import unknown

WEBHOOK, VERDICTS = "SELFLOOP_WEBHOOK_URL", "SELFLOOP_WEBHOOK_ON"
DEFAULT = "promoted,pending,halted"
NOTIFIED = "notified"
"""The tag of a version that says of which verdict on it the webhook was notified."""
BUDGET_S = 30.0
ANSWER_S = 10.0
PAUSE = wait_random_exponential(multiplier=0.5, max=8)
TEXT_CHARACTERS, FIELD_CHARACTERS = 3000, 600
"""Slack takes 3000 characters a text and 2000 a field, but not that much of each in one message."""
WORDS = {"pending": "waits for approval"}
NO_ADDRESS = "it is no address of the web, such as https://host/path"

log = logging.getLogger(__name__)


class Notice(NamedTuple):
    """What is sent of a round. ``version`` is the candidate's, where there is a registry; ``link`` leads to its run."""

    loop: str
    round: int
    verdict: str
    decision: Mapping[str, Any]
    version: Version | None = None
    link: str = ""


def notify(loop: str, round: int, digests: Sequence[str], decision: Mapping[str, Any]) -> None:
    """Send the webhook what was decided about the candidates with these digests, where there is a webhook for it.

    Never raises for what is wrong with the webhook, the setting or MLflow: that is a warning in the log.
    """
    url = os.environ.get(WEBHOOK)
    verdict = str(decision["verdict"])
    if not url or verdict not in _chosen():
        return
    notice = _looked_up(Notice(loop, round, verdict, decision), digests)
    sent = notice.version and notice.version.tag(NOTIFIED) == verdict
    if not sent and send(url, message(notice)) and notice.version:
        with _warned():
            Registry(loop).tag(notice.version.number, {NOTIFIED: verdict})


def verdicts_to_send() -> set[str]:
    """The verdicts that are sent. Raises ``UserError`` where the setting names something else."""
    chosen = {name.strip() for name in os.environ.get(VERDICTS, DEFAULT).split(",")} - {""}
    for name in sorted(chosen - set(get_args(Outcome))):
        raise unknown(f"verdict for {VERDICTS}", name, get_args(Outcome))
    return chosen


def _chosen() -> set[str]:
    with _warned():
        return verdicts_to_send()
    return set(get_args(Outcome))  # rather too much than a halt that nobody hears of


@contextmanager
def _warned() -> Iterator[None]:
    """Let what a person can mend be a warning."""
    try:
        yield
    except UserError as error:
        log.warning("%s", error)


def _looked_up(notice: Notice, digests: Sequence[str]) -> Notice:
    """The notice with what the registry knows of the candidate, where there is one."""
    if lineage.is_on():
        with _warned():
            registry = Registry(notice.loop)
            for version in reversed(registry.tagged("digests", ",".join(digests))):
                if version.tag("round") == str(notice.round):
                    return notice._replace(version=version, link=_link(registry, version.run_id))
    return notice


def _link(registry: Registry, run_id: str) -> str:
    """Where a person finds a run; nowhere where MLflow is a file."""
    place = tracking.without_password(os.environ["MLFLOW_TRACKING_URI"]).rstrip("/")
    if not run_id or not place.startswith(("http://", "https://")):
        return ""
    with tracking.reachable():
        experiment = registry.client.get_run(run_id).info.experiment_id
    return f"{place}/#/experiments/{experiment}/runs/{run_id}"


def message(notice: Notice) -> dict[str, Any]:
    """A notice as Slack takes it: a text for where blocks are not shown, and blocks of marked-down text."""
    verdict, reason = WORDS.get(notice.verdict, notice.verdict), str(notice.decision["reason"])
    headline = f"{notice.loop} round {notice.round}: {verdict}"
    fields = _fields(notice)
    blocks: list[dict[str, Any]] = [_section(f"*{escaped(headline)}*"), _section(escaped(reason or "no reason given"))]
    if fields:
        texts = [_text(f"*{title}*\n{escaped(text, FIELD_CHARACTERS)}") for title, text in fields.items()]
        blocks.append({"type": "section", "fields": texts})
    if notice.verdict == "pending" and notice.version:
        approve = f"selfloop approve {notice.loop} {notice.version.number} --reason ..."
        blocks.append(_section(f"To put it in force: `{escaped(approve)}`"))
    context = [f"<{escape(notice.link, quote=False)}|Run in MLflow>"] if notice.link else []
    if notice.version and notice.version.tag("kfp_run"):
        context.append(f"KFP run {escaped(notice.version.tag('kfp_run'), FIELD_CHARACTERS)}")
    if context:
        blocks.append({"type": "context", "elements": [_text(text) for text in context]})
    return {"text": escaped(f"{headline}. {reason}"), "blocks": blocks}


def _fields(notice: Notice) -> dict[str, str]:
    version, target = notice.version, notice.decision.get("suites", {}).get(TARGET)
    gain = "{gain:+z.3f} [{lower:+z.3f}, {upper:+z.3f}], {items} items".format(**target) if target else ""
    alarms = [
        f"{name} ({alarm['level']}): {alarm['says']}"
        for name, alarm in notice.decision.get("guards", {}).items()
        if alarm["level"] in ("red", "yellow")
    ]
    fields = {"Gain on the target": gain, "Guards": "\n".join(alarms)}
    if version:
        fields["Version"] = f"{version.number}, after {version.parent}" if version.parent else str(version.number)
        fields["In force"] = f"version {version.tag('in_force')}" if version.tag("in_force") else ""
    return {title: text for title, text in fields.items() if text}


def escaped(text: str, most: int = TEXT_CHARACTERS) -> str:
    """A text in which nothing is a link or a mention to Slack, cut where it is longer than that."""
    pieces = [escape(letter, quote=False) for letter in text]
    lengths = list(accumulate(map(len, pieces)))
    if not pieces or lengths[-1] <= most - 2:  # room for the marks around it
        return "".join(pieces)
    return "".join(pieces[: sum(length <= most - 5 for length in lengths)]) + "..."


def _text(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _text(text)}


def send(url: str, content: Mapping[str, Any]) -> bool:
    """Post to a webhook, again where that may help, for half a minute at most. Returns whether it was taken."""
    outcome = SimpleQueue[str]()
    body = json.dumps(content).encode()
    # a thread can be left behind, whatever a server or a name server does to keep it waiting
    Thread(target=lambda: outcome.put(_trouble(url, body)), daemon=True).start()
    try:
        trouble = outcome.get(timeout=BUDGET_S)
    except Empty:
        trouble = f"it did not answer within {BUDGET_S:g} s"
    if trouble:
        log.warning("The webhook that %s names was not notified (%s): the loop continues without it.", WEBHOOK, trouble)
    return not trouble


class _RefusedError(Exception):
    """Why a webhook did not take a notice, without its address; ``after_s`` is when it wants to be asked again."""

    def __init__(self, why: str, may_pass: bool, after_s: float | None = None) -> None:
        super().__init__(why)
        self.may_pass, self.after_s = may_pass, after_s


def _trouble(url: str, body: bytes) -> str:
    """Deliver a notice. Returns what is wrong, in words that hold nothing of the address; empty where nothing is."""
    again = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, _RefusedError) and error.may_pass),
        stop=stop_before_delay(BUDGET_S - ANSWER_S),
        wait=_pause,
        reraise=True,
    )
    try:
        again(_post, url, body)
    except _RefusedError as error:
        return str(error)
    except Exception as error:  # whatever it is, its words may hold the address
        return type(error).__name__
    return ""


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    after_s = error.after_s if isinstance(error, _RefusedError) else None
    return max(PAUSE(state), after_s or 0)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: what is sent goes to the address that was given, or nowhere."""


def _post(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": f"selfloop/{__version__}"}
    if not url.startswith(("https://", "http://")):
        raise _RefusedError(NO_ADDRESS, may_pass=False)
    try:
        if not is_private(url):
            raise _RefusedError("everybody on the way would learn its address: use https", may_pass=False)
        with build_opener(_NoRedirects).open(Request(url, body, headers), timeout=ANSWER_S):  # noqa: S310
            return
    except HTTPError as error:
        with error:
            may_pass = error.code == 429 or error.code >= 500
            raise _RefusedError(f"it answers {error.code}", may_pass, _asked_for(error)) from None
    except (InvalidURL, ValueError):
        raise _RefusedError(NO_ADDRESS, may_pass=False) from None
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise _RefusedError(getattr(cause, "strerror", None) or type(cause).__name__, may_pass=True) from None


def _asked_for(error: HTTPError) -> float | None:
    """The seconds after which a server wants to be asked again."""
    try:
        return Retry().parse_retry_after(error.headers["Retry-After"])
    except (TypeError, InvalidHeader):
        return None
