"""The way to KFP's API: who asks, what passes, what is refused, each in one sentence."""

import logging
import time
from pathlib import Path

import pytest
import trustme
from kfp_server_api import ExperimentServiceApi, RunServiceApi
from selfloop.cluster import connection as connection_
from selfloop.cluster.connection import Connection, RefusedError, connect
from selfloop.errors import UserError

from .kfp_server import Fault, Kfp, serving

LIST = "ExperimentService_ListExperiments"
TOKEN = "token-of-ada"


def _refusal(connection: Connection) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        connection.check()
    assert "\n" not in str(refused.value)
    return refused.value


def test_without_an_endpoint_a_person_is_told_what_to_set() -> None:
    with pytest.raises(UserError, match=r"give --kfp or set SELFLOOP_KFP_ENDPOINT.*port-forward"):
        connect()


def test_a_pod_of_the_cluster_knows_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert connect().endpoint == "http://ml-pipeline.kubeflow:8888"


@pytest.mark.parametrize("given", ["kubeflow.example.com", "ftp://host", "http://", "http://ada:secret@host"])
def test_what_is_no_address_is_refused_without_its_password(given: str) -> None:
    with pytest.raises(UserError, match="is no address of Kubeflow Pipelines") as refused:
        connect(given)
    assert "secret" not in str(refused.value)


def test_an_address_is_taken_as_the_browser_shows_it(kfp: Kfp) -> None:
    kfp.prefix = "/pipeline"
    connection = connect(f"{kfp.url}/pipeline/#/runs")
    connection.check()
    assert connection.run_url("7") == f"{kfp.url}/pipeline/#/runs/details/7"


def test_the_path_of_kubectl_proxy_is_kept(kfp: Kfp) -> None:
    kfp.prefix = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    connect(kfp.url + kfp.prefix).check()


def test_one_who_is_not_known_is_told_how_to_be(kfp: Kfp) -> None:
    kfp.token = TOKEN
    refused = _refusal(connect(kfp.url))
    assert refused.status == 401
    assert "set SELFLOOP_KFP_TOKEN or SELFLOOP_KFP_COOKIES" in str(refused)


