"""Which files a user's module is made of, and when their digest is another one."""

import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.errors import UserError
from selfloop.sources import digest_of_name, files_of, is_users, note, source_digest

NAMES = ["one", "two", "three", "pack.a", "pack.b", "room.c", "room.deep.d"]
"""Modules of a folder, of a package, and of a folder of modules that has no ``__init__.py``."""
SPELLINGS = [
    "import {name}",
    "import {name} as other",
    "from {name} import *",
    "from {name} import value",
    "def late():\n    from {above} import {last}",
    "try:\n    import {name}\nexcept ImportError:\n    pass",
    "class Lazy:\n    def work(self):\n        import {name}, json",
]
links = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(SPELLINGS))


def _file(folder: Path, name: str) -> Path:
    return folder.joinpath(*name.split(".")).with_suffix(".py")


def _spelt(spelling: str, name: str) -> str:
    above, _, last = name.rpartition(".")
    return (
        spelling.format(name=name, above=above, last=last) if above or "{above}" not in spelling else f"import {name}"
    )


def _write(folder: Path, graph: list[tuple[str, str, str]]) -> None:
    for name in NAMES:
        lines = ["import os", *(_spelt(spelling, to) for begin, to, spelling in graph if begin == name)]
        _file(folder, name).parent.mkdir(parents=True, exist_ok=True)
        _file(folder, name).write_text("\n".join(lines))
    (folder / "pack" / "__init__.py").touch()


def _reached(graph: list[tuple[str, str, str]], first: str) -> set[str]:
    """What the graph says, in another way: the least set that is closed under imports, packages whole."""
    found: set[str] = {first}
    while True:
        more = found | {to for begin, to, _ in graph if begin in found}
        more |= {name for name in [*NAMES, "pack.__init__"] if name.startswith("pack.") and "pack" in str(more)}
        if more == found:
            return found
        found = more


@given(st.lists(links, max_size=8), st.sampled_from(NAMES))
def test_a_module_is_made_of_what_it_imports_from_beside_it(graph: list[tuple[str, str, str]], first: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        _write(Path(place), graph)
        found = {path.relative_to(place).as_posix() for path in files_of(Path(place), _file(Path(place), first))}
        assert found == {_file(Path(), name).as_posix() for name in _reached(graph, first)}


@given(st.lists(links, max_size=8), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_the_digest_is_another_one_where_and_only_where_one_of_these_files_is(
    graph: list[tuple[str, str, str]], first: str, changed: str
) -> None:
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        _write(Path(here), graph)
        _write(Path(there), graph)
        before = digest_of_name(str(_file(Path(here), first)))
        assert digest_of_name(str(_file(Path(there), first))) == before
        with _file(Path(here), changed).open("a") as file:
            file.write("\nvalue = 1")
        files = files_of(_file(Path(here), first).parent, _file(Path(here), first))
        after = digest_of_name(str(_file(Path(here), first)))
        assert (after != before) == (_file(Path(here), changed) in files)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _imported(folder: Path, name: str, **texts: str) -> ModuleType:
    for module, text in texts.items():
        _file(folder, module.replace("__", ".")).parent.mkdir(exist_ok=True)
        _file(folder, module.replace("__", ".")).write_text(text)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_relative_imports_lead_out_of_a_folder(folder: Path) -> None:
    (folder / "outer" / "inner").mkdir(parents=True)
    (folder / "outer" / "inner" / "mine.py").write_text(
        "from ..helper import x\nfrom . import near\nfrom .... import far"
    )
    (folder / "outer" / "inner" / "near.py").touch()
    (folder / "outer" / "helper.py").write_text("x = 1")
    found = files_of(folder, folder / "outer" / "inner" / "mine.py")
    assert [path.name for path in found] == ["helper.py", "mine.py", "near.py"]


def test_the_standard_library_and_selfloop_are_not_the_users(folder: Path) -> None:
    (folder / "json.py").write_text("broken(")
    (folder / "selfloop").mkdir()
    (folder / "selfloop" / "gate.py").touch()
    (folder / "mine.py").write_text("import json, selfloop.gate, torch")
    assert files_of(folder, folder / "mine.py") == [folder / "mine.py"]
    assert not is_users("json.decoder")
    assert not is_users("selfloop.gate")
    assert is_users("selfloop_recipes.sec")


def test_what_lies_beside_an_installed_module_is_another_distribution(folder: Path) -> None:
    installed = folder / "site-packages"
    installed.mkdir()
    (installed / "mine.py").write_text("import other")
    (installed / "other.py").touch()
    assert files_of(installed, installed / "mine.py") == [installed / "mine.py"]


def test_a_module_that_is_no_python_is_said_where_it_is_imported(folder: Path) -> None:
    (folder / "broken.py").write_text("def (")
    assert digest_of_name("broken") is not None


def test_a_digest_is_the_same_by_name_by_path_and_of_the_module_in_any_folder(folder: Path) -> None:
    module = _imported(folder, "alike", alike="import alike_beside", alike_beside="x = 1")
    (folder / "copy").mkdir()
    for name in ("alike.py", "alike_beside.py"):
        shutil.copy(folder / name, folder / "copy" / name)
    paths = (folder / "alike.py", folder / "copy" / "alike.py")
    assert {source_digest(module), digest_of_name("alike"), *map(digest_of_name, map(str, paths))} == {
        source_digest(module)
    }


def test_a_name_that_is_no_module_of_the_users_has_no_digest(folder: Path) -> None:
    for name in ("nowhere", "no.where", "json", "selfloop.gate", "nowhere.py", "..", "os.path"):
        assert digest_of_name(name) is None
    _imported(folder, "rooms.one", rooms__one="x = 1")
    assert digest_of_name("rooms") is None


def test_a_module_in_no_file_is_refused() -> None:
    with pytest.raises(UserError, match="'made_up' is in no file"):
        source_digest(ModuleType("made_up"))


def test_a_file_that_changed_since_it_was_imported_is_refused_by_name(folder: Path) -> None:
    module = _imported(folder, "edited", edited="import edited_beside", edited_beside="x = 1")
    note(module)
    (folder / "edited_beside.py").write_text("x = 2")
    with pytest.raises(UserError, match=r"edited_beside\.py has changed since this process imported it"):
        source_digest(module)
    importlib.reload(sys.modules["edited_beside"])
    source_digest(module)


def test_a_file_that_is_not_imported_yet_may_change(folder: Path) -> None:
    (folder / "later.py").write_text("x = 1")
    before = digest_of_name("later")
    (folder / "later.py").write_text("x = 2")
    assert digest_of_name("later") != before
