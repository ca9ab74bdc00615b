"""Write JSON documents that need not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from nexus.core.errors import InputError


def dump_line(value: Any) -> str:
    """Return a value as JSON on one line.

    Raises:
        InputError: It holds what JSON cannot.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"expected masks of plain finite JSON values, got one that is not: {error}",
            hint="float(...) and .tolist() make plain values of NumPy's",
        ) from error


def write_array(stream: TextIO, items: Iterable[Any]) -> None:
    """Write a JSON array, one item a line, taking the items one by one.

    Raises:
        InputError: As in `dump_line`.
    """
    separator = "[\n"
    for item in items:
        stream.write(separator + dump_line(item))
        separator = ",\n"
    stream.write("[]" if separator == "[\n" else "\n]")
