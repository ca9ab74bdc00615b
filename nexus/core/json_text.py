"""JSON in and out, with errors that say what was expected."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from nexus.core.errors import InputError


def read_json(path: Path, kind: type | None = None, what: str = "a whole JSON document") -> Any:
    """Read a JSON document.

    Args:
        path: The file.
        kind: Type of its outermost value; None for any.
        what: What the file should be, for the error.

    Raises:
        InputError: It is damaged, cut short or no text, or holds another value.
        OSError: It cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(
            f"expected {what}, got {str(path)!r}: {error}",
            hint="the file is damaged or cut short; fetch it again",
        ) from error
    if kind is not None and not isinstance(value, kind):
        raise InputError(f"expected {what} at {str(path)!r}, got a JSON {type(value).__name__}")
    return value


def read_document(path: Path, **keys: type) -> dict[str, Any]:
    """Read a JSON object that has certain keys, given with the types of their values.

    Raises:
        InputError: As in `read_json`; another value, or a key is missing or of another type.
    """
    document: dict[str, Any] = read_json(path)
    require(document, path, **keys)
    return document


def require(record: Any, path: Path, **keys: type | tuple[type, ...]) -> None:
    """Check that a record of a JSON file is an object that has certain keys.

    Raises:
        InputError: It is not, or one is missing or of another type.
    """
    if not isinstance(record, dict):
        raise InputError(f"expected objects in {str(path)!r}, got {record!r:.80}")
    for key, kind in keys.items():
        if not isinstance(record.get(key), kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(each.__name__ for each in kinds)
            got = "none" if key not in record else f"{record[key]!r:.80}"
            raise InputError(
                f"expected {str(path)!r} to give {key!r} as {wanted}, got {got}",
                hint="the file is of another format, or damaged",
            )


def dump_json(value: Any, **options: Any) -> str:
    """Return a value as JSON, on one line unless `options` of `json.dumps` say otherwise.

    Raises:
        InputError: It holds what JSON cannot.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"expected plain finite JSON values, got one that is not: {error}",
            hint="float(...) and .tolist() make plain values of NumPy's",
        ) from error


def write_array(stream: TextIO, items: Iterable[Any]) -> None:
    """Write a JSON array, one item a line, taking the items one by one.

    Raises:
        InputError: As in `dump_json`.
    """
    separator = "[\n"
    for item in items:
        stream.write(separator + dump_json(item))
        separator = ",\n"
    stream.write("[]" if separator == "[\n" else "\n]")
