"""The way to Kubeflow Pipelines: its address, who asks, and what is done when it does not answer.

The client is the one that KFP generates from its OpenAPI (v2beta1). Whatever may pass is tried again, as long as the
server asks for; what lasts is one sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kfp_server_api import ApiClient, ApiException, Configuration, ExperimentServiceApi
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from urllib3 import Retry
from urllib3.exceptions import HTTPError, InvalidHeader, NewConnectionError
from urllib3.exceptions import TimeoutError as SlowError

from selfloop.addresses import check_private
from selfloop.errors import UserError
from selfloop.reaching import hangs

ENDPOINT = "SELFLOOP_KFP_ENDPOINT"
UI = "KF_PIPELINES_UI_ENDPOINT"
"""The variable in which KFP's own client finds the address of the UI."""
IN_CLUSTER = "http://ml-pipeline.kubeflow:8888"
TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105
"""Where KFP users mount a pod's token for its API."""
HEALTH = "/apis/v2beta1/healthz"
NAMESPACE = "selfloop"
TIMEOUTS_S = (10.0, 60.0)
"""Until a connection is made, and until an answer comes."""
ATTEMPTS = 6
LONGEST_PAUSE_S = 60.0
PAUSE = wait_exponential_jitter(multiplier=0.5, max=15.0)
PASSING = (429, 500, 502, 503, 504)
PAGE = 100

T = TypeVar("T")


class RefusedError(UserError):
    """The API's refusal as one sentence, with its HTTP status; 0 where no answer came."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Connection:
    """An API of Kubeflow Pipelines, and the namespace that is meant there. Holds no secret that it would show."""

    endpoint: str
    namespace: str
    ui: str
    client: ApiClient = field(repr=False)
    attempts: int = ATTEMPTS
    """Of each request, as long as what fails may pass."""

    def check(self) -> None:
        """See that the API answers, and lets this user into the namespace."""
        self.call(ExperimentServiceApi(self.client).experiment_service_list_experiments, page_size=1, **self.scope)

    @cached_property
    def scope(self) -> dict[str, str]:
        """The namespace, for requests to an API that serves many users; another one has none."""
        return {"namespace": self.namespace} if self.recognize() else {}

    def recognize(self) -> bool:
        """See that it is an API of KFP that answers; whether it serves many users."""
        try:
            return bool(self.call(self._health).get("multi_user"))
        except RefusedError as error:
            if error.status != 404:
                raise
            raise RefusedError(NO_API.format(endpoint=self.endpoint), 404) from None

    def _health(self) -> Mapping[str, Any]:
        """What the API says of itself. The UI answers in its place, also while it cannot reach the API."""
        answer = self.client.call_api(
            HEALTH, "GET", response_type="object", auth_settings=["Bearer"], _return_http_data_only=True
        )
        if not isinstance(answer, Mapping):
            raise ApiException(status=404, reason="no answer of an API")
        if answer.get("apiServerReady") is False:
            raise ApiException(status=503, reason="the UI says that the API behind it is not ready")
        return answer

    def call(self, function: Callable[..., T], *words: Any, **options: Any) -> T:
        """The answer to a request that may be made twice. Raises ``RefusedError``."""
        if self._hangs:
            raise RefusedError(SLOW.format(endpoint=self.endpoint), 0)
        asked = partial(function, *words, **options)
        try:
            return Retrying(
                retry=retry_if_exception(_may_pass), wait=_pause, stop=stop_after_attempt(self.attempts), reraise=True
            )(asked)
        except (ApiException, HTTPError) as error:
            raise self._refused(error) from None  # its text holds headers and a body, which are nobody's business

    @cached_property
    def _hangs(self) -> bool:
        """Whether the API gave no answer when it was first asked; through a proxy, it is the proxy that answers."""
        return self.client.configuration.proxy is None and hangs(self.endpoint)

    def create(self, make: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Make something once: where it is open whether it was made, it is looked for before it is made again."""
        is_open = False

        def attempt() -> T:
            nonlocal is_open
            found = find() if is_open else None
            is_open = True
            return make() if found is None else found

        try:
            return self.call(attempt)
        except RefusedError as error:
            found = find() if error.status in (0, 409, *PASSING) else None
            if found is None:
                raise
            return found

    def listed(self, function: Callable[..., Any], items: str, *words: str, **options: Any) -> Iterator[Any]:
        """All that a listing has, page by page."""
        page = self.call(function, *words, page_size=PAGE, **options)
        while True:
            yield from getattr(page, items) or []
            if not page.next_page_token:
                return
            # the token stands for the filter too
            rest = {name: value for name, value in options.items() if name not in ("filter", "sort_by")}
            page = self.call(function, *words, page_size=PAGE, page_token=page.next_page_token, **rest)

    def run_url(self, run_id: str) -> str:
        """Where a person sees a run."""
        return f"{self.ui}/#/runs/details/{run_id}"

    def _refused(self, error: Exception) -> RefusedError:
        status = (error.status or 0) if isinstance(error, ApiException) else 0
        remedy = _remedy(error, status)
        why = said(error).rstrip(".")
        return RefusedError(remedy.format(endpoint=self.endpoint, namespace=self.namespace, why=why), status)


