"""How much is said: records of the logger `nexus`, and NEXUS_LOG, which opens or silences it.

The library logs what it loads, fetches, chooses and skips, below WARNING, and shows nothing by
itself: a weaker result is a warning, never a record as well. The environment variable travels to
worker processes, so that they say as much as their parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from nexus.core.errors import InputError

VARIABLE = "NEXUS_LOG"
# The hub library speaks for itself, of retries and with bars of its own.
_QUIET_TOO = {"HF_HUB_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_LEVELS = {
    "quiet": logging.CRITICAL,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


class _Stderr(logging.Handler):
    """Write records to what stderr is at that moment, a line each, as warnings and errors are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; on a terminal in the place of the progress line, which comes back."""
        with contextlib.suppress(OSError, ValueError):
            start = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{start}{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


def is_quiet() -> bool:
    """Return whether progress, notes and warnings are unwanted, errors alone being said."""
    return os.environ.get(VARIABLE) == "quiet"


def asked_for() -> str:
    """Return what NEXUS_LOG says: `quiet`, `warning` (also if it is not set), `info` or `debug`.

    Raises:
        InputError: It says something else.
    """
    word = os.environ.get(VARIABLE) or "warning"
    if word not in _LEVELS:
        raise InputError(f"expected {VARIABLE} to be one of {', '.join(_LEVELS)}, got {word!r}")
    return word


def log_as_asked() -> None:
    """Show records in this process from now on, if NEXUS_LOG asks for that: for a worker's start.

    Another word than the known ones is passed over here; the command line refuses it.
    """
    level = _LEVELS.get(os.environ.get(VARIABLE, ""), logging.WARNING)
    if level < logging.WARNING:
        logger = logging.getLogger("nexus")
        logger.handlers = [each for each in logger.handlers if not isinstance(each, _Stderr)]
        logger.addHandler(_Stderr())
        logger.setLevel(level)


@contextlib.contextmanager
def saying(word: str) -> Iterator[None]:
    """Say as much as `word`, a value of NEXUS_LOG, within the block and in workers it starts.

    Under `info` and `debug` records of the logger `nexus` go to stderr.
    """
    logger = logging.getLogger("nexus")
    former_level, handlers = logger.level, [*logger.handlers]
    changed = {VARIABLE: word, **(_QUIET_TOO if word == "quiet" else {})}
    former = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    # Not twice, where a block within a block says more.
    logger.handlers = [each for each in handlers if not isinstance(each, _Stderr)]
    if _LEVELS[word] < logging.WARNING:
        logger.addHandler(_Stderr())
        logger.setLevel(_LEVELS[word])
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(former_level)
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
