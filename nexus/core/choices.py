"""Refuse a name that is none of those there are, and say which is near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from nexus.core.errors import InputError, shown

Entry = TypeVar("Entry")


def did_you_mean(name: object, known: Iterable[str]) -> str | None:
    """Return a hint that names the nearest of the known names, or None where none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def entry(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """Return what a table has under a name; `what` the names stand for is given with its article.

    Raises:
        InputError: The table has no such name.
    """
    if not isinstance(name, str) or name not in table:
        message = f"expected {what} among {', '.join(table)}, got {shown(name)}"
        raise InputError(message, hint=did_you_mean(name, table))
    return table[name]
