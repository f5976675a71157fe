"""Which packages a piece of code imports, in whatever body: its names are followed into functions and classes."""

import ast
import importlib.util
import pkgutil
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeGuard

Name = tuple[str, str]
"""A module and a name at its top; an empty one stands for the module itself, and what it does when it is imported."""
ALL = "*"


class Module(NamedTuple):
    """A module's statements by the names that they bind; what its imports bind; the modules that they run; and which
    packages it imports ``with needing(...)``.
    """

    bodies: Mapping[str, list[ast.stmt]]
    bound: Mapping[str, Name]
    needed: list[Name]
    looked_for: set[str]


def packages(
    roots: Iterable[Name], own: Collection[str], there: Mapping[str, set[str]], noted: Collection[Name] = ()
) -> dict[str, list[Name]]:
    """The packages that code of ``own`` packages may import which is reached from ``roots``, each with the way to it.

    A class that is named is reached whole, and so is each module of a folder whose ``__path__`` or dotted name is. Not
    counted is what a module on the way has looked for, and said that it lacks: by ``needing``, or as ``there`` tells.
    What is ``noted`` names stages and runs none of them: it is not followed.
    """
    found: dict[str, list[Name]] = {}
    todo = [(root, frozenset[str](), list[Name]()) for root in roots]
    seen = set[tuple[Name, frozenset[str]]]()
    while todo:
        name, looked_for, way = todo.pop()
        package = name[0].partition(".")[0]
        if package not in own:
            if package not in looked_for:
                found.setdefault(package, way)
        elif (name, looked_for) not in seen and name not in noted:
            seen.add((name, looked_for))
            known = looked_for | read(name[0]).looked_for | there.get(name[0], set())
            todo += [(each, known, [*way, name]) for each in named(*name)]
    return found


@cache
def named(module: str, name: str) -> Sequence[Name]:
    """What a name's statements name, and what is imported for it."""
    of = read(module)
    found = [(module, "")] if name else [*of.needed, (module.rpartition(".")[0] or module, "")]
    for each in of.bodies if name == ALL else [name]:
        found += [of.bound[each]] if each in of.bound else []
        for statement in of.bodies.get(each, []):
            found += _named_in(statement, module, of)
    return list(dict.fromkeys(found))


def _named_in(statement: ast.stmt, module: str, of: Module) -> Iterator[Name]:
    bound = dict(of.bound)
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= binds(node)
            yield from needs(node)
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and is_module(bound.get(node.value.id)):
            yield bound[node.value.id][0], node.attr
        elif isinstance(node, ast.Name) and node.id == "__path__":
            yield from inside(module)
        elif isinstance(node, ast.Constant) and is_dotted(node.value, module.partition(".")[0]):
            yield from [(node.value, ALL), *inside(node.value)]
        elif isinstance(node, ast.Name) and node.id in bound:
            yield bound[node.id]
        elif isinstance(node, ast.Name) and node.id in of.bodies:
            yield module, node.id


def inside(module: str) -> Iterator[Name]:
    """All of each module in a folder."""
    spec = importlib.util.find_spec(module)
    assert spec
    yield from ((f"{module}.{each.name}", ALL) for each in pkgutil.iter_modules(spec.submodule_search_locations or []))


def is_dotted(value: object, own: str) -> TypeGuard[str]:
    """Whether a constant is the dotted name of a module of a package."""
    return isinstance(value, str) and re.fullmatch(rf"{own}(\.\w+)+", value) is not None and exists(value)


def is_module(name: Name | None) -> bool:
    return name is not None and not name[1]


@cache
def exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def binds(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Name]]:
    """The names that an import binds, and what they are."""
    for each in node.names:
        if isinstance(node, ast.Import):
            top = each.name if each.asname else each.name.partition(".")[0]
            yield each.asname or top, (top, "")
        else:
            assert node.module
            assert not node.level
            inner = f"{node.module}.{each.name}"
            yield each.asname or each.name, (inner, "") if exists(inner) else (node.module, each.name)


def needs(node: ast.Import | ast.ImportFrom) -> Iterator[Name]:
    """The modules that an import runs."""
    if isinstance(node, ast.Import):
        yield from ((each.name, "") for each in node.names)
    else:
        yield from ((module, "") for _, (module, _) in binds(node))


class AsItRuns(ast.NodeTransformer):
    """Takes away what only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()


@cache
def read(module: str) -> Module:
    """A module, as it runs. What binds no name at its top is done when it is imported."""
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    bodies: dict[str, list[ast.stmt]] = {}
    bound: dict[str, Name] = {}
    needed: list[Name] = []
    tree = AsItRuns().visit(ast.parse(Path(spec.origin).read_text()))
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            bound |= binds(statement)
            needed += needs(statement)
        else:
            for name in _bound_by(statement) or [""]:
                bodies.setdefault(name, []).append(statement)
    return Module(bodies, bound, needed, set(_looked_for(tree)))


def _looked_for(tree: ast.Module) -> Iterator[str]:
    for block in ast.walk(tree):
        if isinstance(block, ast.With) and ast.unparse(block.items[0]).startswith("needing("):
            for node in (inner for statement in block.body for inner in ast.walk(statement)):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield from (module.partition(".")[0] for module, _ in needs(node))


def _bound_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
