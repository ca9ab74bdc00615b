"""Packages that not everybody has, imported where they are needed."""

from __future__ import annotations

import importlib
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
