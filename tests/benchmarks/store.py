"""Artifacts on S3: how fast they go up and come down, and how many bytes a second round sends.

The server is the tests' own Ceph, in memory, on the same machine; so its work and the client's share the processor. The
artifact is like a model: shards of random bytes, and a few small files. boto3 sends and fetches file by file, each of
them in parallel parts, with its defaults; it does not verify what it fetched, this store does. Both begin with fresh
bytes and an empty bucket at each repeat, and take turns. For the second round one of twenty shards is new, and what
passes a counting proxy is counted.

Targets: at least the speed of boto3, both ways; about 5 % of the bytes where 5 % changed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from measuring import console, in_turns, publish, ratios, seconds, show, spread, wants_small
from selfloop.artifacts import manifest_of, seal
from selfloop.store import open_store

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults import proxied
from tests.s3 import Server, serving

MIB = 1024**2
SHARDS, CHANGING_SHARDS = 10, 20
REPEATS = 7
CAPACITY_BYTES = 4 * 1024**3
COLLECTED_AFTER_S = 4


class Took(NamedTuple):
    """Seconds of an upload and of a download."""

    up: float
    down: float


def model(place: Path, shards: int, shard_bytes: int) -> Path:
    """A sealed artifact like a model, of fresh bytes."""
    place.mkdir()
    for number in range(shards):
        (place / f"model-{number + 1:05}-of-{shards:05}.safetensors").write_bytes(os.urandom(shard_bytes))
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        (place / name).write_text("{}")
    seal(place, "Model", stage="benchmark")
    return place


@contextmanager
def bucket(client: Any) -> Iterator[str]:
    """An empty bucket, whose bytes are free again some seconds after the block."""
    name = f"models-{time.time_ns()}"
    client.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        for found in client.list_objects_v2(Bucket=name).get("Contents", []):
            client.delete_object(Bucket=name, Key=found["Key"])
        client.delete_bucket(Bucket=name)
        time.sleep(COLLECTED_AFTER_S)


def ours(client: Any, shard_bytes: int) -> Took:
    """A store: verified, manifest last."""
    with tempfile.TemporaryDirectory() as folder, bucket(client) as name:
        source = model(Path(folder, "model"), SHARDS, shard_bytes)
        os.environ["SELFLOOP_CACHE"] = str(Path(folder, "cache"))
        uri = f"s3://{name}/loops"
        up = seconds(lambda: open_store(uri).put(source))
        with open_store(uri) as store:
            down = seconds(lambda: store.get(manifest_of(source).digest))
        return Took(up, down)


def boto(client: Any, shard_bytes: int) -> Took:
    """boto3's defaults: ``upload_file`` and ``download_file``, file by file."""
    with tempfile.TemporaryDirectory() as folder, bucket(client) as name:
        source, target = model(Path(folder, "model"), SHARDS, shard_bytes), Path(folder, "target")
        target.mkdir()
        names = sorted(path.name for path in source.iterdir())
        up = seconds(lambda: [client.upload_file(str(source / file), name, file) for file in names])
        down = seconds(lambda: [client.download_file(name, file, str(target / file)) for file in names])
        return Took(up, down)


def second_round(server: Server, client: Any, shard_bytes: int) -> dict[str, float]:
    """Bytes that a first round sends, and a second one of which one shard of twenty is new."""
    before = os.environ["AWS_ENDPOINT_URL_S3"]
    with tempfile.TemporaryDirectory() as folder, bucket(client) as name, proxied(server.port) as proxy:
        os.environ["AWS_ENDPOINT_URL_S3"] = proxy.endpoint
        source = model(Path(folder, "model"), CHANGING_SHARDS, shard_bytes)
        store = open_store(f"s3://{name}/loops")
        store.put(source)
        first = proxy.sent()
        proxy.forget()
        (source / "manifest.json").unlink()
        next(source.glob("*-00007-*")).write_bytes(os.urandom(shard_bytes))
        seal(source, "Model", stage="benchmark")
        store.put(source)
        os.environ["AWS_ENDPOINT_URL_S3"] = before
        return {"first": first, "second": proxy.sent(), "share": proxy.sent() / first}


def main() -> None:
    """Measure, print, write."""
    small = wants_small(__doc__)
    shard_bytes, repeats = (4 * MIB, 2) if small else (30 * MIB, REPEATS)
    size_mb = SHARDS * shard_bytes / 1e6
    with tempfile.TemporaryDirectory() as root, serving(Path(root), CAPACITY_BYTES) as server:
        user = server.user("benchmark")
        os.environ |= user.environment(server.endpoint)
        client = server.client(user)
        arms = {"selfloop": partial(ours, client, shard_bytes), "boto3": partial(boto, client, shard_bytes)}
        for warm_up in arms.values():
            warm_up()
        took = in_turns(arms, repeats)
        sent = second_round(server, client, shard_bytes // 4)
    ways = {way: {name: [getattr(one, way) for one in found] for name, found in took.items()} for way in ("up", "down")}
    faster = {way: ratios(found["boto3"], found["selfloop"]) for way, found in ways.items()}
    rates = {
        way: {name: spread(size_mb / one for one in times) for name, times in found.items()}
        for way, found in ways.items()
    }
    show(
        f"{SHARDS} shards, {size_mb:,.0f} MB, median of {repeats} (lowest–highest)",
        ["way", "selfloop MB/s", "boto3 MB/s", "selfloop is faster by"],
        [(way, rate["selfloop"], rate["boto3"], faster[way]) for way, rate in rates.items()],
    )
    console.print(
        f"\nA second round, one shard of {CHANGING_SHARDS} new: {sent['share']:.2%} of the bytes of the first."
    )
    numbers = {
        "bytes": SHARDS * shard_bytes,
        "mb_per_second": {way: {name: r._asdict() for name, r in rate.items()} for way, rate in rates.items()},
        "faster_than_boto3": {way: ratio._asdict() for way, ratio in faster.items()},
        "second_round_bytes": sent,
    }
    publish("store", small, numbers)


if __name__ == "__main__":
    main()
