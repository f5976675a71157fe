"""The source of a user's own code: the files that a module is made of, and one digest over them.

The files are found from the source: a module, and what it imports, anywhere in it, of the modules beside it, which are
those of its folder and of its top-level package. A package counts as a whole. Neither the standard library nor selfloop
nor another distribution that is installed counts.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from selfloop.errors import UserError

OURS = "selfloop"
INSTALLED = ("site-packages", "dist-packages")
SETTLED_NS = 2 * 10**9
"""Age from which on a file's times and size say that it is the same: the clocks of disks are coarse."""


class Source(NamedTuple):
    """A file: its SHA-256, in hex, and the names that it imports; a leading dot for each package that it goes up."""

    digest: str
    imports: frozenset[str]


def is_users(module: str) -> bool:
    """Whether a module of this name is neither selfloop's nor the standard library's."""
    top = module.partition(".")[0]
    return top != OURS and top not in sys.stdlib_module_names


def source_digest(module: ModuleType) -> str:
    """SHA-256 over the sources of a module and of the modules beside it that it imports, wherever they lie.

    Raises ``UserError`` for a module that is in no file, and for a file that has changed since it was imported here.
    """
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        raise UserError(f"'{module.__name__}' is in no file, so nobody could tell whether it changed: put it into one.")
    return _digest(module.__name__, Path(os.path.abspath(file)))


def digest_of_name(module: str) -> str | None:
    """The same of a module by its name, or by the path of its file; it need not be imported. None where there is none
    that is a user's.
    """
    if module.endswith(".py"):
        path = Path(os.path.abspath(module))
        return _digest(path.stem, path) if path.is_file() else None
    if not is_users(module):
        return None
    loaded = sys.modules.get(module)
    if loaded is not None:
        is_folder = getattr(loaded, "__file__", None) is None and hasattr(loaded, "__path__")
        return None if is_folder else source_digest(loaded)
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    file = Path(os.path.abspath(spec.origin)) if spec and spec.origin else None
    return _digest(module, file) if file and file.is_file() else None


def note(module: ModuleType) -> None:
    """Remember the sources of a user's module, which was imported just now."""
    if is_users(module.__name__):
        with suppress(UserError):  # said when its digest is asked for
            source_digest(module)


def _digest(name: str, path: Path) -> str:
    folder, whole = _folder(name, path), hashlib.sha256()
    for file in files_of(folder, path):
        whole.update(f"{file.relative_to(folder).as_posix()}\0{_as_imported(folder, file)}\n".encode())
    return whole.hexdigest()


def _folder(name: str, path: Path) -> Path:
    """The folder that a module's top-level name is looked for in."""
    parts = name.split(".")
    depth = len(parts) if path.name == "__init__.py" else len(parts) - 1
    named = (
        path.parts[-len(parts) - 1 : -1] if path.name == "__init__.py" else (*path.parts[-len(parts) : -1], path.stem)
    )
    return path.parents[depth] if list(named) == parts else path.parent


def files_of(folder: Path, first: Path) -> list[Path]:
    """The files that the module in the file ``first`` is made of; top-level names are looked for in ``folder``."""
    top = first.relative_to(folder).parts[0].removesuffix(".py")
    found, new = set[Path](), {first}
    while new:
        packages = {folder / file.relative_to(folder).parts[0] for file in new}
        new |= {file for package in packages for file in _modules(package)} - found
        found |= new
        names = {name for file in new for name in _absolute(folder, file) if _is_beside(folder, top, name)}
        new = {file for name in names for file in _named(folder, name)} - found
    return sorted(found)


def _absolute(folder: Path, file: Path) -> Iterator[str]:
    """The names that a file imports, from the top."""
    package = file.relative_to(folder).parts[:-1]
    for name in source(file).imports:
        dots = len(name) - len(name.lstrip("."))
        above = package[: max(0, len(package) - dots + 1)] if dots else ()
        yield ".".join([*above, name[dots:]])


def _is_beside(folder: Path, top: str, name: str) -> bool:
    """Whether a name that is imported is one of the user's, where the folder may be one that all is installed in."""
    if not is_users(name):
        return False
    return folder.name not in INSTALLED or name.partition(".")[0] in _installed_with(top)


@cache
def _installed_with(top: str) -> frozenset[str]:
    """The top-level names that came in the distribution of this one."""
    known = packages_distributions()
    mine = set(known.get(top, ()))
    return frozenset({top, *(name for name, holders in known.items() if mine & set(holders))})


def _named(folder: Path, name: str) -> Iterator[Path]:
    """The files that are read when ``a.b.c`` is imported: of ``a``, of ``a.b``, and of ``a.b.c`` if it is a module."""
    place = folder
    for part in name.split("."):
        place /= part
        yield from (file for file in (place.with_name(f"{part}.py"), place / "__init__.py") if file.is_file())


def _modules(package: Path) -> Iterator[Path]:
    """All modules of a package; none of a folder without an ``__init__.py``, which is more than one package."""
    if (package / "__init__.py").is_file():
        for path in package.iterdir():
            if path.is_dir():
                yield from _modules(path)
            elif path.suffix == ".py":
                yield path


def source(file: Path) -> Source:
    """A file and what it imports. Read anew where it may have changed."""
    unchanged = signature(file)
    return _read(file) if unchanged is None else _known(file, unchanged)


def signature(file: Path) -> tuple[int, ...] | None:
    """What stays the same while a file does, within a process; none of a file that was written just now."""
    found = file.stat()
    is_settled = time.time_ns() - found.st_ctime_ns > SETTLED_NS
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if is_settled else None


@lru_cache(maxsize=65536)
def _known(file: Path, _: tuple[int, ...]) -> Source:
    return _read(file)


def _read(file: Path) -> Source:
    content = file.read_bytes()
    imports = frozenset(_imports(content)) if file.suffix == ".py" else frozenset[str]()
    return Source(hashlib.sha256(content).hexdigest(), imports)


def _imports(content: bytes) -> Iterable[str]:
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return []  # Python says so where it is imported
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    members = [(node, alias.name) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return plain + ["." * node.level + ".".join(filter(None, (node.module, name))) for node, name in members]


_noted: dict[Path, tuple[Any, str]] = {}
"""What this process knows of a file: by which import it holds it, if any, and the digest that the file had."""


def _as_imported(folder: Path, file: Path) -> str:
    """The digest of a file, which is what this process holds of it where it imported it."""
    digest, module = source(file).digest, _imported_from(folder, file)
    before, noted = _noted.get(file, (None, digest))
    now = module and module.__spec__
    # what was not imported when it was noted may have been imported before or after it changed
    if module is not None and noted != digest and (before is now or before is None):
        raise UserError(
            f"{file} has changed since this process imported it: run the same command again, and what depends on it is "
            "made anew."
        )
    _noted[file] = (now, digest)
    return digest


def _imported_from(folder: Path, file: Path) -> ModuleType | None:
    """The module that this process imported from a file."""
    inner = file.relative_to(folder).with_suffix("").parts
    name = ".".join(inner[:-1] if inner[-1] == "__init__" else inner)
    for module in (sys.modules.get(name), sys.modules.get("__main__")):
        found = getattr(module, "__file__", None)
        if found is not None and os.path.abspath(found) == str(file):
            return module
    return None
