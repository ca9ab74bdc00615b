"""A full disk, said once and in words, whichever library was writing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nexus.core.errors import NexusError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(path: str | os.PathLike[str], needed: int | None = None) -> Iterator[None]:
    """Raise one error that names the space if the disk fills up in the block.

    Args:
        path: What is being written, or the folder of all that is.
        needed: Its bytes, as far as they are known.

    Raises:
        NexusError: The disk is full, or a limit on the size of files or on their sum is reached.
    """
    try:
        yield
    except Exception as error:
        chain = list(_chain(error))
        told = next((each for each in chain if isinstance(each, NexusError)), None)
        if told is not None:
            # Whatever else came of it while files were closed.
            raise told from None
        number = next(filter(None, map(_number, chain)), None)
        if number is None:
            raise
        raise _full(Path(path), needed, number) from error


def bytes_of(content: Any) -> int:
    """Return the bytes of all tensors and arrays in nested values."""
    if hasattr(content, "nbytes"):
        return int(content.nbytes)
    if isinstance(content, Mapping):
        return sum(map(bytes_of, content.values()))
    if isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
        return sum(map(bytes_of, content))
    return 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it came of."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _number(error: BaseException) -> int | None:
    """Return which of `_FULL` an error is, or None."""
    number = getattr(error, "errno", None)
    if number is None:
        # Rust's words, as safetensors hands them on.
        number = next((n for n in _FULL if f"(os error {n})" in str(error)), None)
    return number if number in _FULL else None


def _full(path: Path, needed: int | None, number: int) -> NexusError:
    free = shutil.disk_usage(path if path.is_dir() else path.parent).free
    wanted = "room" if needed is None else f"room for {_shown(needed)}"
    return NexusError(
        f"expected {wanted} on the disk of {str(path)!r}, got {_shown(free)} free: "
        f"{os.strerror(number)}",
        hint="make room and start the same command again: it goes on from the last state",
    )


def _shown(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"
