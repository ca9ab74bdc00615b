"""`progress=` of the library: a line on stderr, or a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nexus.core.errors import InputError
from nexus.core.progress import Progress

ProgressLike: TypeAlias = bool | Callable[[int, int], None]
"""True shows a line on stderr; a function is called with steps done and steps in all."""


class _Called(Progress):
    """Progress that is told to a function, and written nowhere."""

    def __init__(self, call: Callable[[int, int], None], total: int, done: int) -> None:
        super().__init__(total, done=done, shown=False)
        self._call, self._whole = call, total

    def advance(self, steps: int = 1) -> None:
        """Count steps as done, and tell."""
        super().advance(steps)
        self._call(self.done, self._whole)


def steps_of(
    progress: ProgressLike,
    total: int,
    *,
    label: str = "",
    unit: str = "images",
    done: int = 0,
    at_once: int = 1,
) -> Progress:
    """Return what counts the steps of a call and shows them as its `progress` asks.

    Args:
        progress: True, False, or a function of steps done and steps in all, called after each.
        total: Steps of the whole call.
        label: As in `Progress`.
        unit: As in `Progress`.
        done: As in `Progress`.
        at_once: As in `Progress`.

    Raises:
        InputError: `progress` is something else.
    """
    if not isinstance(progress, bool):
        if not callable(progress):
            raise InputError(
                f"expected progress to be True, False or a function, got {progress!r:.80}",
                hint="progress=lambda done, total: print(done, total)",
            )
        return _Called(progress, total, done)
    return Progress(total, label=label, unit=unit, done=done, at_once=at_once, shown=progress)
