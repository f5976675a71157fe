"""The store on a real S3 server, through a proxy that breaks what passes."""

import datetime
import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp.dsl import Model
from selfloop.artifacts import file_digest, files_digest, manifest_of
from selfloop.errors import UserError
from selfloop.fetch import FetchParams, fetch_policy
from selfloop.identity import work_key
from selfloop.store import connection, open_store, refusals, transfers

from . import s3
from .faults import ALWAYS, Fault, Proxy, proxied
from .forked import Forked
from .test_store import contents, sealed

pytestmark = [pytest.mark.slow, *(pytest.mark.debian(name) for name in ("radosgw", "ceph-mon", "ceph-osd"))]
server, owner = s3.server, s3.owner

PART = 128 * 1024
SHARD = 16 * PART
PROGRAM = f"""
import sys
from selfloop.errors import UserError
from selfloop.store import open_store, transfers
transfers.PART_BYTES, transfers.INDEXED_BYTES = {PART}, {PART}
try:
    print(getattr(open_store(sys.argv[1]), sys.argv[2])(sys.argv[3]))
except UserError as error:
    sys.exit(str(error))
"""


class Bucket(NamedTuple):
    """A bucket of its own for a test: through the proxy as a store, and straight to the server through ``client``."""

    uri: str
    name: str
    client: Any
    proxy: Proxy

    def objects(self, key: str = "") -> dict[str, int]:
        """The sizes of all objects whose names contain a text."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {item["Key"]: item["Size"] for item in found if key in item["Key"]}

    def uploads(self) -> list[dict[str, Any]]:
        """The multipart uploads that nobody has completed."""
        return list(self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))

    def arrived(self) -> int:
        """The bytes of the parts of all these."""
        total = 0
        for upload in self.uploads():
            parts = self.client.list_parts(Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"])
            total += sum(part["Size"] for part in parts.get("Parts", []))
        return total


@pytest.fixture(scope="module")
def proxy(server: s3.Server) -> Iterator[Proxy]:
    with proxied(server.port) as running:
        yield running


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", PART)
    monkeypatch.setattr(transfers, "INDEXED_BYTES", PART)
    monkeypatch.setattr(refusals, "PAUSES_S", (0.01, 0.05))
    monkeypatch.setattr(connection, "BACKOFF_S", 0.001)


@pytest.fixture
def bucket(server: s3.Server, owner: s3.User, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    return made_bucket(server, owner, proxy, monkeypatch, tmp_path)


def made_bucket(
    server: s3.Server, user: s3.User, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Bucket:
    proxy.forget()
    for name, value in user.environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "cache"))
    name = f"{user.name}-{time.time_ns()}"
    client = server.client(user)
    client.create_bucket(Bucket=name)
    return Bucket(f"s3://{name}/loops/one", name, client, proxy)


def shard(number: int, size: int = SHARD) -> bytes:
    """Bytes of a shard, other ones for each number."""
    return bytes([number]) + os.urandom(size - 1)


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of two shards of 16 parts and small files; nobody changes it."""
    files = {f"model-{number}.safetensors": shard(number) for number in (1, 2)}
    return sealed(tmp_path_factory.mktemp("s3-policy") / "policy", files | {"config.json": b"{}", "empty": b""})


