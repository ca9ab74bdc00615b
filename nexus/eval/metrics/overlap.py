"""The masks that metrics accept, and how much of two is shared, counted in pixels or voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError

Mask = NDArray[np.bool_]


def mask_pair(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    ignored: NDArray[Any] | None = None,
    ranks: tuple[int, ...] | None = None,
) -> tuple[Mask, Mask]:
    """Return both masks without the ignored pixels; all are bool and of one shape.

    `ranks` are the numbers of axes that make sense; None for any.

    Raises:
        InputError: Another type, different shapes, or another number of axes.
    """
    given = {"predicted": predicted, "truth": truth, "ignored": ignored}
    arrays = {name: np.asarray(value) for name, value in given.items() if value is not None}
    for name, array in arrays.items():
        if array.dtype != np.bool_:
            raise InputError(
                f"expected {name} to be bool, got {array.dtype}",
                hint="logits: logits > 0; one object of a label map: labels == 3",
            )
    predicted, truth = arrays["predicted"], arrays["truth"]
    if any(array.shape != truth.shape for array in arrays.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"expected masks of one shape, got {shapes}")
    if ranks is not None and truth.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise InputError(f"expected masks of {wanted} axes, got shape {truth.shape}")
    if ignored is None:
        return predicted, truth
    kept = ~arrays["ignored"]
    return predicted & kept, truth & kept


def iou(predicted: NDArray[Any], truth: NDArray[Any], ignored: NDArray[Any] | None = None) -> float:
    """Return intersection over union, the J of the DAVIS benchmarks.

    All arrays are bool and of one shape, any; the pixels of `ignored` are removed from both masks.

    Returns:
        A number in [0, 1]; 1 if both masks are empty, 0 if one is.

    Raises:
        InputError: Masks that are not bool or not of one shape.

    Examples:
        >>> iou(np.array([True, True, False]), np.array([False, True, False]))
        0.5
    """
    predicted, truth = mask_pair(predicted, truth, ignored)
    union = np.count_nonzero(predicted | truth)
    return float(np.count_nonzero(predicted & truth) / union) if union else 1.0


def dice(
    predicted: NDArray[Any], truth: NDArray[Any], ignored: NDArray[Any] | None = None
) -> float:
    """Return the Dice coefficient (DSC): twice the shared pixels by the pixels of both.

    Arguments, range and errors are those of `iou`.

    Examples:
        >>> dice(np.array([True, True, False, True]), np.array([False, True, False, False]))
        0.5
    """
    predicted, truth = mask_pair(predicted, truth, ignored)
    pixels = np.count_nonzero(predicted) + np.count_nonzero(truth)
    return float(2 * np.count_nonzero(predicted & truth) / pixels) if pixels else 1.0