def test_a_token_is_borne(kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.token = TOKEN
    monkeypatch.setenv("SELFLOOP_KFP_TOKEN", TOKEN)
    connect(kfp.url).check()


def test_a_cookie_is_borne(kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.cookie = "oauth2_proxy_kubeflow=abc"
    monkeypatch.setenv("KFP_COOKIES", kfp.cookie)
    connect(kfp.url).check()


@pytest.mark.parametrize("place", ["in-cluster", "named"])
def test_a_token_in_a_file_is_read_for_each_request(
    kfp: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    file = tmp_path / "token"
    if place == "named":
        monkeypatch.setenv("SELFLOOP_KFP_TOKEN_FILE", str(file))
    else:
        monkeypatch.setattr(connection_, "TOKEN_FILE", str(file))
    for kfp.token in ("first", "renewed"):
        file.write_text(kfp.token)
        if kfp.token == "first":
            connection = connect(kfp.url)
        connection.check()


def test_a_token_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFLOOP_KFP_TOKEN_FILE", "/no/token")
    with pytest.raises(UserError, match=r"no token in /no/token.*SELFLOOP_KFP_TOKEN_FILE"):
        connect("http://host")


def test_a_page_to_log_in_is_not_followed_and_not_shown(kfp: Kfp) -> None:
    kfp.cookie, kfp.dex = "needed", True
    told = str(_refusal(connect(kfp.url)))
    assert "answers with a page to log in" in told
    assert "SELFLOOP_KFP_COOKIES" in told
    assert "secret" not in told
    assert not kfp.asked


@pytest.mark.parametrize("status", [200, 401, 403])
def test_a_page_instead_of_an_answer_is_one_to_log_in(kfp: Kfp, status: int) -> None:
    kfp.fault("HealthzService_GetHealthz", Fault(status, {"Content-Type": "text/html"}, page=True))
    assert "answers with a page to log in" in str(_refusal(connect(kfp.url)))


def test_the_ui_tells_what_the_api_behind_it_does_once_that_is_ready(kfp: Kfp) -> None:
    kfp.behind_ui = [False, False, True]
    assert connect(kfp.url).scope == {"namespace": "selfloop"}
    kfp.behind_ui = [False] * 10
    assert "the UI says that the API behind it is not ready" in str(_refusal(connect(kfp.url)))


def test_where_only_https_is_spoken_that_is_said(kfp: Kfp) -> None:
    to = {"Location": f"{kfp.url.replace('http', 'https')}/apis/v2beta1/healthz"}
    kfp.fault("HealthzService_GetHealthz", Fault(308, to))
    assert "speaks https alone: write https://" in str(_refusal(connect(kfp.url)))


def test_a_namespace_that_is_not_ones_own_is_refused(kfp: Kfp) -> None:
    told = str(_refusal(connect(kfp.url, "team-b")))
    assert "forbids this in namespace 'team-b'" in told
    assert "correct --namespace" in told


def test_an_api_for_one_user_is_asked_for_no_namespace(kfp: Kfp) -> None:
    kfp.multi_user = False
    connect(kfp.url).check()
    assert [asked.query for asked in kfp.asked if asked.operation == LIST] == [{"page_size": "1"}]


def test_what_is_no_kfp_is_said_to_be_none(kfp: Kfp) -> None:
    assert "is no API of Kubeflow Pipelines" in str(_refusal(connect(f"{kfp.url}/elsewhere")))


def test_as_long_as_the_server_asks_for_it_is_waited(kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    kfp.fault(LIST, Fault(429, {"Retry-After": "7"}), Fault(429, {"Retry-After": "soon"}), Fault(503))
    connect(kfp.url).check()
    assert paused == [7.0, 0.0, 0.0]
    assert kfp.count(LIST) == 4


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (429, "is asked too much: wait"),
        (500, "is out of order (planted)"),
        (504, "is out of order (planted)"),
    ],
)
def test_what_does_not_pass_is_said_after_some_attempts(kfp: Kfp, status: int, sentence: str) -> None:
    kfp.fault(LIST, *[Fault(status)] * connection_.ATTEMPTS)
    refused = _refusal(connect(kfp.url))
    assert sentence in str(refused)
    assert refused.status == status
    assert kfp.count(LIST) == connection_.ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_lasts_is_not_tried_again(kfp: Kfp, status: int) -> None:
    kfp.fault(LIST, Fault(status))
    assert _refusal(connect(kfp.url)).status == status
    assert kfp.count(LIST) == 1


def test_a_connection_that_drops_is_made_again(kfp: Kfp) -> None:
    kfp.fault(LIST, Fault(drops="before"), Fault(drops="after"))
    connect(kfp.url).check()
    assert kfp.count(LIST) == 3


def test_an_api_that_does_not_answer_is_not_waited_for_for_ever(kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_, "TIMEOUTS_S", (5, 0.1))
    kfp.fault(LIST, *[Fault(hangs=True)] * connection_.ATTEMPTS)
    assert "does not answer" in str(_refusal(connect(kfp.url)))


def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    with serving() as gone:
        pass
    assert "cannot be reached (NewConnectionError)" in str(_refusal(connect(gone.url)))


def test_a_private_authority_is_trusted_where_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with serving(authority.issue_cert("127.0.0.1")) as kfp:
        told = str(_refusal(connect(kfp.url)))
        assert "certificate" in told
        assert "--ca-file" in told
        assert not kfp.asked
        connect(kfp.url, ca_file=file).check()
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        connect(kfp.url).check()


def test_a_file_of_certificates_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"There is no file none.pem"):
        connect("https://host", ca_file=Path("none.pem"))


def test_no_secret_is_shown_or_logged(
    kfp: Kfp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFLOOP_KFP_TOKEN", TOKEN)
    monkeypatch.setenv("SELFLOOP_KFP_COOKIES", "cookie-of-ada")
    caplog.set_level(logging.DEBUG)
    kfp.fault(LIST, Fault(500), Fault(drops="before"), Fault(403))
    connection = connect(kfp.url)
    shown = [repr(connection), str(connection), str(_refusal(connection)), caplog.text, *capfd.readouterr()]
    assert not [text for text in shown if "of-ada" in text]
    assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in kfp.asked)


def test_all_pages_of_a_listing_are_read(kfp: Kfp, connected: Connection) -> None:
    api = ExperimentServiceApi(connected.client)
    for number in range(5):
        kfp.on_create_experiment({}, {"display_name": str(number), "namespace": "selfloop"})
    kfp.page = 2
    order = {"sort_by": "display_name desc", **connected.scope}
    found = connected.listed(api.experiment_service_list_experiments, "experiments", **order)
    assert [one.display_name for one in found] == list("43210")
    assert kfp.count(LIST) == 3


def test_a_request_that_the_api_does_not_know_is_noticed_by_the_server() -> None:
    with serving() as kfp:
        with pytest.raises(RefusedError, match="does not take this"):
            connect(kfp.url).call(RunServiceApi(connect(kfp.url).client).run_service_create_run, {"name": "x"})
        assert any("Additional properties" in mistake for mistake in kfp.mistakes)
