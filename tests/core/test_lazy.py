from __future__ import annotations

import sys
from types import ModuleType

import pytest

from nexus.core.lazy import lazy_names


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
