"""Spread independent pieces of work over the cores, one thread to each piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


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
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(parts) < 2:
        return [work(part) for part in parts]
    pool = ThreadPoolExecutor(
        min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        return list(pool.map(work, parts))
    finally:
        pool.shutdown(cancel_futures=True)
        # The math libraries keep one of their settings for the whole process.
        torch.set_num_threads(threads)
