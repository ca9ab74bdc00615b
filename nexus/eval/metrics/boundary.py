"""How well the outlines of two masks agree.

`boundary_f` is the F of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video
Object Segmentation" (CVPR 2016), as the DAVIS toolkits compute it; `boundary_iou` is that of Cheng
et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (CVPR 2021).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from nexus.core.errors import InputError
from nexus.eval.metrics.overlap import Mask, iou, mask_pair
from nexus.ops.masks import rim


def boundary_f(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    bound: float = 0.008,
    ignored: NDArray[Any] | None = None,
) -> float:
    """Return the F measure of boundary pixels that lie near the other mask's boundary.

    A boundary pixel differs from its right, lower or lower right neighbour; the border of the image
    is no boundary. It is matched if one of the other mask's lies within a disk around it, of radius
    `bound`: below 1 a share of the image's diagonal, rounded up to whole pixels; from 1 on, pixels.
    All arrays are bool (H, W); the pixels of `ignored` are removed from both masks.

    Returns:
        A number in [0, 1]; 1 if both masks are empty, 0 if one is.

    Raises:
        InputError: Masks that are not bool (H, W) of one shape, or a bound that is not above 0.

    Examples:
        >>> mask = np.zeros((40, 40), bool)
        >>> mask[10:30, 10:30] = True
        >>> boundary_f(np.roll(mask, 1, axis=1), mask), boundary_f(~mask, mask)
        (1.0, 1.0)
    """
    if not (math.isfinite(bound) and bound > 0):
        raise InputError(f"expected a bound above 0, got {bound}")
    predicted, truth = mask_pair(predicted, truth, ignored, ranks=(2,))
    if predicted.any() != truth.any():
        return 0.0
    radius = bound if bound >= 1 else math.ceil(bound * math.hypot(*predicted.shape))
    found, wanted = (np.argwhere(_inner_boundary(mask)) for mask in (predicted, truth))
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    precision = _share_near(found, wanted, radius)
    recall = _share_near(wanted, found, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_iou(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    dilation: float = 0.02,
    ignored: NDArray[Any] | None = None,
) -> float:
    """Return the IoU of the rims of two masks: their pixels near background or the image's edge.

    `dilation`, above 0, is the width of the rim as a share of the image's diagonal; rounded to
    whole pixels, at least 1, counted along rows and columns and diagonals alike. The other
    arguments, range and errors are those of `boundary_f`.

    Examples:
        >>> mask = np.zeros((50, 50), bool)
        >>> mask[10:30, 10:30] = True
        >>> boundary_iou(np.roll(mask, 1, axis=1), mask)
        0.3333333333333333
    """
    if not (math.isfinite(dilation) and dilation > 0):
        raise InputError(f"expected a dilation above 0, got {dilation}")
    predicted, truth = mask_pair(predicted, truth, ignored, ranks=(2,))
    width = max(1, round(dilation * math.hypot(*predicted.shape)))
    return iou(rim(predicted, width), rim(truth, width))


def _inner_boundary(mask: Mask) -> Mask:
    """Mark the pixels that differ from the next one to the right, below, or both."""
    # A pixel of the last row or column repeats outside, so that the image's edge is no boundary.
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    boundary: Mask = (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])
    return boundary


def _share_near(points: NDArray[np.int64], others: NDArray[np.int64], radius_px: float) -> float:
    distances, _ = KDTree(others).query(points, distance_upper_bound=radius_px + 1)
    return float(np.count_nonzero(distances <= radius_px) / len(points))
