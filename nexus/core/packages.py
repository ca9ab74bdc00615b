"""Import late: packages that not everybody has, and public names when they are asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nexus.core.errors import MissingDependencyError


def optional_module(name: str, purpose: str, install: str | None = None) -> Any:
    """Import a module of an optional package.

    Args:
        name: Dotted; the package is its first part.
        purpose: What it is needed for, after "the package ...".
        install: What pip is to install; None for the package itself.

    Raises:
        MissingDependencyError: It cannot be imported.
    """
    package = name.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"expected the package {package!r} {purpose}, got an ImportError",
            hint=f"pip install {install or package}",
        ) from error


def lazy_names(
    package: str, table: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package, told by its `__name__`.

    The table has its names by the module that defines them.
    """
    modules = {name: module for module, names in table.items() for name in names}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*modules, *vars(sys.modules[package])})

    return load, names
