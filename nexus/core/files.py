"""Write files so that a reader never meets half of one, and Ctrl-C makes none."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from nexus.core.errors import InputError, NexusError, shown

STATE_FOLDER = ".nexus"
"""What a run keeps for itself in its output folder."""

LOCK_FILE = "lock"
"""What is locked in there."""

ANEW_HINT = "take another folder, or begin anew with `overwrite=True`"
"""What to do about a folder whose results are others."""

_watchers: dict[Path, Callable[[Path, Path], None]] = {}


def as_path(value: object, what: str = "a path") -> Path:
    """Return an argument as a path; `what` it is the path of is given with its article.

    Raises:
        InputError: It is neither a text nor a path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"expected {what} as a path, got {shown(value)}")
    return Path(value)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a fresh path beside `path`; rename it onto `path` when the block succeeds.

    The parent folder is created. If the block raises, `path` keeps its former content and the
    temporary file is removed. The temporary name keeps the suffix of `path`, for writers that
    choose a format by it.

    Raises:
        OSError: The folder cannot be created or written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.stem}.{uuid.uuid4().hex[:12]}.part{target.suffix}"
    try:
        yield temporary
        _ask_watcher(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def watching(
    folder: str | os.PathLike[str], before: Callable[[Path, Path], None]
) -> Iterator[None]:
    """Call `before(target, temporary)` for each file that `replacing` puts below a folder.

    It is called when the temporary file is whole and has yet to be renamed; what it raises leaves
    the target as it is. Of folders within each other the innermost one is asked. All threads of
    this process are watched.
    """
    place = Path(os.path.realpath(folder))
    _watchers[place] = before
    try:
        yield
    finally:
        del _watchers[place]


def _ask_watcher(target: Path, temporary: Path) -> None:
    if not _watchers:
        return
    parent = Path(os.path.realpath(target.parent))
    for place in (parent, *parent.parents):
        if place in _watchers:
            _watchers[place](parent / target.name, temporary)
            return


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield a stream whose text, in UTF-8, stands at `path` when the block succeeds.

    Raises:
        OSError: The folder or the file cannot be written; `path` keeps its former content.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        yield stream


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all; return its path.

    Raises:
        OSError: The file cannot be written.
    """
    with writing(path) as stream:
        stream.write(text)
    return Path(path)


@contextmanager
def claimed(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Hold an output folder for the block, so that no two runs write into it; yield its state.

    The folder is made if it is not there. A lock of a run that died is free again.

    Raises:
        InputError: The folder cannot be made or written.
        NexusError: Another run holds it.
    """
    from filelock import FileLock, Timeout

    state = Path(folder) / STATE_FOLDER
    try:
        state.mkdir(parents=True, exist_ok=True)
        held = FileLock(state / LOCK_FILE).acquire(timeout=0)
    except Timeout as error:
        raise NexusError(
            f"expected {os.fspath(folder)!r} to be free, got one that another run is using",
            hint="wait for it, or write into another folder",
        ) from error
    except OSError as error:
        raise InputError(
            f"expected the output to be a folder, got {os.fspath(folder)!r}: {error}"
        ) from error
    with held:
        yield state


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Run the block to its end even if Ctrl-C comes; the interrupt is delivered right after it.

    Blocks nest: the interrupt comes after the outermost. Put a frame's worth of writing into one
    block and several outputs agree on which frames they hold. Outside the main thread, where
    Python never delivers Ctrl-C, it does nothing.

    Raises:
        KeyboardInterrupt: After the block, if Ctrl-C came during it.
    """
    former = signal.getsignal(signal.SIGINT)
    # None: a handler that was not installed from Python, which could not be put back.
    if former is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if came:
            signal.raise_signal(signal.SIGINT)
