"""A server that does not answer is said soon, in one sentence."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from kfp.dsl import Model
from selfloop import reaching
from selfloop.cluster.connection import connect
from selfloop.cluster.runs import find_run
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, fetch_policy
from selfloop.lineage.tracking import check_answers
from selfloop.reaching import answers, hangs, within
from selfloop.store import open_store

from .registry import answering

pytestmark = pytest.mark.slow


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{bound.getsockname()[1]}"


def test_what_hangs_is_given_up() -> None:
    with pytest.raises(TimeoutError, match="no answer within"):
        within(Event().wait, 0.05)


def test_what_fails_is_raised_and_what_answers_is_not() -> None:
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 // 0)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address that takes connections and gives no answer; it is given up sooner than elsewhere."""
    monkeypatch.setattr(reaching.within, "__defaults__", (0.2,))
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_says_anything_answers(closed: str) -> None:
    with answering(lambda *_: (500, {}, b"")) as (host, seen):
        answers(f"http://{host}/path")
        assert seen == ["HEAD /"]
        answers(f"https://{host}/path")
        assert not hangs(f"https://{host}")
    assert not hangs(f"http://{closed}")


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql+psycopg2"])
def test_a_registry_that_takes_connections_and_is_silent_is_given_up(scheme: str, silent: str) -> None:
    with pytest.raises(UserError, match=r"MLflow at .* cannot be used \(no answer within"):
        check_answers(f"{scheme}://{silent}")


def test_a_store_that_takes_connections_and_is_silent_is_given_up(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{silent}")
    target = Model(uri=str(tmp_path / "policy"))
    asked: list[Callable[[Any], object]] = [lambda store: store.check(), lambda store: store.has("0" * 64)]
    asked += [lambda _: fetch_policy.into(fetch_policy.out(policy=target), FetchParams(source="s3://bucket/policy"))]
    for ask in asked:
        with open_store("s3://bucket/loops") as store, pytest.raises(UserError, match="no answer") as refused:
            ask(store)
        assert f"http://{silent} cannot be reached" in str(refused.value)


def test_an_api_of_kfp_that_takes_connections_and_is_silent_is_given_up(silent: str) -> None:
    connection = connect(f"http://{silent}")
    for ask in (connection.recognize, connection.check, lambda: find_run(connection, "a")):
        with pytest.raises(UserError, match=f"http://{silent} does not answer"):
            ask()


@pytest.mark.parametrize(
    "uri",
    [
        "http://someone:secret@{}",
        "http://someone:secret@no.such.host.invalid",
        "http://127.0.0.1:port",
        "postgresql+psycopg2://someone:secret@{}/runs",
        "postgresql+psycopg2://someone:secret@no.such.host.invalid/runs",
    ],
)
def test_a_registry_that_does_not_answer_is_named_without_its_password(uri: str, closed: str) -> None:
    with pytest.raises(UserError, match=r"MLflow at .* cannot be used") as refused:
        check_answers(uri.format(closed))
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_store_that_does_not_answer_is_named(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{closed}")
    with open_store("s3://bucket/loops") as store, pytest.raises(UserError, match=f"http://{closed} cannot be reached"):
        store.check()


def test_a_run_finds_it_out_before_it_begins(
    typed: Callable[..., Any], tmp_path: Path, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{closed}")
    run = "run", "length-generalization", "-o", "run"
    for words, said in (
        ([*run, "--store", "s3://bucket/loops"], f"http://{closed} cannot be reached"),
        ([*run, "--tracking-uri", f"postgresql://u:p@{closed}/x", "--store", "store"], "cannot be used"),
        (["rollback", "adder", "--reason", "x", "--tracking-uri", f"http://{closed}"], f"MLflow at http://{closed}"),
    ):
        done = typed(*words)
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()
