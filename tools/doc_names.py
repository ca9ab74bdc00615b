"""Check that documents name only what exists: modules, members, arguments and files."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from tools.doc_blocks import ROOT, without_blocks

_CODE = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"(?:nexus|[A-Z]\w+)(?:\.\w+)+")
_FILE = re.compile(r"[\w./-]+\.(?:py|md|toml|txt|png)")
_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_ROOTS = ("", "nexus", "docs")


def resolve(dotted: str, names: dict[str, Any] | None = None) -> Any:
    """Return what a dotted name stands for.

    Args:
        dotted: `nexus.core.types.Masks`, or `Masks.best` with `Masks` among `names`.
        names: What may stand first besides `nexus`.

    Raises:
        LookupError: Nothing.
    """
    first, *rest = dotted.split(".")
    value = importlib.import_module("nexus") if first == "nexus" else (names or {}).get(first)
    if value is None:
        raise LookupError(f"{dotted}: no {first}")
    path = first
    for part in rest:
        path += f".{part}"
        value = _member(value, part, path)
    return value


def _member(value: Any, name: str, path: str) -> Any:
    if hasattr(value, name):
        return getattr(value, name)
    if dataclasses.is_dataclass(value) and name in {f.name for f in dataclasses.fields(value)}:
        return None
    if inspect.ismodule(value):
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError:
            pass
    raise LookupError(path)


def names_in_prose(page: Path) -> list[str]:
    """Return the dotted names in a page's inline code, such as `nexus.ops` and `Masks.best`."""
    names = (code.partition("(")[0] for code in _CODE.findall(without_blocks(page)))
    endings = (".py", ".md", ".json", ".toml")
    return [name for name in names if _DOTTED.fullmatch(name) and not name.endswith(endings)]


def unknown_names(page: Path, names: dict[str, Any]) -> list[str]:
    """Return the dotted names in a page's inline code that stand for nothing."""
    unknown = []
    for dotted in names_in_prose(page):
        if dotted.split(".")[0] not in {"nexus", *names}:
            continue
        try:
            resolve(dotted, names)
        except LookupError:
            unknown.append(dotted)
    return unknown


def missing_files(page: Path) -> list[str]:
    """Return the files a page names or links to that are not in the repository."""
    text = without_blocks(page)
    named = [code for code in _CODE.findall(text) if "/" in code and _FILE.fullmatch(code)]
    missing = [name for name in named if not any((ROOT / r / name).is_file() for r in _ROOTS)]
    for target in _LINK.findall(text):
        if "://" not in target and not (page.parent / target).exists():
            missing.append(target)
    return missing


def problems_of_code(code: str) -> list[str]:
    """Return what is wrong with the names in a Python snippet, without running it.

    Imports from nexus must succeed; of the names imported, and of variables made by calling
    them, members must exist and keyword arguments must be accepted.
    """
    tree = ast.parse(code)
    known: dict[str, Any] = {}
    problems = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "nexus":
                    known["nexus"] = importlib.import_module("nexus")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nexus":
            for alias in node.names:
                try:
                    known[alias.name] = resolve(f"{node.module}.{alias.name}")
                except LookupError as error:
                    problems.append(str(error))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = _class_made_by(node.value, known)
            if made is not None and isinstance(node.targets[0], ast.Name):
                known[node.targets[0].id] = made
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Call):
            problems += _problems_of_node(node, known)
    return problems


def _class_made_by(call: ast.Call, known: dict[str, Any]) -> Any:
    """Return the class whose instance `Class(...)` or `Class.from_...(...)` gives, if any."""
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr.startswith("from_"):
        function = function.value
    value = known.get(function.id) if isinstance(function, ast.Name) else None
    return value if inspect.isclass(value) else None


def _problems_of_node(node: ast.Attribute | ast.Call, known: dict[str, Any]) -> list[str]:
    dotted = ast.unparse(node.func if isinstance(node, ast.Call) else node)
    if not re.fullmatch(r"\w+(\.\w+)*", dotted) or dotted.split(".")[0] not in known:
        return []
    try:
        value = resolve(dotted, known)
    except LookupError as error:
        return [str(error)]
    if not isinstance(node, ast.Call) or not (inspect.isroutine(value) or inspect.isclass(value)):
        return []
    accepted = inspect.signature(value).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
        return []
    return [
        f"{dotted}({keyword.arg}=)"
        for keyword in node.keywords
        if keyword.arg is not None and keyword.arg not in accepted
    ]
