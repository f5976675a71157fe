import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop.artifacts import MANIFEST, SIDECAR, check, file_digest, manifest_of, seal
from selfloop.errors import UserError
from selfloop.records import TABLE
from selfloop.store import Store, key_of, open_store
from selfloop.store import folders as store_folders
from selfloop.store.cache import Cache
from selfloop.store.contract import INDEXED_BYTES
from selfloop.store.directory import DirectoryStore
from selfloop.store.s3 import S3Store

WEIGHTS = os.urandom(INDEXED_BYTES + 1)

segments = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12)
names = st.lists(segments.filter(lambda name: name not in ("", ".", "..")), min_size=1, max_size=3).map("/".join)
folders = st.dictionaries(names, st.binary(max_size=64), min_size=1, max_size=6).filter(
    lambda files: (
        not any(a != b and b.startswith(f"{a}/") for a in files for b in files)
        and not any(part in (MANIFEST, SIDECAR, TABLE) for name in files for part in name.split("/"))
    )
)


def sealed(place: Path, files: dict[str, bytes]) -> Path:
    """A sealed artifact of these files."""
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    seal(place, "Model", stage="test")
    return place


def contents(place: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder for one example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return sealed(tmp_path / "policy", {"config.json": b"{}", "weights/model.safetensors": WEIGHTS, "empty": b""})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def entries(root: Path) -> set[str]:
    """What lies in a store."""
    return {path.name for path in root.iterdir()} if root.exists() else set()


def test_what_is_put_is_got_and_nothing_else_is_left(store: Store, policy: Path) -> None:
    (policy / "sidecar.json").write_text("{}")
    uri = store.put(policy)
    key = manifest_of(policy).digest
    assert uri == f"{store.uri}/{key}"
    assert contents(store.get(uri)) == contents(store.get(key)) == contents(policy)
    assert list(store.keys()) == [key]
    assert store.has(key)
    assert store.size(key) == sum(len(content) for content in contents(policy).values())
    assert entries(Path(store.uri)) == {key, "files"}


def test_putting_again_does_nothing(store: Store, policy: Path) -> None:
    uri = store.put(policy)
    before = (Path(uri) / "manifest.json").stat()
    assert store.put(policy) == store.put(store.get(uri)) == uri
    assert (Path(uri) / "manifest.json").stat() == before


def test_what_was_damaged_in_the_store_is_put_again(store: Store, policy: Path) -> None:
    place = Path(store.put(policy))
    damaged = place / "weights" / "model.safetensors"
    damaged.unlink()  # a name of the source's own file
    damaged.write_bytes(b"damaged")
    with pytest.raises(UserError, match="was altered after it was sealed: remove"):
        store.get(str(place))
    store.put(policy)
    assert contents(store.get(str(place))) == contents(policy)


def test_a_file_uri_is_a_directory(policy: Path, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/a%20store")
    uri = store.put(policy)
    assert contents(tmp_path / "a store" / uri.rpartition("/")[2]) == contents(store.get(f"file://{uri}"))


@settings(deadline=None, max_examples=50)
@given(folders)
def test_whatever_is_put_is_got(files: dict[str, bytes]) -> None:
    with folder() as root:
        source, store = sealed(root / "source", files), open_store(str(root / "store"))
        before = contents(source)
        key = key_of(manifest_of(source))
        assert key == manifest_of(source).digest
        assert contents(store.get(store.put(source))) == before
        store.delete(key)
        assert entries(root / "store") <= {"files"}
        assert contents(source) == before


@settings(deadline=None, max_examples=50)
@given(folders, st.data())
def test_whatever_is_missing_or_altered_is_refused_by_name(files: dict[str, bytes], data: st.DataObject) -> None:
    broken = data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, unique=True))
    with folder() as root:
        source, store = sealed(root / "source", files), open_store(str(root / "store"))
        uri = store.put(source)
        for place in (source, Path(uri)):
            for name in broken:
                (place / name).unlink()
                if data.draw(st.booleans()):
                    (place / name).write_bytes(files[name] + b"!")
        with pytest.raises(UserError) as refused:
            store.get(uri)
        assert any(str(Path(uri, name)) in str(refused.value) for name in broken)
        store.delete(key_of(manifest_of(source)))
        with pytest.raises(UserError) as refused:
            store.put(source)
        assert any(str(source / name) in str(refused.value) for name in broken)
        assert list(store.keys()) == []


