"""The import graph has no circle, no folder is crowded, and only models know their classes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tools.import_graph import ROOT, circles, import_graph

MOST_FILES = 18

# Imports that close a circle today: module and what it imports.


def package(root: Path, **files: str) -> dict[str, set[str]]:
    """Write a package of modules and return its graph; `a__b` is the file b of the folder a."""
    for name, text in {"__init__": "", **files}.items():
        path = root / "pack" / (name.replace("__", "/") if name != "__init__" else name)
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return import_graph(root, "pack")


def test_no_circle_of_imports() -> None:
    """No module reaches itself by imports, those inside functions and lazy ones included."""
    graph = import_graph(ROOT)

    assert len(graph) > 100
    assert circles(graph) == []


@pytest.mark.parametrize(
    "importing",
    [
        "from pack import a",
        "from pack.a import name",
        "import pack.a",
        "from .a import name",
        "def f():\n    from pack.a import name",
        "_LAZY = {'name': 'pack.a'}",
        "import importlib\nimportlib.import_module('pack.a')",
        "import importlib\ndef f(x):\n    importlib.import_module(f'pack.{x}')",
    ],
)
def test_every_kind_of_import_counts(tmp_path: Path, importing: str) -> None:
    """A circle is found however its second half is written."""
    graph = package(tmp_path, a="from pack.b import name", b=importing)

    assert circles(graph) == [["pack.a", "pack.b"]]


def test_what_never_runs_does_not_count(tmp_path: Path) -> None:
    """Imports for type checkers make no circle, and neither does a package's own name."""
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.a import name"
    graph = package(tmp_path, __init__="from pack import a", a="import pack.b", b=typed)

    assert graph["pack.b"] == set()
    assert circles(graph) == []


def test_no_folder_is_crowded() -> None:
    """A folder of the package shows at most 18 Python files."""
    counts = Counter(path.parent for path in (ROOT / "nexus").rglob("*.py"))

    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_only_models_ask_for_the_class_of_a_model() -> None:
    """Outside `nexus/models` no code tells models apart by their class."""
    asking = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nexus").rglob("*.py")
        if re.search(r"isinstance\(.*SAM", path.read_text("utf-8"))
    }

    assert {name for name in asking if not name.startswith("nexus/models/")} == set()
