"""The doctor at a real S3 server: it writes, reads and removes an object, and says what hinders it."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from selfloop.cluster.doctor.findings import Case, Finding
from selfloop.cluster.doctor.services import check_store
from selfloop.profiles import find_profile

from .. import s3
from ..faults import Fault, proxied

pytestmark = [pytest.mark.slow, *(pytest.mark.debian(name) for name in ("radosgw", "ceph-mon", "ceph-osd"))]
server, owner = s3.server, s3.owner
Look = Callable[..., Finding]


@pytest.fixture
def bucket(server: s3.Server, owner: s3.User) -> str:
    name = f"doctor-{uuid.uuid4().hex[:12]}"
    server.client(owner).create_bucket(Bucket=name)
    return name


@pytest.fixture
def look(server: s3.Server, owner: s3.User, monkeypatch: pytest.MonkeyPatch) -> Look:
    """What is found at a store, with an environment of the owner's but for what is given."""

    def find(store: str, **other: str) -> Finding:
        for name, value in (owner.environment(server.endpoint) | other).items():
            monkeypatch.setenv(name, value)
        case = Case("team-a", find_profile("cpu"), kfp="", tracking_uri="", store=store, is_in_pod=False, access=None)
        (found,) = check_store(case)
        return found

    return find


def _names(server: s3.Server, owner: s3.User, bucket: str) -> list[Any]:
    found = server.client(owner).list_objects_v2(Bucket=bucket).get("Contents", [])
    return [item["Key"] for item in found]


def test_a_store_that_takes_gives_and_removes_is_well(
    server: s3.Server, owner: s3.User, bucket: str, look: Look
) -> None:
    found = look(f"s3://{bucket}/loops")
    assert (found.state, found.remedy) == ("well", "")
    assert found.found.startswith(f"s3://{bucket}/loops at {server.endpoint} takes objects")
    assert _names(server, owner, bucket) == []


def test_what_a_server_refuses_is_said_with_its_remedy(server: s3.Server, bucket: str, look: Look) -> None:
    stranger = server.user(f"stranger-{bucket}")
    of_stranger = {"AWS_ACCESS_KEY_ID": stranger.access_key, "AWS_SECRET_ACCESS_KEY": stranger.secret_key}
    for store, other, remedy in (
        (f"s3://{bucket}", {"AWS_SECRET_ACCESS_KEY": "wrong" * 8}, "correct AWS_SECRET_ACCESS_KEY"),
        (f"s3://{bucket}", {"AWS_ACCESS_KEY_ID": "nobody"}, "correct AWS_ACCESS_KEY_ID"),
        (f"s3://{bucket}-none", {}, "create it, or correct"),
        (f"s3://{bucket}", of_stranger, "ask for the right to read and write there"),
        (f"s3://{bucket}", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "check the network and AWS_ENDPOINT_URL_S3"),
    ):
        found = look(store, **other)
        assert found.state == "bad"
        assert remedy in found.remedy, found
        assert "run the same command" not in found.remedy
        assert not any(secret in str(found) for secret in (*of_stranger.values(), "wrongwrong"))


def test_an_object_that_comes_back_changed_is_found(server: s3.Server, bucket: str, look: Look) -> None:
    with proxied(server.port) as proxy:
        proxy.faults.append(Fault("spoil answer", method="GET", skip=1))
        found = look(f"s3://{bucket}", AWS_ENDPOINT_URL_S3=proxy.endpoint)
    assert (found.state, found.found) == ("bad", f"s3://{bucket} gave back other bytes than it was given")


def test_the_object_is_removed_also_where_it_cannot_be_read(
    server: s3.Server, owner: s3.User, bucket: str, look: Look
) -> None:
    with proxied(server.port) as proxy:
        proxy.faults.append(Fault("answer", method="GET", skip=1, status=403, code="AccessDenied"))
        assert look(f"s3://{bucket}", AWS_ENDPOINT_URL_S3=proxy.endpoint).state == "bad"
    assert _names(server, owner, bucket) == []