@settings(deadline=None, max_examples=30)
@given(folders)
def test_a_key_is_that_of_the_files_in_any_order(files: dict[str, bytes]) -> None:
    with folder() as root:
        manifest = manifest_of(sealed(root / "source", files))
        turned = manifest.model_copy(update={"files": dict(reversed(manifest.files.items()))})
        assert key_of(turned) == key_of(manifest)


def test_a_manifest_of_other_files_is_refused(store: Store, policy: Path, tmp_path: Path) -> None:
    uri = store.put(policy)
    other = sealed(tmp_path / "other", {"config.json": b"[]"})
    shutil.copytree(other, uri, dirs_exist_ok=True, copy_function=replaced)
    with pytest.raises(UserError, match=r"manifest.json is not what was put there"):
        store.get(uri)


def told(place: Path, files: dict[str, str]) -> Path:
    """An artifact whose manifest says whatever one likes."""
    seal(place, "Model")
    about = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps(about | {"files": files}))
    return place


ASTRAY = [
    "../evil",
    "a/../../evil",
    "/evil",
    "a//evil",
    "./evil",
    "",
    ".",
    "..",
    "a/",
    "evil\0",
    MANIFEST,
    f"a/{SIDECAR}",
]


@pytest.mark.parametrize("name", ASTRAY)
def test_a_name_that_leads_elsewhere_is_no_file_of_an_artifact(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "made" / "a").mkdir(parents=True)
    (tmp_path / "evil").write_text("secret")
    digest = file_digest(tmp_path / "evil")
    place = told(tmp_path / "made", {name: digest})
    with pytest.raises(UserError, match=r"manifest\.json is not a manifest of selfloop"):
        store.put(place)
    with pytest.raises(UserError, match=r"manifest\.json is not a manifest of selfloop"):
        check(place)
    key = hashlib.sha256(f"{name}\0{digest}\n".encode()).hexdigest()
    shutil.copytree(place, Path(store.uri) / key)
    with pytest.raises(UserError, match=r"manifest\.json is not a manifest of selfloop"):
        store.get(key)


@pytest.mark.parametrize("digest", ["", "../../evil", "0" * 63, "G" * 64, f"{'0' * 64}\n"])
def test_a_digest_that_is_none_is_refused_too(store: Store, tmp_path: Path, digest: str) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(UserError, match="is not a manifest of selfloop"):
        store.put(told(tmp_path / "made", {"a": digest}))


@pytest.mark.parametrize("name", ["../evil", "/evil", ".evil", "a/b", "", "a\nb"])
def test_a_note_lies_among_the_notes(store: Store, name: str) -> None:
    with pytest.raises(UserError, match=r"A note of .* cannot be called"):
        store.note(name, "text")
    with pytest.raises(UserError, match=r"A note of .* cannot be called"):
        store.noted(name)


@pytest.mark.parametrize("target", ["evil", "/etc/passwd", "../evil", "folder"])
def test_a_link_that_leads_out_is_sealed_put_and_fetched_nowhere(store: Store, tmp_path: Path, target: str) -> None:
    (tmp_path / "evil").write_text("secret")
    (tmp_path / "folder").mkdir()
    place = sealed(tmp_path / "made", {"a": b"secret", "sidecar.json": b"{}"})
    with folder() as root:
        shutil.copytree(place, root / "again")
        (root / "again" / "b").symlink_to(tmp_path / target)
        with pytest.raises(UserError, match="leads out of"):
            seal(root / "again", "Model")
    for name in ("a", "sidecar.json"):
        copy = shutil.copytree(place, tmp_path / f"copy-{name}")
        (copy / name).unlink()
        (copy / name).symlink_to(tmp_path / "evil")
        with pytest.raises(UserError, match="leads out of"):
            store.put(copy)
    assert list(store.keys()) == []


