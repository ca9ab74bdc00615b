from __future__ import annotations

import math
import sys

import pytest

from nexus.core.errors import MissingDependencyError
from nexus.core.packages import optional_module


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
