"""Measure the files, functions and classes of the package: python -m tools.size_report."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LIMITS = {
    "lines of a file": 500,
    "lines of a function": 80,
    "public methods of a class": 15,
    "arguments of a constructor": 8,
}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Size:
    """One measured thing.

    Attributes:
        kind: What was measured; a key of `LIMITS`.
        name: Where: `nexus/room/file.py`, with `:Class.method` where it applies.
        value: The count.
    """

    kind: str
    name: str
    value: int


def measure(root: Path) -> list[Size]:
    """Return the sizes of everything below `root/nexus`."""
    sizes: list[Size] = []
    for path in sorted((root / "nexus").rglob("*.py")):
        text = path.read_text("utf-8")
        name = path.relative_to(root).as_posix()
        sizes.append(Size("lines of a file", name, len(text.splitlines())))
        sizes += _sizes_in(ast.parse(text), name)
    return sizes


def _sizes_in(tree: ast.Module, file: str) -> Iterator[Size]:
    for qualified, node in _definitions(tree):
        name = f"{file}:{qualified}"
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, _Function)]
            public = [item for item in methods if not item.name.startswith("_")]
            yield Size("public methods of a class", name, len(public))
            for method in methods:
                if method.name == "__init__":
                    yield Size("arguments of a constructor", name, _argument_count(method))
        elif node.end_lineno is not None:
            yield Size("lines of a function", name, node.end_lineno - node.lineno + 1)


def _definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Function | ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function | ast.ClassDef):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.")
        else:
            yield from _definitions(child, prefix)


def _argument_count(function: _Function) -> int:
    """Count the arguments after `self`."""
    arguments = function.args
    return len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1


def report(sizes: list[Size]) -> str:
    """Return one line per kind: how many, the median, the largest and the limit."""
    lines = []
    for kind, limit in LIMITS.items():
        values = sorted((size.value, size.name) for size in sizes if size.kind == kind)
        if values:
            largest, where = values[-1]
            median = statistics.median(value for value, _ in values)
            lines.append(
                f"{kind}: {len(values)} measured, median {median:g}, "
                f"largest {largest} of {limit} ({where})"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(measure(ROOT)))
