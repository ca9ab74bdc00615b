"""Boxes as arrays: conversions, overlap and clipping.

`xyxy` boxes are x0, y0, x1, y1 in pixels with exclusive right and bottom edges, so that a box of
one pixel has width 1; `xywh` boxes are x0, y0, width, height, as in COCO files. A mask is (H, W)
bool, or numbers of which those not 0 are foreground. Boxes of another shape than is told, or
that are not numbers, raise an InputError.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError


def tight_box(mask: NDArray[Any]) -> tuple[int, int, int, int]:
    """Return the tight box of a mask, x0, y0, x1, y1 in whole pixels, zeros if it is empty.

    Examples:
        >>> tight_box(np.array([[0, 0, 0], [0, 1, 1]]))
        (1, 1, 3, 2)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return int(columns[0]), top, int(columns[-1]) + 1, bottom


def inclusive_box(mask: NDArray[Any]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of a mask's outermost pixels, zeros if the mask is empty.

    The records of automatic masks count so, and are a pixel narrower and lower than `tight_box`.

    Examples:
        >>> inclusive_box(np.array([[0, 0, 0], [0, 1, 1]]))
        (1, 1, 2, 1)
    """
    x0, y0, x1, y1 = tight_box(mask)
    return x0, y0, max(x1 - 1, 0), max(y1 - 1, 0)


def mask_to_box_xyxy(mask: ArrayLike) -> NDArray[np.float32]:
    """Return the tight box of a mask, (4,) float32 x0, y0, x1, y1, zeros if it is empty.

    Raises:
        InputError: Another shape.

    Examples:
        >>> mask_to_box_xyxy([[0, 0, 0], [0, 1, 1]]).tolist()
        [1.0, 1.0, 3.0, 2.0]
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise InputError(f"expected a mask of shape (H, W), got shape {array.shape}")
    return np.array(tight_box(array), np.float32)


def box_xyxy_to_xywh(boxes: ArrayLike) -> NDArray[np.float32]:
    """Convert (..., 4) x0, y0, x1, y1 to x0, y0, width, height.

    Examples:
        >>> box_xyxy_to_xywh([10, 20, 14, 23]).tolist()
        [10.0, 20.0, 4.0, 3.0]
    """
    array = _boxes(boxes)
    return np.concatenate((array[..., :2], array[..., 2:] - array[..., :2]), axis=-1)


def box_xywh_to_xyxy(boxes: ArrayLike) -> NDArray[np.float32]:
    """Convert (..., 4) x0, y0, width, height to x0, y0, x1, y1.

    Examples:
        >>> box_xywh_to_xyxy([10, 20, 4, 3]).tolist()
        [10.0, 20.0, 14.0, 23.0]
    """
    array = _boxes(boxes)
    return np.concatenate((array[..., :2], array[..., :2] + array[..., 2:]), axis=-1)


def clip_boxes(boxes_xyxy: ArrayLike, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Clip (..., 4) boxes to an image of a size in pixels.

    A box that lies outside collapses to no area on the nearest edge.

    Examples:
        >>> clip_boxes([-5, 2, 30, 9], (8, 20)).tolist()
        [0.0, 2.0, 20.0, 8.0]
    """
    height, width = size_hw
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(_boxes(boxes_xyxy), np.float32(0), limits)


def box_iou(boxes_xyxy: ArrayLike, other_xyxy: ArrayLike) -> NDArray[np.float32]:
    """Return the intersection over union of every pair of (N, 4) and (M, 4) boxes.

    Returns:
        (N, M) in [0, 1]; 0 where neither box has area.

    Examples:
        >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
        [[0.3330000042915344, 0.0]]
    """
    rows, columns = _box_set(boxes_xyxy), _box_set(other_xyxy)
    top_left = np.maximum(rows[:, None, :2], columns[:, :2])  # (N, M, 2)
    bottom_right = np.minimum(rows[:, None, 2:], columns[:, 2:])  # (N, M, 2)
    intersection = np.prod(np.clip(bottom_right - top_left, 0, None), axis=-1)  # (N, M)
    union = _areas(rows)[:, None] + _areas(columns) - intersection  # (N, M)
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return np.asarray(iou, np.float32)


def box_giou(boxes_xyxy: ArrayLike, other_xyxy: ArrayLike) -> NDArray[np.float32]:
    """Return the generalised IoU of (N, 4) and (M, 4) boxes (arXiv 1902.09630), as `box_iou`.

    It is the IoU less the share of the smallest box around both that neither covers, so that it
    tells boxes that nearly touch from boxes far apart: (N, M) in [-1, 1].

    Examples:
        >>> box_giou([[0, 0, 1, 1]], [[0, 0, 1, 1], [3, 0, 4, 1]]).tolist()
        [[1.0, -0.5]]
    """
    rows, columns = _box_set(boxes_xyxy), _box_set(other_xyxy)
    iou = box_iou(boxes_xyxy, other_xyxy)
    corner = np.minimum(rows[:, None, :2], columns[:, :2])  # (N, M, 2)
    reach = np.maximum(rows[:, None, 2:], columns[:, 2:])  # (N, M, 2)
    around = np.prod(reach - corner, axis=-1)  # (N, M)
    # From union = (areas of both) / (1 + IoU).
    union = (_areas(rows)[:, None] + _areas(columns)) / (1 + iou.astype(np.float64))
    waste = np.divide(around - union, around, out=np.zeros_like(around), where=around > 0)
    return np.asarray(iou - waste, np.float32)


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod(np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None), axis=-1))


def _boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        message = f"expected boxes as numbers of shape (..., 4), got {boxes!r:.80}"
        raise InputError(message) from error
    if array.ndim == 0 or array.shape[-1] != 4:
        raise InputError(f"expected boxes of shape (..., 4), got shape {array.shape}")
    return array


def _box_set(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Return (N, 4) in float64, in which areas of large images stay exact."""
    array = _boxes(boxes_xyxy)
    if array.ndim != 2:
        raise InputError(
            f"expected boxes of shape (N, 4), got shape {array.shape}",
            hint="a single box is [[x0, y0, x1, y1]]",
        )
    return array.astype(np.float64)