def test_devices_and_files_that_run_as_their_owner_are_no_part_of_an_artifact(tmp_path: Path) -> None:
    makes: dict[str, Callable[[Path], object]] = {
        "a pipe": os.mkfifo,
        "a ring": lambda path: path.symlink_to(path),
        "its owner's": partial(os.mknod, mode=stat.S_IFREG | 0o4755),
    }
    for name, make in makes.items():
        (place := tmp_path / name).mkdir()
        make(place / "x")
        with pytest.raises(UserError, match=r"is no file but a link, a pipe or a device|chmod a-s"):
            seal(place, "Model")


def test_a_manifest_of_another_digest_than_its_files_have_is_refused(policy: Path) -> None:
    about = json.loads((policy / MANIFEST).read_text())
    (policy / MANIFEST).write_text(json.dumps(about | {"digest": "0" * 64}))
    with pytest.raises(UserError, match=r"is not what its manifest\.json says"):
        check(policy)


def test_what_lies_in_the_cache_under_a_key_is_compared_with_the_key(policy: Path, tmp_path: Path) -> None:
    other = sealed(tmp_path / "other", {"config.json": b"[]"})
    cache, key = Cache(tmp_path / "cache"), key_of(manifest_of(policy))
    shutil.copytree(other, tmp_path / "cache" / key)

    def fetch(place: Path) -> None:
        shutil.copytree(policy, place, dirs_exist_ok=True)

    assert contents(cache.get(key, fetch)) == contents(policy)


