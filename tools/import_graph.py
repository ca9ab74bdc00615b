"""Find the circles among the modules of the package: python -m tools.import_graph.

Every import counts, also one inside a function, and so does a module named by a string: an entry
of a table of lazy names or of verbs, or the argument of `import_module`. Left out are imports under
`if TYPE_CHECKING`, which never run, and those that no file writes: that of the packages a module
lies in, which Python loads first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def import_graph(root: Path, package: str = "nexus") -> dict[str, set[str]]:
    """Return the modules that each module of a package imports.

    Args:
        root: The folder the package is in.
        package: Its name.
    """
    trees = {
        _name_of(path.relative_to(root)): (ast.parse(path.read_text("utf-8")), path)
        for path in sorted((root / package).rglob("*.py"))
    }
    graph: dict[str, set[str]] = {}
    for module, (tree, path) in trees.items():
        inside = module if path.stem == "__init__" else module.rpartition(".")[0]
        found = {name for written in _written(tree, inside) for name in _known(written, trees)}
        graph[module] = found - {module}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other, each in alphabetical order."""
    reached = {module: _reachable(graph, module) for module in graph}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in graph
        if module in reached[module]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(graph: Mapping[str, set[str]], module: str) -> set[str]:
    found: set[str] = set()
    pending = list(graph[module])
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += graph[name]
    return found


def _name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _written(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Yield each import as what it is from and the name taken from there, which may be empty."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for statement in node.orelse:
            yield from _written(statement, package)
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        source = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
        yield from ((source or "", alias.name) for alias in node.names)
    elif isinstance(node, ast.JoinedStr):  # as in f"nexus.data.formats.{name}": any module there
        start = ast.unparse(node)[2:].partition("{")[0]
        if re.fullmatch(r"\w+(\.\w+)*\.", start):
            yield start[:-1], "*"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
        yield node.value, ""
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.JoinedStr):
            yield from _written(child, package)


def _known(written: tuple[str, str], modules: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules of the package that an import loads."""
    source, name = written
    if name == "*":
        yield from (module for module in modules if module.rpartition(".")[0] == source)
    elif f"{source}.{name}" in modules:
        yield f"{source}.{name}"
    elif source in modules:
        yield source


if __name__ == "__main__":
    for circle in circles(import_graph(ROOT)):
        print("\n".join(circle), end="\n\n")
