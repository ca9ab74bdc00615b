"""Label maps: one number a pixel, 0 for the background."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


def paint_labels(
    layers: Iterable[tuple[int, NDArray[np.bool_]]],
    size_hw: tuple[int, int],
    dtype: DTypeLike = np.int32,
) -> NDArray[Any]:
    """Return one (H, W) map of several masks, each painted over those before it; 0 elsewhere.

    Args:
        layers: Number and (H, W) mask of each, the undermost first; taken one by one.
        size_hw: Height and width, pixels.
        dtype: Of the map; the numbers fit into it.

    Examples:
        >>> paint_labels([(5, np.array([[True, True]])), (2, np.array([[False, True]]))], (1, 2))
        array([[5, 2]], dtype=int32)
    """
    labels = np.zeros(size_hw, dtype)
    for number, mask in layers:
        labels[mask] = number
    return labels


def largest_first(areas: Sequence[int]) -> list[int]:
    """Return the places of areas in descending order, equal ones in their own.

    Painted in this order no mask is hidden by one that it is a part of.

    Examples:
        >>> largest_first([3, 9, 3])
        [1, 0, 2]
    """
    return sorted(range(len(areas)), key=lambda place: -areas[place])


def lowest_first(scores: ArrayLike) -> NDArray[np.intp]:
    """Return the order in which to paint: the highest score last, and of equal ones the first.

    NaN, a score that is not known, is lowest.

    Examples:
        >>> lowest_first([0.9, np.nan, 0.9, 0.5]).tolist()
        [1, 3, 2, 0]
    """
    ranks = np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf)
    return np.argsort(-ranks, kind="stable")[::-1]


def label_palette() -> NDArray[np.uint8]:
    """Return the colours that VOC and DAVIS give to labels: (256, 3) RGB, black first.

    It is the colour map of the VOC2012 development kit: the bits of a number, three by three, are
    the bits of red, green and blue from the highest down.

    Examples:
        >>> label_palette()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    numbers = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((numbers >> 3 * bit + channel & 1) << 7 - bit).astype(np.uint8)
    return palette