def connect(endpoint: str | None = None, namespace: str = NAMESPACE, ca_file: Path | None = None) -> Connection:
    """The way to the API that is given, that ``SELFLOOP_KFP_ENDPOINT`` names, or of the cluster that this pod is in."""
    address = _address(endpoint or os.environ.get(ENDPOINT) or _of_cluster())
    configuration = Configuration(host=address)
    configuration.retries = False  # a login page must not be followed to
    configuration.ssl_ca_cert = _ca(ca_file)
    configuration.proxy = _proxy(address)
    cookie = os.environ.get("SELFLOOP_KFP_COOKIES") or os.environ.get("KFP_COOKIES")
    _authorize(configuration, has_cookie=bool(cookie))
    client = _Client(configuration, cookie=cookie or None)
    return Connection(address, namespace, _address(os.environ.get(UI) or address), client)


class _Client(ApiClient):
    """KFP's client, which waits no longer than a person would, and takes nothing but an API's answer."""

    def request(self, method: str, url: str, **options: Any) -> Any:
        try:
            answer = super().request(method, url, **(options | {"_request_timeout": TIMEOUTS_S}))
            if "json" not in (answer.getheader("content-type") or "json"):
                raise ApiException(status=302, reason="a page instead of an answer")
        except ApiException as error:
            error.body = error.body or b""  # the client decodes it, also where there is none
            raise
        return answer


def _of_cluster() -> str:
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return IN_CLUSTER
    raise UserError(
        f"It is not known where Kubeflow Pipelines is: give --kfp or set {ENDPOINT}, for example to "
        "http://localhost:8080 beside 'kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80'."
    )


