"""Work for the tests of pools, in a file that loads no PyTorch, so that workers start at once."""

from __future__ import annotations

import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus.core.errors import ImageError, NexusWarning
from nexus.predict.jobs import Job


def jobs(count: int) -> list[Job]:
    """Return jobs on the numbers from 0."""
    return [Job(f"{index}.png", index, title=f"in/{index}.png") for index in range(count)]


def square(number: int) -> int:
    """Do the work; the number 3 is bad, and the number 5 is warned of."""
    if number == 3:
        raise ImageError("expected a number, got 3", hint="take another")
    if number == 5:
        warnings.warn("5 means little", NexusWarning, stacklevel=2)
        warnings.warn("of no concern", UserWarning, stacklevel=2)
    return number * number


@dataclass(frozen=True)
class SlowFirst:
    """Waits, with the first job, until so many others were done, and then a while."""

    folder: Path
    others: int
    while_s: float = 0

    def __call__(self, number: int) -> None:
        while number == 0 and len(list(self.folder.iterdir())) < self.others:
            time.sleep(0.01)
        if number == 0:
            time.sleep(self.while_s)
        (self.folder / str(number)).touch()


def die_at_two(number: int) -> int:
    """End the process."""
    if number == 2:
        os._exit(9)
    return number


def has_torch(_: int) -> bool:
    """Tell whether PyTorch is loaded, as it is in a fork of a process that has used it."""
    return "torch" in sys.modules


def threads_here(_: int) -> tuple[int, int]:
    """Return process and threads."""
    import torch

    return os.getpid(), torch.get_num_threads()


class Threads:
    """Returns process and threads; brings PyTorch with it, as a model does."""

    def __init__(self) -> None:
        import torch

        self.dtype = torch.float32

    def __call__(self, number: int) -> tuple[int, int]:
        return threads_here(number)


def no_answer(_: int) -> Any:
    """Return what cannot be sent."""
    return lambda: None


@dataclass(frozen=True)
class Raiser:
    """Raises what it is given."""

    error: Exception

    def __call__(self, number: int) -> None:
        raise self.error