def replaced(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    shutil.copyfile(source, target)


def test_files_are_hard_links_to_their_source(store: Store, policy: Path) -> None:
    assert Path(store.put(policy), "weights/model.safetensors").samefile(policy / "weights/model.safetensors")


@pytest.fixture
def _other_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = os.link

    def linked(source: Path, target: Path) -> None:
        if not source.is_relative_to(tmp_path / "store"):
            raise OSError(18, "Invalid cross-device link")
        link(source, target)

    monkeypatch.setattr(os, "link", linked)


@pytest.mark.usefixtures("_other_file_system")
def test_files_with_the_same_bytes_are_kept_once(store: Store, policy: Path, tmp_path: Path) -> None:
    first = Path(store.put(policy))
    next_one = sealed(tmp_path / "next", {"config.json": b"[]", "model-2.safetensors": WEIGHTS})
    second = Path(store.put(next_one))
    assert (second / "model-2.safetensors").samefile(first / "weights/model.safetensors")
    assert not (second / "model-2.safetensors").samefile(next_one / "model-2.safetensors")
    store.delete(first.name)
    assert contents(store.get(second.name)) == contents(next_one)
    assert contents(store.get(store.put(policy))) == contents(policy)


@pytest.mark.usefixtures("_other_file_system")
def test_a_spoilt_file_of_the_store_is_not_used_again(store: Store, policy: Path, tmp_path: Path) -> None:
    first = Path(store.put(policy))
    (first / "weights/model.safetensors").write_bytes(WEIGHTS[:-1] + b"?")
    second = store.put(sealed(tmp_path / "next", {"config.json": b"[]", "model.safetensors": WEIGHTS}))
    assert Path(store.get(second), "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["../outside", "/tmp", "manifest.json", "0" * 63, "s3://elsewhere/" + "0" * 64])
def test_what_is_no_key_is_refused(store: Store, name: str) -> None:
    for use in (store.get, store.has, store.size, store.delete):
        with pytest.raises(UserError, match="is not an artifact of"):
            use(name)


def test_what_is_not_there_is_refused_by_name(store: Store) -> None:
    for use in (store.get, store.size):
        with pytest.raises(UserError, match=rf"There is no artifact .*/{'0' * 64}"):
            use("0" * 64)
    assert not store.has("0" * 64)
    assert list(store.keys()) == []
    store.delete("0" * 64)
    assert not Path(store.uri).exists()


def test_a_folder_that_is_not_sealed_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a finished artifact"):
        store.put(tmp_path)


@pytest.mark.parametrize("uri", ["gs://bucket/prefix", "http://host/bucket", "://bucket", "s3:bucket", "s3:/bucket"])
def test_other_places_are_refused(uri: str) -> None:
    with pytest.raises(UserError, match="is no place for artifacts"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["s3:///prefix", "s3://no bucket/prefix"])
def test_a_uri_without_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="names no bucket"):
        open_store(uri)


def test_a_place_that_cannot_be_written_is_refused(policy: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        open_store(str(policy / "config.json" / "store")).put(policy)


def test_a_full_disk_is_said_in_a_sentence_and_the_next_put_completes(
    store: Store, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", full)
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(UserError, match=r"disk that holds .* is full"):
            store.put(policy)
        assert list(store.keys()) == []
    assert contents(store.get(store.put(policy))) == contents(policy)


def test_many_writers_at_once_put_one_artifact(store: Store, policy: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = [DirectoryStore(Path(store.uri)) for _ in range(8)]
        uris = {future.result() for future in [pool.submit(one.put, policy) for one in stores]}
    assert len(uris) == 1
    assert contents(store.get(uris.pop())) == contents(policy)
    assert len(entries(Path(store.uri))) == 2


def forked(work: Callable[[], object], events: int) -> bool:
    """Do some work in a child process that is killed at one of its file operations. Returns whether it was."""
    child = os.fork()
    if not child:
        counted = 0

        def count(event: str, _: object) -> None:
            nonlocal counted
            known = event in ("os.link", "os.rename", "os.mkdir", "os.remove", "open", "shutil.copyfile")
            counted += known
            if known and counted > events:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_writer_killed_at_any_point_leaves_nothing_half_visible(policy: Path, tmp_path: Path) -> None:
    points, killed = 0, True
    while killed:
        store = open_store(str(tmp_path / f"store-{points}"))
        killed = forked(lambda store=store: store.put(policy), points)  # type: ignore[misc]
        for key in list(store.keys()):
            assert contents(store.get(key)) == contents(policy)
        assert contents(store.get(store.put(policy))) == contents(policy)
        assert not [name for name in entries(Path(store.uri)) if name.endswith((".partial", ".lock"))]
        points += 1
    assert points > 10


def fetching(source: Path) -> Callable[[Path], None]:
    """What fills a cache with an artifact."""

    def fetch(place: Path) -> None:
        shutil.copytree(source, place, dirs_exist_ok=True)

    return fetch


@pytest.fixture
def three(tmp_path: Path) -> dict[str, Path]:
    """Artifacts of about 10 KB each, by key."""
    made = [sealed(tmp_path / name, {"weights": name.encode() * 10_000}) for name in "abc"]
    return {manifest_of(place).digest: place for place in made}


def cached(cache: Cache) -> set[str]:
    return {path.parent.name for path in cache.place.glob("*/manifest.json")}


def test_the_cache_drops_what_was_last_got_longest_ago(three: dict[str, Path], tmp_path: Path) -> None:
    a, b, c = three
    cache = Cache(tmp_path / "cache", 25_000)
    for key in (a, b, a):
        cache.get(key, fetching(three[key]))
        cache.close()
    cache.get(c, fetching(three[c]))
    assert cached(cache) == {a, c}


def test_the_cache_never_drops_what_is_held(three: dict[str, Path], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1)
    places = [cache.get(key, fetching(place)) for key, place in three.items()]
    assert cached(cache) == three.keys()
    cache.close()
    cache.make_room(0, "0" * 64)
    assert cached(cache) == set()
    assert not any(map(Path.exists, places))


HOLD = """
import sys
from pathlib import Path
from selfloop.store.cache import Cache
Cache(Path(sys.argv[1]), 1).get(sys.argv[2], lambda place: None)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_cache_never_drops_what_another_process_holds(three: dict[str, Path], tmp_path: Path) -> None:
    a, b, _ = three
    cache = Cache(tmp_path / "cache", 1)
    cache.get(a, fetching(three[a]))
    command = [sys.executable, "-c", HOLD, str(cache.place), a]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        cache.close()
        cache.get(b, fetching(three[b]))
        assert cached(cache) == {a, b}
        other.kill()
    cache.make_room(0, b)
    assert cached(cache) == {b}


def test_an_artifact_that_was_altered_in_the_cache_is_fetched_anew(three: dict[str, Path], tmp_path: Path) -> None:
    a = next(iter(three))
    cache = Cache(tmp_path / "cache")
    place = cache.get(a, fetching(three[a]))
    cache.close()
    (place / "weights").write_text("altered")
    assert contents(cache.get(a, fetching(three[a]))) == contents(three[a])


def test_an_artifact_that_was_altered_while_another_holds_it_is_refused(three: dict[str, Path], tmp_path: Path) -> None:
    a = next(iter(three))
    holding, other = Cache(tmp_path / "cache"), Cache(tmp_path / "cache")
    place = holding.get(a, fetching(three[a]))
    (place / "weights").write_text("altered")
    with pytest.raises(UserError, match="weights was altered"):
        other.get(a, fetching(three[a]))


def test_an_artifact_is_fetched_once_by_many(three: dict[str, Path], tmp_path: Path) -> None:
    a = next(iter(three))
    fetched, together = [], threading.Barrier(6)

    def get() -> Path:
        def fetch(place: Path) -> None:
            fetched.append(place)
            fetching(three[a])(place)

        together.wait()
        return Cache(tmp_path / "cache").get(a, fetch)

    with ThreadPoolExecutor(6) as pool:
        places = {future.result() for future in [pool.submit(get) for _ in range(6)]}
    assert len(fetched) == len(places) == 1
    assert contents(places.pop()) == contents(three[a])


def test_who_comes_to_fetch_what_another_has_just_got_does_not_wait_for_it(
    three: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = next(iter(three))
    holding = Cache(tmp_path / "cache")
    place = holding.get(a, fetching(three[a]))
    looks = iter([False])  # it was not there yet when the other one looked
    is_whole = store_folders.is_whole
    monkeypatch.setattr(store_folders, "is_whole", lambda root, key: next(looks, True) and is_whole(root, key))
    got: list[Path] = []
    other = threading.Thread(
        target=lambda: got.append(Cache(tmp_path / "cache").get(a, fetching(three[a]))), daemon=True
    )
    other.start()
    other.join(timeout=60)
    assert got == [place]


def test_a_fetch_that_failed_leaves_nothing_visible_and_can_continue(three: dict[str, Path], tmp_path: Path) -> None:
    a = next(iter(three))
    cache = Cache(tmp_path / "cache")

    def fail(place: Path) -> None:
        (place / "half").touch()
        raise UserError("broken off")

    def resume(place: Path) -> None:
        (place / "half").unlink()
        fetching(three[a])(place)

    with pytest.raises(UserError, match="broken off"):
        cache.get(a, fail)
    assert cached(cache) == set()
    assert contents(cache.get(a, resume)) == contents(three[a])


def test_the_environment_says_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SELFLOOP_CACHE", "SELFLOOP_CACHE_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.of_machine().place == tmp_path / "selfloop"
    assert Cache.of_machine().limit_bytes == 50_000_000_000
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "there"))
    monkeypatch.setenv("SELFLOOP_CACHE_BYTES", "12")
    assert Cache.of_machine().place == tmp_path / "there"
    assert Cache.of_machine().limit_bytes == 12
    monkeypatch.setenv("SELFLOOP_CACHE_BYTES", "12 GB")
    with pytest.raises(UserError, match="SELFLOOP_CACHE_BYTES is '12 GB'"):
        Cache.of_machine()


@pytest.mark.parametrize(
    "address", ["host:9000", "ftp://host", "http://", "http://someone:hidden@host", "http://h/path"]
)
def test_an_address_that_is_none_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL_S3 is no address of a server") as refused:
        S3Store("s3://bucket/prefix")
    assert "hidden" not in str(refused.value)