def _address(given: str) -> str:
    """An address without what a browser adds to it."""
    parts = urlsplit(given.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        shown = parts.hostname or "What was given"  # not whole: there may be a password in it
        raise UserError(f"{shown} is no address of Kubeflow Pipelines: give one such as https://host/pipeline.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _ca(given: Path | None) -> str | None:
    file = given or os.environ.get("SSL_CERT_FILE")
    if file and not Path(file).is_file():
        raise UserError(f"There is no file {file} with the certificates to trust: correct --ca-file or SSL_CERT_FILE.")
    return str(file) if file else None


def _proxy(address: str) -> str | None:
    parts = urlsplit(address)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _authorize(configuration: Configuration, has_cookie: bool) -> None:
    """Bear the token that was given, or, where nothing was, the one that the cluster puts into its pods."""
    token, file = os.environ.get("SELFLOOP_KFP_TOKEN"), os.environ.get("SELFLOOP_KFP_TOKEN_FILE")
    if token is None and file is None and not has_cookie and Path(TOKEN_FILE).is_file():
        file = TOKEN_FILE
    if token:
        configuration.api_key["authorization"] = token.strip()
    elif file:
        if not Path(file).is_file():
            raise UserError(f"There is no token in {file}: correct SELFLOOP_KFP_TOKEN_FILE.")
        from kfp.client import ServiceAccountTokenVolumeCredentials

        # the cluster renews the file, so it is read for each request
        configuration.refresh_api_key_hook = ServiceAccountTokenVolumeCredentials(file).refresh_api_key_hook
        configuration.refresh_api_key_hook(configuration)
    configuration.api_key_prefix["authorization"] = "Bearer"
    if has_cookie or configuration.api_key:
        check_private(configuration.host, "a token")


def _may_pass(error: BaseException) -> bool:
    """Whether a fault may be gone at the next attempt."""
    return isinstance(error, HTTPError) or (isinstance(error, ApiException) and error.status in PASSING)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: as many as the server asks for, or ever more."""
    error = state.outcome.exception() if state.outcome else None
    asked = (getattr(error, "headers", None) or {}).get("Retry-After")
    try:
        return min(Retry().parse_retry_after(asked), LONGEST_PAUSE_S) if asked else PAUSE(state)
    except InvalidHeader:
        return PAUSE(state)


def said(error: Exception) -> str:
    """What the API says of a refusal, on one line."""
    body = getattr(error, "body", None) or ""
    try:
        answer = json.loads(body)
        text = answer.get("message") or answer.get("error_message") or answer.get("error") or ""
    except (ValueError, AttributeError):
        text = ""
    text = text or str(getattr(error, "reason", None) or type(error).__name__)
    return " ".join(text.split())[:300]


LOGIN = (
    "{endpoint} answers with a page to log in, not as an API does: log in with a browser and set SELFLOOP_KFP_COOKIES "
    "to the cookie of its requests, or SELFLOOP_KFP_TOKEN to a token."
)
REMEDIES = {
    400: "{endpoint} does not take this ({why}): correct it and try again.",
    401: "{endpoint} does not know who asks: set SELFLOOP_KFP_TOKEN or SELFLOOP_KFP_COOKIES, anew if it has expired.",
    403: "{endpoint} forbids this in namespace '{namespace}' ({why}): correct --namespace, or ask for the right.",
    404: "{endpoint} does not have this ({why}): look whether it was deleted.",
    409: "{endpoint} has this already ({why}): choose another name.",
    429: "{endpoint} is asked too much: wait, and try again.",
}
"""One sentence for each refusal, by its HTTP status."""
BROKEN = "{endpoint} is out of order ({why}): wait until it is well again, and try again."
UNREACHABLE = "{endpoint} cannot be reached ({why}): check the network and --kfp (SELFLOOP_KFP_ENDPOINT)."
SLOW = "{endpoint} does not answer: look how Kubeflow Pipelines is, and try again."
ELSEWHERE = "{endpoint} speaks https alone: write https:// in --kfp."
NO_API = "{endpoint} is no API of Kubeflow Pipelines: correct --kfp or SELFLOOP_KFP_ENDPOINT."
UNTRUSTED = "The certificate of {endpoint} is not trusted: give the one of its authority with --ca-file."


def _remedy(error: Exception, status: int) -> str:
    """The sentence for an error, still to be filled."""
    if isinstance(error, ApiException):
        if "CERTIFICATE_VERIFY_FAILED" in str(error.reason):
            return UNTRUSTED
        if _speaks_tls(error):
            return ELSEWHERE
        if 300 <= status < 400 or (status in (401, 403) and "<html" in str(error.body).lower()):
            return LOGIN
        return UNREACHABLE if status == 0 else REMEDIES.get(status, BROKEN)
    if isinstance(error, SlowError) and not isinstance(error, NewConnectionError):
        return SLOW
    return UNREACHABLE


def _speaks_tls(error: ApiException) -> bool:
    """Whether the same was to be asked over https."""
    location = urlsplit((error.headers or {}).get("Location", ""))
    return location.scheme == "https" and "/apis/v2beta1/" in location.path
