"""Imports go one way, those in the bodies of functions too: cli, runs, modes, recipes, loop, stages, records."""

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = (ROOT / "components", ROOT / "pipelines")
STAGES = ("propose", "generate", "verify", "filter", "finetune", "evaluate", "promote", "report", "fetch")
ABOVE_MODES = ("selfloop.cli", "selfloop.runs", "selfloop.pipelines")
KNOW_LOOPS = (*ABOVE_MODES, "selfloop.modes", "selfloop.loop", "selfloop.recipe", "selfloop_recipes")
ABOVE = {
    "selfloop.records": ("selfloop.stages", "selfloop.settings", *KNOW_LOOPS),
    "selfloop.stages": ("selfloop.settings", *KNOW_LOOPS),
    "selfloop.store": ("selfloop.stages", "selfloop.lineage", *KNOW_LOOPS),
    "selfloop.lineage": ("selfloop.stages", "selfloop.promote", *KNOW_LOOPS),
    "selfloop.notifications": ("selfloop.stages", "selfloop.promote", *KNOW_LOOPS),
    **{f"selfloop.{name}": KNOW_LOOPS for name in STAGES},
    "selfloop.settings": KNOW_LOOPS,
    "selfloop.recipe": (*ABOVE_MODES, "selfloop.modes", "selfloop.loop"),
    "selfloop.loop": (*ABOVE_MODES, "selfloop.modes"),
    "selfloop_recipes": (*ABOVE_MODES, "selfloop.modes"),
    "selfloop.modes": ABOVE_MODES,
    "selfloop.runs": ("selfloop.cli",),
    "selfloop.pipelines": ("selfloop.cli",),
}
"""What each of these must not come to, by whatever way."""

Graph = Mapping[str, Collection[str]]
"""Modules, with those that each one imports."""


def test_there_are_no_circles() -> None:
    assert circles(project()) == []


@pytest.mark.parametrize("low", ABOVE)
def test_nothing_imports_what_stands_above_it(low: str) -> None:
    modules = [name for name in project() if is_in(name, low)]
    assert modules, f"There is no {low} any more: correct ABOVE."
    ways = [way(project(), name, high) for name in modules for high in ABOVE[low]]
    assert [" → ".join(found) for found in ways if found] == []


def test_a_circle_through_the_body_of_a_function_is_found() -> None:
    sources = {"a": "def f():\n    from b import x", "b": "import c.d", "c.d": "from c import e", "c.e": "import a"}
    sources |= {"c": "from c.e import x", "f": "import a"}
    found = {name: imports(ast.parse(source), sources) for name, source in sources.items()}
    assert circles(found) == [["a", "b", "c.d", "c.e"]]
    assert way(found, "f", "c") == ["f", "a", "b", "c.d"]
    assert way(found, "a", "f") == []


def test_an_import_for_types_alone_counts_for_nothing() -> None:
    source = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\nfor _ in ():\n    from c.d import e"
    assert imports(ast.parse(source), ["a", "b", "c", "c.d"]) == {"b", "c.d"}


@cache
def project() -> Graph:
    """All modules of the project."""
    paths = {named(path.relative_to(place)): path for place in PLACES for path in place.rglob("*.py")}
    return {name: imports(ast.parse(path.read_text(encoding="utf-8")), paths) - {name} for name, path in paths.items()}


def named(path: Path) -> str:
    """The module that a file is."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, known: Collection[str]) -> set[str]:
    """The modules, of those ``known``, that a program imports anywhere: of ``from a import b`` ``a.b`` where that is a
    module, else ``a``. A package by the way, such as ``a`` of ``a.b``, does not count.
    """
    return {name for node in running(tree) for name in imported(node, known)}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a program that run some time."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from running(ast.Module(node.orelse, []))
        else:
            yield node
            yield from running(node)


def imported(node: ast.AST, known: Collection[str]) -> set[str]:
    """The known modules that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in known}
    if isinstance(node, ast.ImportFrom):
        whole = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in known else str(node.module) for name in whole} & set(known)
    return set()


def circles(graph: Graph) -> list[list[str]]:
    """The sets of modules that all come to one another."""
    to = {name: ways(graph, name) for name in graph}
    sets = {tuple(other for other in graph if other in to[name] and name in to[other]) for name in graph}
    return sorted(list(names) for names in sets if names)


def way(graph: Graph, start: str, package: str) -> list[str]:
    """The shortest way from a module into a package; empty where there is none."""
    return next((found for name, found in ways(graph, start).items() if is_in(name, package)), [])


def ways(graph: Graph, start: str) -> dict[str, list[str]]:
    """The shortest way to each module that a module comes to; also to itself, where it is on a circle."""
    found = {name: [start, name] for name in sorted(graph[start])}
    queue = list(found)
    for name in queue:
        new = sorted(set(graph[name]) - found.keys())
        found |= {further: [*found[name], further] for further in new}
        queue += new
    return found


def is_in(name: str, package: str) -> bool:
    """Whether a module is this one or lies in it."""
    return f"{name}.".startswith(f"{package}.")
