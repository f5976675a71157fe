"""Whether KFP, MLflow, the store, the images and the sandbox are what a loop needs, as this process reaches them."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from urllib3.exceptions import HTTPError

from selfloop.cluster.doctor.findings import Case, Finding, bad, of_sentence, reason, unseen, well
from selfloop.cluster.doctor.namespace import check_right_to_runs
from selfloop.errors import UserError

LAPTOP, POD = "not from a laptop", "run it in a pod"
IMAGES = ("base", "generate", "finetune", "rl", "sandbox")


def check_kfp(case: Case) -> Iterator[Finding]:
    """That the API of Kubeflow Pipelines answers and lets this user see the namespace; and, where it serves many users,
    that stages may ask it what they ask.
    """
    from kfp_server_api import ApiException, ExperimentServiceApi, HealthzServiceApi

    subject = "KFP"
    if not case.kfp and not case.is_in_pod:
        yield _without_address(case, subject, "--kfp")
        return
    from selfloop.cluster.connection import connect

    connection = connect(case.kfp or None, case.namespace)
    try:
        health = HealthzServiceApi(connection.client).healthz_service_get_healthz()
        scope = {"namespace": case.namespace} if health.multi_user else {}
        ExperimentServiceApi(connection.client).experiment_service_list_experiments(page_size=1, **scope)
    except (ApiException, HTTPError) as error:
        yield _refused_by_kfp(subject, connection.endpoint, error)
        return
    yield well(subject, f"{connection.endpoint} answers{', for many users' if health.multi_user else ''}")
    if health.multi_user and case.access:
        yield from check_right_to_runs(case)


def _without_address(case: Case, subject: str, option: str) -> Finding:
    """The finding where nobody said where to look: a pod should have it from the ConfigMap, a laptop need not."""
    if case.is_in_pod:
        return bad(subject, "this pod does not know where it is", "let it have the ConfigMap's keys in its environment")
    return unseen(subject, LAPTOP, f"{POD}, or give {option}")


def _refused_by_kfp(subject: str, endpoint: str, error: Exception) -> Finding:
    from selfloop.cluster.connection import said

    why = reason(error) if isinstance(error, HTTPError) else said(error)
    status = int(getattr(error, "status", 0) or 0)
    if status in (301, 302, 303, 307, 401):
        return bad(
            subject, f"{endpoint} does not know who asks", "set SELFLOOP_KFP_TOKEN or SELFLOOP_KFP_COOKIES, anew"
        )
    if status == 403:
        return bad(subject, f"{endpoint} forbids it ({why})", "ask for the right to the namespace, or name another")
    if status == 404:
        return bad(subject, f"{endpoint} is no API of Kubeflow Pipelines", "correct --kfp")
    return bad(subject, f"{endpoint} does not answer well ({why})", "check the network, --kfp and KFP itself")


def check_mlflow(case: Case) -> Iterator[Finding]:
    """That MLflow answers with the credentials of this process."""
    from mlflow import MlflowClient

    from selfloop.lineage.tracking import complaints, without_password

    subject, place = "MLflow", without_password(case.tracking_uri)
    if not case.tracking_uri:
        yield _without_address(case, subject, "--tracking-uri")
        return
    with _asking_once():
        try:
            MlflowClient(case.tracking_uri).search_registered_models(max_results=1)
        except complaints(OSError) as error:
            yield _refused_by_mlflow(subject, place, without_password(str(error)))
            return
    yield well(subject, f"{place} answers")


def _refused_by_mlflow(subject: str, place: str, said: str) -> Finding:
    status = re.search(r"error code (\d+)", said)
    if status and status[1] in ("401", "403"):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or correct them"
        return bad(subject, f"{place} does not let this user in ({status[1]})", remedy)
    errno = re.search(r"\[Errno -?\d+\] ([\w ]+)", said)
    why = status[1] if status else errno[1] if errno else said.strip().split("\n")[0][:120]
    return bad(subject, f"{place} does not answer well ({why})", "check the network, --tracking-uri and MLflow itself")


@contextmanager
def _asking_once() -> Iterator[None]:
    """Let MLflow's client say at once what is wrong."""
    chosen = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({name: value} if value is not None else {})


