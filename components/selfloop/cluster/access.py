"""The way to the Kubernetes API: as a pod's service account, or with a person's kubeconfig."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from urllib3 import Retry
from urllib3.exceptions import HTTPError

from selfloop.errors import UserError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from kubernetes.client.exceptions import ApiException

NAMESPACE_OF_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT_S = (10.0, 30.0)
"""To connect, and for each answer to begin."""
PATIENT = Retry(
    8,
    backoff_factor=0.5,
    backoff_max=20,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
)
"""Each request may be made again, also one that changes something: what it changes is a conditional write. An API
server that is slow or away for a minute ends no run.
"""
NEVER = Retry(0)


class Access(NamedTuple):
    """A client of the Kubernetes API, and the namespace that it is used for."""

    api: ApiClient
    namespace: str

    @property
    def host(self) -> str:
        """The address of the API server."""
        return str(self.api.configuration.host)


def is_in_pod() -> bool:
    """Whether this process runs in a pod."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def of_pod(retries: Retry = PATIENT) -> Access:
    """The access of this pod's service account, to its own namespace.

    Raises ``UserError`` where the pod has no token of a service account.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
        namespace = NAMESPACE_OF_POD.read_text().strip()
    except (config.ConfigException, OSError) as error:
        raise UserError(
            f"This pod has no way to the Kubernetes API ({_first_line(error)}): let it run as a service account whose "
            "token is mounted."
        ) from None
    configuration.retries = retries
    return Access(client.ApiClient(configuration), namespace)


def of_person(namespace: str | None = None, retries: Retry = PATIENT) -> Access:
    """The access that the kubeconfig gives, to a namespace or to that of its current context.

    Raises ``UserError`` where there is no kubeconfig, or none that can be used.
    """
    from kubernetes import client, config

    place = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
    configuration = client.Configuration()
    try:
        config.load_kube_config(place, client_configuration=configuration)
        context = config.list_kube_config_contexts(place)[1]["context"]
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"No kubeconfig can be used at {place} ({_first_line(error)}): set KUBECONFIG to that of the cluster."
        ) from None
    configuration.retries = retries
    return Access(client.ApiClient(configuration), namespace or context.get("namespace") or "default")


@contextmanager
def answered(what: str, access: Access, right: str) -> Iterator[None]:
    """Say in one sentence why ``what`` cannot be had, which needs a ``right`` such as 'get leases'."""
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise UserError(_sentence(error, what, access, right)) from None
    except HTTPError as error:
        raise UserError(
            f"{what} cannot be asked for, the Kubernetes API at {access.host} cannot be reached "
            f"({_reason(error)}): check the network and the kubeconfig."
        ) from None


def _sentence(error: ApiException, what: str, access: Access, right: str) -> str:
    namespace = access.namespace
    remedies = {
        0: "check the certificate authority that the kubeconfig names",
        401: "log in again, or renew the token",
        403: f"give the account the right to {right} in namespace {namespace}, as manifests/base/rbac does",
        404: f"create namespace {namespace}, or name another one",
    }
    remedy = remedies.get(error.status, "wait until the cluster is well again, or ask who runs it")
    return f"{what} is refused by the Kubernetes API at {access.host} ({said(error)}): {remedy}."


def said(error: ApiException) -> str:
    """Status and reason of a refusal, such as '403 Forbidden: leases ... is forbidden'."""
    try:
        message = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        message = ""
    reason = _first_line(error.reason or "no reason")
    status = f"{error.status} {reason}" if error.status else reason
    return f"{status}: {_first_line(message)[:200]}" if message not in ("", reason) else status


def _reason(error: HTTPError) -> str:
    reason = getattr(error, "reason", None) or error
    return _first_line(reason).rpartition(": ")[2][:200]


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or ["no reason"])[0].rstrip(".")