def refusal(work: Callable[[], object]) -> str:
    """The one sentence with which something is refused."""
    with pytest.raises(UserError) as refused:
        work()
    said = str(refused.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def nothing_is_visible(bucket: Bucket, policy: Path) -> bool:
    """Whether a reader finds no artifact, and no trace of a manifest."""
    bucket.proxy.forget()
    store = open_store(bucket.uri)
    assert "There is no artifact" in refusal(lambda: store.get(manifest_of(policy).digest))
    return not bucket.objects("manifest.json") and not list(store.keys()) and not store.has(manifest_of(policy).digest)


def completes(bucket: Bucket, policy: Path) -> int:
    """Put and get, without faults, and compare. Returns the bytes that were sent."""
    bucket.proxy.forget()
    uri = open_store(bucket.uri).put(policy)
    sent = bucket.proxy.sent()
    with open_store(bucket.uri) as store:
        assert contents(store.get(uri)) == contents(policy)
    assert bucket.uploads() == []
    return sent


def total(policy: Path) -> int:
    return sum(map(len, contents(policy).values()))


def test_an_artifact_is_a_readable_folder_and_its_manifest_comes_last(bucket: Bucket, policy: Path) -> None:
    store = open_store(bucket.uri)
    uri = store.put(policy)
    key = manifest_of(policy).digest
    assert uri == f"{bucket.uri}/{key}"
    last = [exchange for exchange in bucket.proxy.exchanges if exchange.method in ("PUT", "POST")][-1]
    assert last.path.endswith(f"{key}/manifest.json")
    assert last.headers["if-none-match"] == "*"
    for name, content in contents(policy).items():
        found = bucket.client.get_object(Bucket=bucket.name, Key=f"loops/one/{key}/{name}")
        assert found["Body"].read() == content
    assert list(store.keys()) == [key]
    assert store.has(key)
    assert store.size(key) == total(policy)
    assert contents(store.get(uri)) == contents(policy)


def test_a_policy_may_be_a_plain_folder(bucket: Bucket, trained: Path, tmp_path: Path) -> None:
    files = {
        path.name: path.read_bytes() for path in trained.iterdir() if path.is_file() and path.name != "manifest.json"
    }
    for name, data in (files | dict.fromkeys(("code.py", "optimizer.pt", "more/config.json"), b"no")).items():
        bucket.client.put_object(Bucket=bucket.name, Key=f"models/mine/{name}", Body=data)
    made = Model(uri=str(tmp_path / "fetched"))
    fetch_policy.into(fetch_policy.out(policy=made), FetchParams(source=f"s3://{bucket.name}/models/mine/"))
    assert made.metadata["digest"] == manifest_of(trained).digest
    source = FetchParams(source=f"s3://{bucket.name}/models/mine/")
    keys = [work_key(source, {}), work_key(source, {})]
    bucket.client.put_object(Bucket=bucket.name, Key="models/mine/config.json", Body=b"{}")
    assert keys[0] == keys[1] != work_key(source, {})
    none = fetch_policy.out(policy=Model(uri=str(tmp_path / "none")))
    assert "holds no file such as *.safetensors" in refusal(
        lambda: fetch_policy.into(none, FetchParams(source=f"s3://{bucket.name}/models"))
    )


def test_putting_and_getting_again_sends_nothing(bucket: Bucket, policy: Path) -> None:
    with open_store(bucket.uri) as store:
        store.get(store.put(policy))
    bucket.proxy.forget()
    with open_store(bucket.uri) as store:
        store.get(store.put(policy))
    assert bucket.proxy.sent() == 0
    assert bucket.proxy.received() < 5_000


def test_names_may_be_odd(bucket: Bucket, tmp_path: Path) -> None:
    files = {"a b/c+d": b"1", "ü/ä%20&=?#": shard(3), "tokenizer (1).json": b"{}"}
    assert completes(bucket, sealed(tmp_path / "odd", files))


def test_a_store_may_be_a_whole_bucket(bucket: Bucket, policy: Path) -> None:
    assert completes(bucket._replace(uri=f"s3://{bucket.name}/"), policy)


def test_the_sidecar_goes_along(bucket: Bucket, tmp_path: Path) -> None:
    place = sealed(tmp_path / "timed", {"config.json": b"{}"})
    (place / "sidecar.json").write_text('{"seconds": 1}')
    assert completes(bucket, place)


def test_a_second_round_sends_what_changed(bucket: Bucket, tmp_path: Path) -> None:
    shards = {f"model-{number:02}.safetensors": shard(number, 4 * PART) for number in range(20)}
    first = sealed(tmp_path / "first", shards)
    second = sealed(tmp_path / "second", shards | {"model-07.safetensors": shard(77, 4 * PART)})
    assert completes(bucket, first) > total(first)
    sent = completes(bucket, second)
    assert 0.05 <= sent / total(second) < 0.06


def test_what_was_sent_before_but_is_gone_is_sent_again(bucket: Bucket, policy: Path, tmp_path: Path) -> None:
    store = open_store(bucket.uri)
    store.put(policy)
    store.delete(manifest_of(policy).digest)
    assert set(bucket.objects()) == {
        f"loops/one/files/{file_digest(policy / f'model-{number}.safetensors')}" for number in (1, 2)
    }
    again = sealed(tmp_path / "again", contents_of_shards(policy) | {"config.json": b"[]"})
    assert completes(bucket, again) > total(again)
    assert completes(bucket, policy) < PART


def contents_of_shards(policy: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(policy).items() if name.endswith(".safetensors")}


PASSING = [
    Fault("reset", "PUT", "partNumber", after_bytes=PART // 2, times=5),
    Fault("reset", "PUT", "config.json", times=2),
    Fault("reset", "PUT", "manifest.json", after_bytes=10, times=2),
    Fault("answer", ".*", times=4),
    Fault("answer", "POST", "uploads", status=500, code="InternalError", times=2),
    Fault("spoil request", "PUT", "partNumber", after_bytes=1000, times=1),
    Fault("spoil request", "PUT", "config.json", after_bytes=0, times=1),
    Fault("lose answer", "PUT", "partNumber", times=3),
    Fault("lose answer", "POST", "uploads", times=1),
    Fault("lose answer", "POST", "uploadId", times=2),
    Fault("lose answer", "PUT", "manifest.json", times=1),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind} {fault.method} {fault.path}")
def test_an_upload_outlasts_a_fault(bucket: Bucket, policy: Path, fault: Fault) -> None:
    times, fault = fault.times, replace(fault)
    bucket.proxy.faults.append(fault)
    open_store(bucket.uri).put(policy)
    assert fault.times == 0
    assert bucket.proxy.sent() < total(policy) + (times + 1) * 2 * PART
    assert completes(bucket, policy) == 0


LASTING = {
    "reset": (Fault("reset", "PUT", "partNumber=9&", after_bytes=PART // 2, times=ALWAYS), "cannot be reached"),
    "503": (Fault("answer", "PUT", "partNumber", skip=12, times=ALWAYS), "is out of order"),
    "503 of the manifest": (Fault("answer", "PUT", "manifest.json", times=ALWAYS), "is out of order"),
    "wrong checksum": (
        Fault("spoil request", "PUT", "partNumber=5&", after_bytes=7, times=ALWAYS),
        "arrived damaged",
    ),
    "expired": (
        Fault("answer", "PUT", "partNumber", skip=12, times=ALWAYS, status=400, code="ExpiredToken"),
        "credentials for .* have expired: renew them",
    ),
    "denied": (
        Fault("answer", "PUT", "manifest.json", times=ALWAYS, status=403, code="AccessDenied"),
        "do not reach s3://",
    ),
    "strange": (
        Fault("answer", "POST", "uploads", times=ALWAYS, status=400, code="NotSeenBefore"),
        "refuses .*NotSeenBefore: planted",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_of_an_upload_is_said_and_the_next_resumes(bucket: Bucket, policy: Path, name: str) -> None:
    fault, words = LASTING[name]
    bucket.proxy.faults.append(replace(fault))
    said = refusal(lambda: open_store(bucket.uri).put(policy))
    assert pytest.raises(UserError, match=words).matches(UserError(said))
    assert nothing_is_visible(bucket, policy)
    here = bucket.arrived() + sum(bucket.objects(manifest_of(policy).digest).values())
    assert completes(bucket, policy) < total(policy) - here + PART


def test_a_download_outlasts_faults(bucket: Bucket, policy: Path) -> None:
    uri = open_store(bucket.uri).put(policy)
    bucket.proxy.forget()
    bucket.proxy.faults += [
        Fault("cut", "GET", "model-1", after_bytes=PART // 2, times=20),
        Fault("spoil answer", "GET", "model-2", after_bytes=77),
        Fault("answer", "GET", times=3),
        Fault("reset", "GET", "config.json", times=1),
    ]
    assert contents(open_store(bucket.uri).get(uri)) == contents(policy)
    assert bucket.proxy.received() < total(policy) + SHARD + PART  # one shard twice, since it was spoilt


def test_a_download_that_broke_off_continues(bucket: Bucket, policy: Path, tmp_path: Path) -> None:
    uri = open_store(bucket.uri).put(policy)
    bucket.proxy.forget()
    bucket.proxy.faults.append(Fault("cut", "GET", "model", skip=10, times=ALWAYS))
    assert "cannot be reached" in refusal(lambda: open_store(bucket.uri).get(uri))
    assert not list((tmp_path / "cache").glob("*/manifest.json"))
    first = bucket.proxy.received()
    assert first > 5 * PART
    bucket.proxy.forget()
    assert contents(open_store(bucket.uri).get(uri)) == contents(policy)
    assert bucket.proxy.received() < total(policy) - first + 2 * PART


@pytest.mark.parametrize("name", ["model-2.safetensors", "config.json"])
def test_an_object_that_is_not_what_was_put_is_refused_by_name(bucket: Bucket, policy: Path, name: str) -> None:
    uri = open_store(bucket.uri).put(policy)
    content = (policy / name).read_bytes()
    stored = f"loops/one/{manifest_of(policy).digest}/{name}"
    bucket.client.put_object(Bucket=bucket.name, Key=stored, Body=content[:-1] + b"!")
    said = refusal(lambda: open_store(bucket.uri).get(uri))
    assert f"{uri}/{name} is not what was put there" in said
    store = open_store(bucket.uri)
    store.delete(manifest_of(policy).digest)
    assert completes(bucket, policy)


def test_an_object_that_is_missing_is_refused_by_name(bucket: Bucket, policy: Path) -> None:
    uri = open_store(bucket.uri).put(policy)
    bucket.client.delete_object(Bucket=bucket.name, Key=f"loops/one/{manifest_of(policy).digest}/config.json")
    assert f"{uri}/config.json is missing" in refusal(lambda: open_store(bucket.uri).get(uri))


def manifest(files: dict[str, str]) -> str:
    """A manifest as somebody might write it."""
    about: dict[str, Any] = {"kind": "Model", "digest": "", "stage": "", "params": {}, "inputs": {}, "code": ""}
    return json.dumps(about | {"metadata": {}, "files": files})


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../../evil", ".unfinished/evil", "manifest.json"])
def test_a_manifest_that_is_not_that_of_its_key_or_leads_elsewhere_is_refused(
    bucket: Bucket, tmp_path: Path, name: str
) -> None:
    honest, evil = {"a": "0" * 64}, {name: "0" * 64}
    for key in (files_digest(honest), files_digest(evil)):
        stored = f"loops/one/{key}/manifest.json"
        bucket.client.put_object(Bucket=bucket.name, Key=stored, Body=manifest(evil))
        assert f"{key}/manifest.json is not what was put" in refusal(partial(open_store(bucket.uri).get, key))
    assert not list(tmp_path.rglob("evil"))


def test_a_link_that_leads_out_is_not_sent(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"{}")
    for name in ("config.json", "sidecar.json"):
        place = sealed(tmp_path / name, {"config.json": b"{}", "sidecar.json": b"{}"})
        (place / name).unlink()
        (place / name).symlink_to(tmp_path / "secret")
        assert "is a link that leads out of" in refusal(partial(open_store(bucket.uri).put, place))
        assert nothing_is_visible(bucket, place)


@pytest.mark.parametrize("missing", [True, False])
def test_a_source_that_was_altered_is_refused_by_name(bucket: Bucket, tmp_path: Path, missing: bool) -> None:
    files = {"model-1.safetensors": shard(1), "model-2.safetensors": shard(2), "config.json": b"{}"}
    place = sealed(tmp_path / "altered", files)
    for name in ("model-2.safetensors", "config.json"):
        (place / name).unlink()
        if not missing:
            (place / name).write_bytes(files[name][:-1] + b"!")
        said = refusal(lambda: open_store(bucket.uri).put(place))
        assert f"{place / name} {'is missing' if missing else 'was altered'}" in said
        assert nothing_is_visible(bucket, place)
        (place / name).unlink(missing_ok=True)
        (place / name).write_bytes(files[name])
    assert completes(bucket, place)


def test_a_slow_link_is_waited_for(bucket: Bucket, policy: Path) -> None:
    bucket.proxy.bytes_per_s = 4e6
    uri = open_store(bucket.uri).put(policy)
    began = time.monotonic()
    assert contents(open_store(bucket.uri).get(uri)) == contents(policy)
    assert time.monotonic() - began > 0.9


def test_a_clock_that_is_wrong_is_named(bucket: Bucket, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minio.time

    with monkeypatch.context() as patched:
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        patched.setattr(minio.time, "utcnow", lambda: later)
        assert "This machine's clock is too far from that of" in refusal(lambda: open_store(bucket.uri).put(policy))
    assert nothing_is_visible(bucket, policy)
    assert completes(bucket, policy)


def test_credentials_that_are_withdrawn_on_the_way_are_named(
    server: s3.Server, proxy: Proxy, policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user = server.user("leaver")
    bucket = made_bucket(server, user, proxy, monkeypatch, tmp_path)
    proxy.bytes_per_s = 2e6
    key = ("--uid", user.name, "--access-key", user.access_key, "--key-type=s3")

    def withdraw() -> None:
        while proxy.passed < total(policy) / 2:
            time.sleep(0.01)
        server.admin("key", "rm", *key)

    withdrawing = threading.Thread(target=withdraw)
    withdrawing.start()
    said = refusal(lambda: open_store(bucket.uri).put(policy))
    withdrawing.join()
    assert "does not know the access key" in said or "do not reach s3://" in said  # the latter of a part on its way
    assert user.secret_key not in said
    assert "does not know the access key" in refusal(lambda: open_store(bucket.uri).put(policy))
    server.admin("key", "create", *key, "--secret-key", user.secret_key)
    assert nothing_is_visible(bucket, policy)
    assert completes(bucket, policy) < total(policy)


def test_a_full_bucket_is_named(
    server: s3.Server, proxy: Proxy, policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user = server.user("small")
    bucket = made_bucket(server, user, proxy, monkeypatch, tmp_path)
    quota = ("--quota-scope=bucket", "--uid", user.name)
    server.admin("quota", "set", *quota, f"--max-size={SHARD // 2}")
    server.admin("quota", "enable", *quota)
    said = refusal(lambda: open_store(bucket.uri).put(policy))
    assert f"The bucket '{bucket.name}' is full" in said
    assert nothing_is_visible(bucket, policy)
    server.admin("quota", "disable", *quota)
    assert completes(bucket, policy)


WRONG = {
    "an unknown key": ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not know the access key"),
    "a wrong secret": ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "refuses the secret key"),
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": "", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"},
        "There are no credentials for .*: set AWS_ACCESS_KEY_ID",
    ),
    "nobody there": ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, r"127.0.0.1:9 cannot be reached \(.*refused\)"),
    "not in its language": ({"AWS_ENDPOINT_URL_S3": "https://127.0.0.1:{port}"}, "cannot be reached"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_nothing_changes(
    server: s3.Server, bucket: Bucket, policy: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment, words = WRONG[name]
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value.format(port=server.port))
    store, key = open_store(bucket.uri), manifest_of(policy).digest
    for use in (lambda: store.put(policy), lambda: store.get(key), lambda: list(store.keys()), lambda: store.has(key)):
        said = refusal(use)
        assert pytest.raises(UserError, match=words).matches(UserError(said))
        assert secret not in said
        assert "guessed" not in said
    assert bucket.objects() == {}
    assert not list((tmp_path / "cache").glob("*/manifest.json"))


def test_a_bucket_that_does_not_exist_is_named(bucket: Bucket, policy: Path) -> None:
    store, key = open_store("s3://not-there/prefix"), manifest_of(policy).digest
    for use in (
        lambda: store.put(policy),
        lambda: store.get(key),
        lambda: store.has(key),
        lambda: list(store.keys()),
        lambda: store.size(key),
        lambda: store.delete(key),
    ):
        assert "There is no bucket 'not-there' at http://127" in refusal(use)


def test_a_deleted_artifact_is_gone_with_all_that_was_left(bucket: Bucket, policy: Path) -> None:
    store, key = open_store(bucket.uri), manifest_of(policy).digest
    bucket.proxy.faults.append(Fault("answer", "PUT", "partNumber", skip=12, times=ALWAYS))
    refusal(lambda: store.put(policy))
    assert bucket.uploads()
    bucket.proxy.forget()
    store.delete(key)
    assert bucket.uploads() == []
    assert bucket.objects(key) == {}
    store.put(policy)
    store.delete(key)
    first = [exchange.path for exchange in bucket.proxy.exchanges if exchange.method == "DELETE"]
    assert first[-5].endswith("manifest.json")
    assert not store.has(key)
    assert bucket.objects(key) == {}


def started(bucket: Bucket, verb: str, what: object) -> Forked:
    """A process that uses the store."""
    return Forked("-c", PROGRAM, bucket.uri, verb, str(what))


def killed_after(bucket: Bucket, process: Forked, passed: int) -> None:
    """Kill a process once that many bytes have passed."""
    while bucket.proxy.passed < passed and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_writer_killed_on_the_way_leaves_nothing_visible_and_the_next_continues(
    bucket: Bucket, policy: Path, share: float
) -> None:
    bucket.proxy.bytes_per_s = 4e6
    killed_after(bucket, started(bucket, "put", policy), int(share * total(policy)))
    assert nothing_is_visible(bucket, policy)
    assert completes(bucket, policy) < (1 - share) * total(policy) + 10 * PART


def test_a_reader_killed_on_the_way_leaves_nothing_visible_and_the_next_continues(
    bucket: Bucket, policy: Path, tmp_path: Path
) -> None:
    uri = open_store(bucket.uri).put(policy)
    bucket.proxy.forget()
    bucket.proxy.bytes_per_s = 4e6
    killed_after(bucket, started(bucket, "get", uri), total(policy) // 2)
    assert not list((tmp_path / "cache").glob("*/manifest.json"))
    bucket.proxy.forget()
    assert contents(open_store(bucket.uri).get(uri)) == contents(policy)
    assert bucket.proxy.received() < total(policy) // 2 + 10 * PART


def test_two_processes_put_one_artifact_at_once(bucket: Bucket, policy: Path) -> None:
    bucket.proxy.bytes_per_s = 8e6
    writers = [started(bucket, "put", policy) for _ in range(2)]
    said = [writer.communicate(timeout=60) for writer in writers]
    assert {out.strip() for out, _ in said} == {f"{bucket.uri}/{manifest_of(policy).digest}"}, said
    bucket.proxy.forget()
    assert list(open_store(bucket.uri).keys()) == [manifest_of(policy).digest]
    assert completes(bucket, policy) == 0


def test_two_processes_get_one_artifact_at_once_and_fetch_it_once(bucket: Bucket, policy: Path) -> None:
    uri = open_store(bucket.uri).put(policy)
    bucket.proxy.forget()
    bucket.proxy.bytes_per_s = 8e6
    readers = [started(bucket, "get", uri) for _ in range(2)]
    places = {reader.communicate(timeout=60)[0].strip() for reader in readers}
    assert len(places) == 1
    assert contents(Path(places.pop())) == contents(policy)
    assert bucket.proxy.received() < 1.2 * total(policy)


def test_a_writer_who_comes_second_changes_nothing(bucket: Bucket, policy: Path) -> None:
    key = manifest_of(policy).digest
    other = b'{"of": "another writer"}'

    def come_first() -> None:
        while not bucket.proxy.passed:
            time.sleep(0.001)
        bucket.client.put_object(Bucket=bucket.name, Key=f"loops/one/{key}/manifest.json", Body=other)

    first = threading.Thread(target=come_first)
    bucket.proxy.bytes_per_s = 8e6
    first.start()
    open_store(bucket.uri).put(policy)
    first.join()
    found = bucket.client.get_object(Bucket=bucket.name, Key=f"loops/one/{key}/manifest.json")
    assert found["Body"].read() == other


def test_mlflow_downloads_an_artifact(
    bucket: Bucket, policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri = open_store(bucket.uri).put(policy)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", bucket.proxy.endpoint)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    mlflow = importlib.import_module("mlflow.artifacts")
    found = mlflow.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path / "downloaded"))
    assert contents(Path(found)) == contents(policy)
    assert contents(open_store(bucket.uri).get(uri)) == contents(policy)
