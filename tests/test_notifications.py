"""Notices to a webhook that is as strict as Slack: what is told, again where it may help, never at the loop's cost."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop import notifications
from selfloop.errors import UserError
from selfloop.lineage.registry import Version
from selfloop.notifications import Notice, escaped, message, notify, verdicts_to_send
from tenacity import Retrying

from .webhook import PATH, Webhook, check_message

TARGET = {"gain": 0.1234, "lower": 0.095, "upper": 0.151, "items": 448}
ALARM = {"level": "yellow", "says": "entropy fell to 0.1 & <below>"}
DECISION = {"promoted": True, "verdict": "promoted", "reason": "target +0.123", "suites": {"target": TARGET}}
SECRET = "the-secret-of-the-webhook"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, in seconds; nobody waits for them."""
    made: list[float] = []
    monkeypatch.setattr(notifications, "Retrying", partial(Retrying, sleep=made.append))
    return made


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.LogCaptureFixture]:
    """All that is logged, by whomever; none of it, and nothing that is printed, names the webhook."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    printed = capfd.readouterr()
    for text in (caplog.text, printed.out, printed.err):
        assert SECRET not in text


def _decided(verdict: str, **more: Any) -> dict[str, Any]:
    return {"promoted": verdict == "promoted", "verdict": verdict, "reason": "so", **more}


def test_a_round_is_told_with_its_numbers(webhook: Webhook) -> None:
    notify("adder", 7, ["d"], {**DECISION, "guards": {"entropy": ALARM, "gap": {**ALARM, "level": "green"}}})
    assert webhook.headlines == ["adder round 7: promoted"]
    _, reason, facts = webhook.taken[0]["blocks"]
    assert reason["text"]["text"] == "target +0.123"
    assert [fact["text"] for fact in facts["fields"]] == [
        "*Gain on the target*\n+0.123 [+0.095, +0.151], 448 items",
        "*Guards*\nentropy (yellow): entropy fell to 0.1 &amp; &lt;below&gt;",
    ]
    assert webhook.taken[0]["text"] == "adder round 7: promoted. target +0.123"


def test_what_the_registry_knows_is_told_too() -> None:
    tags = {"selfloop.parent": "5", "selfloop.in_force": "5", "selfloop.kfp_run": "0b1c"}
    version = Version(number=6, source="", run_id="r", created=0.0, tags=tags)
    link = "http://mlflow/#/experiments/1/runs/r?a&b"
    told = message(Notice("my_loop", 7, "pending", _decided("pending"), version, link))
    check_message(told)
    assert [field["text"] for field in told["blocks"][2]["fields"]] == [
        "*Version*\n6, after 5",
        "*In force*\nversion 5",
    ]
    assert told["blocks"][3]["text"]["text"] == "To put it in force: `selfloop approve my_loop 6 --reason ...`"
    assert [element["text"] for element in told["blocks"][4]["elements"]] == [
        "<http://mlflow/#/experiments/1/runs/r?a&amp;b|Run in MLflow>",
        "KFP run 0b1c",
    ]


def test_rounds_are_told_in_their_order(webhook: Webhook, pauses: list[float]) -> None:
    webhook.answers += [200, 500, 500]
    for number, verdict in enumerate(["promoted", "pending", "halted"], start=1):
        notify("adder", number, [], _decided(verdict))
    assert webhook.headlines == [
        "adder round 1: promoted",
        "adder round 2: waits for approval",
        "adder round 3: halted",
    ]


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (None, ["promoted", "pending", "halted"]),
        ("halted", ["halted"]),
        (" rejected , promoted", ["promoted", "rejected"]),
        ("", []),
        ("halt", ["promoted", "rejected", "pending", "halted"]),
    ],
)
def test_the_verdicts_that_are_told_are_chosen(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, chosen: str | None, told: list[str]
) -> None:
    if chosen is not None:
        monkeypatch.setenv("SELFLOOP_WEBHOOK_ON", chosen)
    for verdict in ("promoted", "rejected", "pending", "halted"):
        notify("adder", 1, [], _decided(verdict))
    words = [notifications.WORDS.get(verdict, verdict) for verdict in told]
    assert webhook.headlines == [f"adder round 1: {word}" for word in words]


def test_a_verdict_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFLOOP_WEBHOOK_ON", "promoted,halt")
    with pytest.raises(UserError, match=r"no verdict for SELFLOOP_WEBHOOK_ON 'halt': did you mean 'halted'\?"):
        verdicts_to_send()


def test_without_a_webhook_nothing_is_told(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFLOOP_WEBHOOK_URL")
    notify("adder", 1, [], DECISION)
    assert webhook.requests == 0


@pytest.mark.parametrize("answer", [429, 500, 503, "drop"])
def test_a_webhook_that_fails_for_a_moment_is_told_again(
    webhook: Webhook, pauses: list[float], said: pytest.LogCaptureFixture, answer: int | str
) -> None:
    webhook.answers += [answer] * 3
    notify("adder", 1, [], DECISION)
    assert (len(webhook.taken), webhook.requests, len(pauses)) == (1, 4, 3)
    assert "was not notified" not in said.text


def test_a_webhook_is_asked_again_when_it_wants_to_be(webhook: Webhook, pauses: list[float]) -> None:
    webhook.answers.append(429)
    webhook.headers["Retry-After"] = "11"
    notify("adder", 1, [], DECISION)
    assert (len(webhook.taken), pauses) == (1, [11.0])


@pytest.mark.parametrize(
    "after", ["3600", format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)], ids=["seconds", "date"]
)
def test_a_webhook_that_wants_to_be_asked_much_later_is_left_alone(
    webhook: Webhook, pauses: list[float], said: pytest.LogCaptureFixture, after: str
) -> None:
    webhook.answers.append(429)
    webhook.headers["Retry-After"] = after
    notify("adder", 1, [], DECISION)
    assert (webhook.requests, pauses) == (1, [])
    assert "SELFLOOP_WEBHOOK_URL names was not notified (it answers 429): the loop continues" in said.text


@pytest.mark.parametrize("after", ["soon", "", "-1"])
def test_a_time_that_is_none_is_passed_over(webhook: Webhook, pauses: list[float], after: str) -> None:
    webhook.answers.append(503)
    webhook.headers["Retry-After"] = after
    notify("adder", 1, [], DECISION)
    assert len(webhook.taken) == 1


@pytest.mark.parametrize("answer", [301, 302, 307, 400, 403, 404, 410])
def test_a_refusal_that_lasts_is_a_warning_and_nothing_else(
    webhook: Webhook, pauses: list[float], said: pytest.LogCaptureFixture, answer: int
) -> None:
    webhook.answers.append(answer)
    webhook.headers["Location"] = webhook.url
    notify("adder", 1, [], DECISION)
    assert (webhook.requests, pauses) == (1, [])
    assert f"was not notified (it answers {answer})" in said.text


def test_a_webhook_that_is_down_is_a_warning_after_some_attempts(
    webhook: Webhook, pauses: list[float], said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "stop_before_delay", lambda seconds: lambda state: state.attempt_number == 4)
    monkeypatch.setenv("SELFLOOP_WEBHOOK_URL", f"http://127.0.0.1:1{PATH}")
    notify("adder", 1, [], DECISION)
    assert len(pauses) == 3
    assert "was not notified (Connection refused)" in said.text


def test_a_webhook_that_never_answers_is_left_behind(
    webhook: Webhook, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "BUDGET_S", 0.3)
    webhook.answers.append("hang")
    notify("adder", 1, [], DECISION)
    assert "was not notified (it did not answer within 0.3 s)" in said.text


def test_an_answer_that_takes_too_long_is_not_waited_for(
    webhook: Webhook, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "ANSWER_S", 0.3)
    webhook.answers.append("hang")
    notify("adder", 1, [], DECISION)
    assert (len(webhook.taken), len(pauses)) == (1, 1)


@pytest.mark.parametrize(
    "url",
    [f"hooks.example.com{PATH}", f"ftp://x{PATH}", f"https://x y{PATH}", f"https://x:port{PATH}", f"http://[{PATH}"],
)
def test_an_address_that_is_none_is_not_repeated(
    pauses: list[float], said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SELFLOOP_WEBHOOK_URL", url)
    notify("adder", 1, [], DECISION)
    assert "was not notified (it is no address of the web, such as https://host/path)" in said.text
    assert pauses == []


@given(st.text(), st.text(), st.text("&<>`*_x", max_size=9000))
def test_whatever_is_told_slack_takes_it(loop: str, name: str, reason: str) -> None:
    guards = {f"{name}{number}": {"level": "red", "says": reason} for number in range(12)}
    link = "https://mlflow/#/experiments/1/runs/2"
    version = Version(number=1, source="", run_id="", created=0.0, tags={"selfloop.kfp_run": reason or "x"})
    check_message(message(Notice(loop, 1, "halted", _decided("halted", guards=guards), version, link)))


def test_a_long_reason_is_cut_between_letters() -> None:
    cut = escaped("&" * 3000)
    assert len(cut) <= 3000
    assert cut.replace("&amp;", "") == "..."
    assert escaped("a<b>&c") == "a&lt;b&gt;&amp;c"
