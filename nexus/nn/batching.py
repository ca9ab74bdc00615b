"""Which pieces of work go through a network together, and how many at a time."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

import torch

_Item = TypeVar("_Item")


def prompts_at_once(device: torch.device) -> int:
    """Return how many prompts or objects one call of a mask decoder takes."""
    # Each has an L x C map of its own, 4 MB of float32 at the trained sides, and its upscaled
    # pixels are twice that. On a CPU four keep to its cache; an accelerator is busy with 64.
    return 4 if device.type == "cpu" else 64


def memories_at_once(device: torch.device) -> int:
    """Return how many objects' memories one call of the layers of memory attention takes."""
    # On a CPU the maps of two are in memory at once; an accelerator takes all there are.
    return 2 if device.type == "cpu" else sys.maxsize


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the places of equal keys together; groups and places in the order they came.

    Examples:
        >>> alike(["box", "point", "box"])
        [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def in_parts(items: Sequence[_Item], most: int) -> Iterator[Sequence[_Item]]:
    """Yield items in order, at most so many at a time.

    Examples:
        >>> list(in_parts([1, 2, 3], 2))
        [[1, 2], [3]]
    """
    for start in range(0, len(items), most):
        yield items[start : start + most]
