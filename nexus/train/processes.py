"""The processes of a run: one by itself, or several that accelerate has started."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import torch
from torch import nn

from nexus.core.device import resolve_device
from nexus.core.packages import optional_module


class Processes:
    """Which of the run's processes this is, and what they tell each other.

    Alone it needs no package. Started by `accelerate launch` or `torchrun`, every process takes
    its share of the rows of a step, and gradients are averaged by one reduction of them all.

    Args:
        device: Where the model is to be if the process is alone; None takes the best one.
        silent: Nothing is said of how far the run is.

    Raises:
        MissingDependencyError: There are several processes, and accelerate is not installed.
    """

    def __init__(self, device: str | None = None, silent: bool = False) -> None:
        self.index, self.count, self.silent = 0, 1, silent
        self._state: Any = None
        if _has_others():
            # Unasked, accelerate would take each process on a machine without an accelerator for
            # a run of its own.
            on_cpu = resolve_device(device).type == "cpu"
            self._state = _accelerate().PartialState(cpu=on_cpu or None)
            self.index, self.count = self._state.process_index, self._state.num_processes
            self.device: torch.device = self._state.device
        else:
            self.device = resolve_device(device)

    @property
    def messages(self) -> TextIO:
        """Where progress goes: stderr of the first process, nowhere from the others."""
        return sys.stderr if self.is_first and not self.silent else io.StringIO()

    @property
    def is_first(self) -> bool:
        """Whether this one writes the files."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until all have come here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def average(self, parameters: Sequence[nn.Parameter], numbers: Sequence[float]) -> list[float]:
        """Average the gradients in place, and some numbers, over the processes.

        A parameter without a gradient here but with one elsewhere counts as one of zeros, as in a
        batch that only a part of the rows reach it from; one without any is left so.

        Returns:
            The averages of `numbers`.
        """
        if self._state is None:
            return list(numbers)
        reached = [float(p.grad is not None) for p in parameters]
        extra = torch.tensor([*numbers, *reached], dtype=torch.float32, device=self.device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.flatten().float() for gradient in gradients), extra])
        flat = _accelerate().utils.reduce(flat, "mean")
        *parts, extra = flat.split([*(gradient.numel() for gradient in gradients), len(extra)])
        means: list[float] = extra.tolist()
        anywhere = means[len(numbers) :]
        for p, gradient, part, share in zip(parameters, gradients, parts, anywhere, strict=True):
            if share > 0:
                p.grad = gradient.copy_(part.view_as(gradient))
        return means[: len(numbers)]

    def share_of(self, items: Sequence[Any]) -> list[Any]:
        """Return every n-th item, n being the number of processes, from the own index on."""
        return list(items[self.index :: self.count])

    def gather(self, items: list[Any]) -> list[Any]:
        """Return the items of all processes, those of the first one first."""
        return items if self._state is None else _accelerate().utils.gather_object(items)


def starts_first() -> bool:
    """Tell whether this process is alone, or the first of those a launcher has started."""
    return not _has_others() or int(os.environ.get("RANK", "0")) == 0


def _has_others() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _accelerate() -> Any:
    return optional_module("accelerate", "for several processes", '"nexus-segmentation[train]"')
