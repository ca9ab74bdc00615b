"""The rooms of the package and who may import whom."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
ALLOWED_UPWARD = {
    "nexus.models.tracking -> nexus.predict.video",
}


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    """Return the layers contract of pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]
    return dict(layers)


def test_rooms_import_only_from_lower_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import-linter contract holds."""
    from importlinter import cli

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))

    status = cli.lint_imports(config_filename="pyproject.toml", no_cache=True)

    assert status == 0


def test_the_contract_names_every_room(contract: dict[str, Any]) -> None:
    """No folder of the package is outside the contract, and none is listed that is not there.

    Core and data stand in it by their files and folders: the types of core and most of data are
    above `ops`, the rest below.
    """
    named = {room for layer in contract["layers"] for room in re.findall(r"[\w.]+", layer)}
    there = {_module(path) for path in (ROOT / "nexus").glob("*/__init__.py")}
    for room in ("core", "data"):
        there.remove(f"nexus.{room}")
        there |= {_module(path) for path in (ROOT / "nexus" / room).glob("[!_]*.py")}
        there |= {_module(path) for path in (ROOT / "nexus" / room).glob("*/__init__.py")}

    assert named == there


def _module(path: Path) -> str:
    """Return the dotted name of a file or package."""
    inside = path.relative_to(ROOT).with_suffix("")
    return ".".join(inside.parts).removesuffix(".__init__")


def test_upward_imports_are_the_named_ones(contract: dict[str, Any]) -> None:
    """The contract lets pass only the exceptions this test lists."""
    assert set(contract["ignore_imports"]) <= ALLOWED_UPWARD
