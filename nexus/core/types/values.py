"""Records of arrays: equal by value, and kept in files."""

from __future__ import annotations

import dataclasses
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nexus.core.errors import InputError
from nexus.core.files import replacing

NOT_A_VALUE = "memory"
"""The field that says how tracking would go on, not what was found."""


class ByValue:
    """A dataclass whose records are equal when they are of one class and hold equal values.

    Arrays are compared by shape, type and content, NaN equal to itself, and tensors wherever they
    are; `memory` is left aside. A record has no hash, for the reason that lists and arrays have
    none: what it holds can be written into. As a key take `id(record)`, or a name of your own.
    """

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        pairs = ((getattr(self, n), getattr(other, n)) for n in names if n != NOT_A_VALUE)
        return all(_are_same(one, two) for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]


def _are_same(one: Any, two: Any) -> bool:
    if one is two:
        return True
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        is_float = np.issubdtype(one.dtype, np.inexact)
        return one.dtype == two.dtype and bool(np.array_equal(one, two, equal_nan=is_float))
    if hasattr(one, "detach"):
        import torch

        alike = one.dtype == two.dtype and one.shape == two.shape
        return alike and torch.equal(one.detach(), two.detach().to(one.device))
    if isinstance(one, tuple):
        return len(one) == len(two) and all(map(_are_same, one, two))
    return bool(one == two)


def save_record(record: Any, path: Path) -> Path:
    """Write the values of a record to a .npz file, whole or not at all; return its path.

    Raises:
        OSError: The file cannot be written.
    """
    kind = type(record).__name__
    values: dict[str, Any] = {
        field.name: np.asarray(getattr(record, field.name))
        for field in dataclasses.fields(record)
        if field.name != NOT_A_VALUE and getattr(record, field.name) is not None
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, kind=np.asarray(kind), **values)
    return path


def load_record(kind: type[Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values of a record from a file that `save_record` wrote, by their names.

    Raises:
        InputError: There is no such file, it is damaged, or it holds something else.
        OSError: It cannot be read.
    """
    source = Path(path)
    kinds = {kind.__name__, *(base.__name__ for base in kind.__mro__)}
    kinds |= {child.__name__ for child in kind.__subclasses__()}
    if not source.is_file():
        raise InputError(f"expected a {kind.__name__} saved by Nexus, got no file {str(source)!r}")
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with source.open("rb") as stream, zipfile.ZipFile(stream):
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"expected a {kind.__name__} saved by Nexus, got {str(source)!r}, which is no whole "
            ".npz file",
            hint="save(...) under a name that ends in .npz keeps everything",
        ) from error
    if str(values.pop("kind", "")) not in kinds:
        raise InputError(
            f"expected a {kind.__name__} saved by Nexus, got {str(source)!r}, which holds "
            f"{', '.join(sorted(values)) or 'nothing'}"
        )
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    return {
        name: value.item()
        if value.ndim == 0
        else tuple(value.tolist())
        if types.get(name, "").startswith("tuple")
        else value
        for name, value in values.items()
        if name in types
    }


def checked_suffix(path: str | os.PathLike[str], known: dict[str, str]) -> tuple[Path, str]:
    """Return a path and its suffix in small letters, which is one of those known.

    Args:
        path: Where something is to be written.
        known: What each suffix is for.

    Raises:
        InputError: The suffix is another.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in known:
        raise InputError(
            f"expected a name that ends in {', '.join(known)}, got {target.name!r}",
            hint="; ".join(f"{ending} is for {what}" for ending, what in known.items()),
        )
    return target, suffix