def check_store(case: Case) -> Iterator[Finding]:
    """That an object can be written to the store, read and removed, with the credentials of this process."""
    from minio.error import MinioException

    from selfloop.store import AGAIN, open_store
    from selfloop.store.refusals import sentence
    from selfloop.store.s3 import S3Store

    subject = "store"
    if not case.store:
        yield _without_address(case, subject, "--store")
        return
    store = open_store(case.store)
    if not isinstance(store, S3Store):
        yield bad(subject, f"{case.store} is a folder, which pods do not share", "let it be s3://bucket/prefix")
        return
    objects, name = store.objects, f"doctor/{uuid.uuid4()}"
    try:
        objects.holds(name, "", 0)  # a refusal is said at once, where writing would try again
        objects.write(name, b"selfloop doctor")
        try:
            arrived = objects.read(name) == b"selfloop doctor"
        finally:
            objects.remove(name)
    except (MinioException, HTTPError) as error:
        words = sentence(error, objects.endpoint, objects.bucket, store.uri)
        yield of_sentence(subject, UserError(re.sub(rf",? and {AGAIN}|\[Errno -?\d+\] ", "", words)))
        return
    if arrived:
        yield well(subject, f"{store.uri} at {objects.endpoint} takes objects, and gives and removes them")
    else:
        yield bad(subject, f"{store.uri} gave back other bytes than it was given", "ask who runs it")


def check_images(case: Case) -> Iterator[Finding]:
    """That the registry has the images of the profile; asked with this user's credentials, not those of the nodes."""
    from selfloop.modes import images

    subject, registry = "images", case.profile.registry
    if case.is_in_pod:
        yield unseen(subject, "not from a pod: the nodes pull them", "run it on a laptop")
        return
    tagged = [f"{registry.prefix}/{image}:{registry.tag}" for image in IMAGES]
    if not images.parted(tagged[0])[0]:
        found = f"{registry.prefix} names no registry, so each node must have {tagged[0]} and the others"
        yield unseen(subject, found, "set registry.prefix in the profile to pull them")
        return
    with _heard("selfloop.modes.images") as said:
        pinned = images.resolved(tagged)
    lacking = [reference for reference in tagged if "@sha256:" not in pinned[reference]]
    if lacking:
        remedy = "push them (make images PUSH=1), log in with 'docker login', or correct the profile's registry"
        yield bad(subject, said[0].rstrip(".") if said else f"no {', '.join(lacking)}", remedy)
    else:
        yield well(subject, f"{registry.prefix} has {', '.join(IMAGES)} at {registry.tag}")


@contextmanager
def _heard(name: str) -> Iterator[list[str]]:
    """What a logger says during the block, instead of its saying it."""
    said: list[str] = []

    def hear(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logger = logging.getLogger(name)
    logger.addFilter(hear)
    try:
        yield said
    finally:
        logger.removeFilter(hear)


def check_sandbox(case: Case) -> Iterator[Finding]:
    """That user namespaces let generated code run apart, tried for real."""
    from selfloop.sandbox.isolation import is_unsafe, probe

    subject = "sandbox"
    if not case.is_in_pod:
        yield unseen(subject, LAPTOP, f"{POD} like those of the stages")
    elif is_unsafe():
        yield unseen(subject, "is turned off: generated code runs unprotected", "unset SELFLOOP_UNSAFE_NO_SANDBOX")
    else:
        yield _tried(subject, probe)


def _tried(subject: str, probe: Any) -> Finding:
    try:
        probe()
    except UserError as error:
        why = str(error).removeprefix("Generated code is not run unprotected, and ").partition(": ")[0]
        return bad(subject, why, "install the seccomp profile of manifests/base/sandbox, which allows user namespaces")
    return well(subject, "keeps programs apart")


def check_notifications(case: Case) -> Iterator[Finding]:
    """That notifications can go out as they are set; nothing is sent."""
    from selfloop.notifications import WEBHOOK, verdicts_to_send

    subject = "notifications"
    url = os.environ.get(WEBHOOK, "")
    if not url:
        remedy = f"set {WEBHOOK} to be notified of verdicts" if case.is_in_pod else POD
        yield unseen(subject, "nobody is notified" if case.is_in_pod else LAPTOP, remedy)
        return
    if not re.match(r"https?://[^/\s]+/?\S*$", url):
        yield bad(subject, f"{WEBHOOK} is no address of the web", "give one such as https://host/path")
        return
    yield well(subject, f"tell of {', '.join(sorted(verdicts_to_send()))}; nothing was sent")
