"""Files, functions, classes and constructors stay small enough to read in one sitting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.size_report import LIMITS, ROOT, Size, measure, report

# Size.name -> why it may be larger.
EXCEPTIONS: dict[str, str] = {}


@pytest.mark.parametrize("kind", sorted(LIMITS))
def test_nothing_is_larger_than_its_limit(kind: str) -> None:
    """Whatever is over a limit of the house style is listed in EXCEPTIONS with its reason."""
    sizes = measure(ROOT)
    print(report(sizes))
    over = [
        f"{size.name}: {size.value} {kind}, limit {LIMITS[kind]}"
        for size in sizes
        if size.kind == kind and size.value > LIMITS[kind] and size.name not in EXCEPTIONS
    ]

    assert over == []


def test_exceptions_are_needed() -> None:
    """Every exception is still over a limit and has a reason."""
    over = {size.name for size in measure(ROOT) if size.value > LIMITS[size.kind]}

    assert set(EXCEPTIONS) <= over
    assert all(EXCEPTIONS.values())


def test_measures_what_it_says(tmp_path: Path) -> None:
    """Lines, public methods and constructor arguments are counted as the names say."""
    package = tmp_path / "nexus"
    package.mkdir()
    (package / "a.py").write_text(
        "class A:\n"
        "    def __init__(self, x, *, y):\n"
        "        def inner():\n"
        "            return 1\n"
        "        self.x = x\n"
        "    def public(self): ...\n"
        "    def _private(self): ...\n"
    )

    sizes = measure(tmp_path)

    assert set(sizes) == {
        Size("lines of a file", "nexus/a.py", 7),
        Size("public methods of a class", "nexus/a.py:A", 1),
        Size("arguments of a constructor", "nexus/a.py:A", 2),
        Size("lines of a function", "nexus/a.py:A.__init__", 4),
        Size("lines of a function", "nexus/a.py:A.__init__.inner", 2),
        Size("lines of a function", "nexus/a.py:A.public", 1),
        Size("lines of a function", "nexus/a.py:A._private", 1),
    }
