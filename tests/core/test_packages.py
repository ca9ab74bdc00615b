from __future__ import annotations

import math
import sys
from types import ModuleType

import pytest

from nexus.core.errors import MissingDependencyError
from nexus.core.packages import lazy_names, optional_module


def test_a_package_that_is_there_is_imported() -> None:
    """The module itself comes back."""
    assert optional_module("math", "to count") is math


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which package, what for, and what pip is to be told."""
    monkeypatch.setitem(sys.modules, "nowhere", None)

    with pytest.raises(
        MissingDependencyError, match="'nowhere' to fly, got .*\nhint: pip install nowhere"
    ):
        optional_module("nowhere.wings", "to fly")
    with pytest.raises(MissingDependencyError, match=r"hint: pip install 'nexus\[fly\]'"):
        optional_module("nowhere", "to fly", "'nexus[fly]'")


def test_a_name_is_loaded_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question imports the module, later ones find the name in the package itself."""
    package = ModuleType("lazy_package")
    monkeypatch.setitem(sys.modules, "lazy_package", package)
    load, names = lazy_names("lazy_package", {"decimal": ["Decimal"]})

    assert "Decimal" not in vars(package)
    assert load("Decimal") is vars(package)["Decimal"]
    assert "Decimal" in names()
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'pi'"):
        load("pi")
