"""How much of two masks is shared, counted in pixels or voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.eval.metrics.inputs import mask_pair


def iou(predicted: NDArray[Any], truth: NDArray[Any], ignored: NDArray[Any] | None = None) -> float:
    """Return intersection over union, the J of the DAVIS benchmarks.

    Args:
        predicted: Bool, any shape.
        truth: Bool, the same shape.
        ignored: Bool, the same shape: pixels removed from both.

    Returns:
        A number in [0, 1]; 1 if both masks are empty, 0 if one is.

    Raises:
        InputError: Masks that are not bool or not of one shape.

    Examples:
        >>> iou(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    one, two = mask_pair(predicted, truth, ignored)
    union = np.count_nonzero(one | two)
    return float(np.count_nonzero(one & two) / union) if union else 1.0


def dice(
    predicted: NDArray[Any], truth: NDArray[Any], ignored: NDArray[Any] | None = None
) -> float:
    """Return the Dice coefficient (DSC): twice the shared pixels by the pixels of both.

    Args:
        predicted: Bool, any shape.
        truth: Bool, the same shape.
        ignored: Bool, the same shape: pixels removed from both.

    Returns:
        A number in [0, 1]; 1 if both masks are empty, 0 if one is.

    Raises:
        InputError: Masks that are not bool or not of one shape.

    Examples:
        >>> dice(np.array([True, True, False, True]), np.array([False, True, False, False]))
        0.5
    """
    one, two = mask_pair(predicted, truth, ignored)
    pixels = np.count_nonzero(one) + np.count_nonzero(two)
    return float(2 * np.count_nonzero(one & two) / pixels) if pixels else 1.0
