"""Cores and threads: how many there are, PyTorch held to some, work spread over all."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

_lock = threading.Lock()
_spread: list[int] = []  # of each `over_cores` under way, the threads to put back


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def pinned(threads: int | None) -> Iterator[None]:
    """Hold PyTorch, where it is loaded, to a number of threads for the block; None changes nothing.

    The sums a model adds up differ in their last bits with the number of threads, and are the same
    in any process that has the same number.
    """
    if threads is None or "torch" not in sys.modules:
        yield
        return
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def over_cores(
    work: Callable[[_Part], _Result], parts: Sequence[_Part], device: torch.device
) -> list[_Result]:
    """Do the same work on several parts, on as many threads as PyTorch may use.

    Small operations gain little from being split between cores; whole parts side by side gain
    nearly as many times as there are cores. On an accelerator, or with one thread, the parts are
    done in turn.

    Args:
        work: Is called in a thread of its own; must not change anything shared.
        parts: What to call it with.
        device: Where the work is done.

    Returns:
        The results, in the order of the parts.

    Raises:
        BaseException: What `work` raised first, in the order of the parts.
    """
    import torch

    # While another caller is here, PyTorch tells a thread that is new to it of one thread only.
    threads = _spread[0] if _spread else torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(parts) < 2:
        return [work(part) for part in parts]
    with _lock:
        _spread.append(_spread[0] if _spread else threads)
    pool = ThreadPoolExecutor(
        min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        return list(pool.map(work, parts))
    finally:
        pool.shutdown(cancel_futures=True)
        # The math libraries keep one of their settings for the whole process, so that only the
        # last to leave may put it back: the threads of another caller still count on it.
        with _lock:
            former = _spread.pop()
            if not _spread:
                torch.set_num_threads(former)
