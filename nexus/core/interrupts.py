"""Hold Ctrl-C back while something is written that must be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
