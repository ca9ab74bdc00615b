"""What is imported from the top of the package, and what documents show of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import nexus
import nexus.models.cv
from tools.api_listing import LISTING, listing
from tools.doc_blocks import blocks, pages
from tools.doc_names import names_in_prose, resolve

TEXTS = [page for page in pages() if page != LISTING]
ERRORS = re.compile(r"^class (\w+)", re.MULTILINE)


@cache
def listed() -> dict[str, set[str]]:
    """Return the names of docs/api.md by their module."""
    found: dict[str, set[str]] = {}
    for section in re.split(r"^## ", listing(), flags=re.MULTILINE)[1:]:
        module, _, body = section.partition("\n")
        found[module] = set(re.findall(r"^- (?:class )?`(\w+)", body, re.MULTILINE))
    return found


def imports_of(code: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of what a snippet takes from the package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nexus":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "nexus":
            yield "nexus", node.attr


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_what_a_document_imports_is_public(page: Path) -> None:
    """Each name that a snippet takes from the package is listed in docs/api.md."""
    shown = {pair for block in blocks(page, "python") for pair in imports_of(block.code)}

    assert {pair for pair in shown if pair[1] not in listed().get(pair[0], ())} == set()


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.name)
def test_what_a_document_names_is_public(page: Path) -> None:
    """Each module or name of the package that a text names in full is listed there as well."""
    missing = []
    for dotted in names_in_prose(page):
        if not dotted.startswith("nexus."):
            continue
        module, _, name = dotted.rpartition(".")
        if isinstance(resolve(dotted), ModuleType):
            if not any(f"{known}.".startswith(f"{dotted}.") for known in listed()):
                missing.append(dotted)
        elif name not in listed().get(module, ()):
            missing.append(dotted)

    assert missing == []


def test_checkers_and_programs_see_the_same() -> None:
    """What `nexus` gives when asked is what it tells type checkers it has."""
    source = Path(nexus.__file__).read_text("utf-8")
    declared = {
        (importing.module, alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If)
        for importing in node.body
        if isinstance(importing, ast.ImportFrom)
        for alias in importing.names
    }

    assert declared == {(module, name) for module, names in nexus._LAZY.items() for name in names}


def test_every_error_is_at_the_top() -> None:
    """`nexus` has all errors of the tree, so that what is raised can be named."""
    from nexus.core import errors

    assert set(ERRORS.findall(Path(errors.__file__).read_text("utf-8"))) <= set(nexus.__all__)


@pytest.mark.parametrize("package", [nexus, nexus.models.cv], ids=lambda each: each.__name__)
def test_public_names_can_be_had(package: ModuleType) -> None:
    """Every public name is there, listed by `dir`, and a wrong one is refused by name."""
    assert all(hasattr(package, name) for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'SAN'"):
        _ = package.SAN
