from pathlib import Path

import pytest
from kfp.dsl import Artifact
from selfloop.artifacts import check, hand_on, manifest_of, seal, sidecar_of, write_json
from selfloop.errors import UserError


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    place = tmp_path / "sealed"
    write_json(place, {"a": 1})
    write_json(place, {"seconds": 1.0}, "sidecar.json")
    (place / "deep").mkdir()
    (place / "deep" / "weights").write_bytes(b"0123")
    seal(place, "Artifact", stage="make")
    return place


def test_a_sealed_artifact_passes_its_check(sealed: Path) -> None:
    assert check(sealed).files.keys() == {"value.json", "deep/weights"}


@pytest.mark.parametrize("content", [b"0124", b"", b"01234"])
def test_an_altered_file_is_refused_by_name(sealed: Path, content: bytes) -> None:
    (sealed / "deep" / "weights").write_bytes(content)
    with pytest.raises(UserError, match="deep/weights was altered after it was sealed"):
        check(sealed)


def test_a_missing_file_is_refused_by_name(sealed: Path) -> None:
    (sealed / "deep" / "weights").unlink()
    with pytest.raises(UserError, match="deep/weights is missing although its manifest lists it"):
        check(sealed)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a finished artifact"):
        check(tmp_path)


def test_a_manifest_that_is_cut_off_is_refused(sealed: Path) -> None:
    manifest = sealed / "manifest.json"
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(UserError, match=r"manifest.json is not a manifest of selfloop"):
        check(sealed)


def test_times_are_beside_the_digest(sealed: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "other", {"a": 1})
    (tmp_path / "other" / "deep").mkdir()
    (tmp_path / "other" / "deep" / "weights").write_bytes(b"0123")
    assert seal(tmp_path / "other", "Artifact").digest == manifest_of(sealed).digest


def test_names_are_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("same")
        digests.add(seal(tmp_path / name, "Artifact").digest)
    assert len(digests) == 2


def test_what_is_handed_on_stays_the_same_artifact(sealed: Path, tmp_path: Path) -> None:
    target = Artifact(uri=str(tmp_path / "second"))
    hand_on(Artifact(uri=str(sealed)), target)
    assert check(target.path) == manifest_of(sealed)
    assert sidecar_of(target.path) == {"seconds": 1.0}
