"""Boxes as arrays: conversions, overlap and clipping.

`xyxy` boxes are x0, y0, x1, y1 in pixels with exclusive right and bottom edges, so that a box of
one pixel has width 1; `xywh` boxes are x0, y0, width, height, as in COCO files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError


def mask_to_box_xyxy(mask: ArrayLike) -> NDArray[np.float32]:
    """Return the tight box of a mask, zeros if the mask is empty.

    Args:
        mask: (H, W) bool, or numbers of which those not 0 are foreground.

    Returns:
        (4,) float32 x0, y0, x1, y1, right and bottom edge exclusive.

    Raises:
        InputError: Another shape.

    Examples:
        >>> mask_to_box_xyxy([[0, 0, 0], [0, 1, 1]]).tolist()
        [1.0, 1.0, 3.0, 2.0]
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise InputError(f"expected a mask of shape (H, W), got shape {array.shape}")
    columns = np.flatnonzero(array.any(axis=0))
    rows = np.flatnonzero(array.any(axis=1))
    if len(columns) == 0:
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def box_xyxy_to_xywh(boxes: ArrayLike) -> NDArray[np.float32]:
    """Convert x0, y0, x1, y1 to x0, y0, width, height.

    Args:
        boxes: (..., 4).

    Raises:
        InputError: Another shape, or values that are not numbers.

    Examples:
        >>> box_xyxy_to_xywh([10, 20, 14, 23]).tolist()
        [10.0, 20.0, 4.0, 3.0]
    """
    array = _boxes(boxes)
    return np.concatenate((array[..., :2], array[..., 2:] - array[..., :2]), axis=-1)


def box_xywh_to_xyxy(boxes: ArrayLike) -> NDArray[np.float32]:
    """Convert x0, y0, width, height to x0, y0, x1, y1.

    Args:
        boxes: (..., 4).

    Raises:
        InputError: Another shape, or values that are not numbers.

    Examples:
        >>> box_xywh_to_xyxy([10, 20, 4, 3]).tolist()
        [10.0, 20.0, 14.0, 23.0]
    """
    array = _boxes(boxes)
    return np.concatenate((array[..., :2], array[..., :2] + array[..., 2:]), axis=-1)


def clip_boxes(boxes_xyxy: ArrayLike, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Clip boxes to an image; a box that lies outside collapses to no area on the nearest edge.

    Args:
        boxes_xyxy: (..., 4).
        size_hw: Height and width of the image, pixels.

    Raises:
        InputError: Another shape, or values that are not numbers.

    Examples:
        >>> clip_boxes([-5, 2, 30, 9], (8, 20)).tolist()
        [0.0, 2.0, 20.0, 8.0]
    """
    height, width = size_hw
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(_boxes(boxes_xyxy), np.float32(0), limits)


def box_iou(boxes_xyxy: ArrayLike, other_xyxy: ArrayLike) -> NDArray[np.float32]:
    """Return the intersection over union of every pair of two sets of boxes.

    Args:
        boxes_xyxy: (N, 4).
        other_xyxy: (M, 4).

    Returns:
        (N, M) in [0, 1]; 0 where neither box has area.

    Raises:
        InputError: Another shape, or values that are not numbers.

    Examples:
        >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
        [[0.3330000042915344, 0.0]]
    """
    one = _box_set(boxes_xyxy)
    two = _box_set(other_xyxy)
    top_left = np.maximum(one[:, None, :2], two[None, :, :2])  # (N, M, 2)
    bottom_right = np.minimum(one[:, None, 2:], two[None, :, 2:])  # (N, M, 2)
    intersection = np.prod(np.clip(bottom_right - top_left, 0, None), axis=-1)  # (N, M)
    union = _areas(one)[:, None] + _areas(two)[None, :] - intersection  # (N, M)
    iou: NDArray[np.float32] = np.divide(
        intersection, union, out=np.zeros_like(union), where=union > 0
    ).astype(np.float32)
    return iou


def box_giou(boxes_xyxy: ArrayLike, other_xyxy: ArrayLike) -> NDArray[np.float32]:
    """Return the generalised IoU of every pair of two sets of boxes (arXiv 1902.09630).

    It is the IoU less the share of the smallest box around both that neither covers, so that it
    tells boxes that nearly touch from boxes far apart.

    Args:
        boxes_xyxy: (N, 4).
        other_xyxy: (M, 4).

    Returns:
        (N, M) in [-1, 1].

    Raises:
        InputError: Another shape, or values that are not numbers.

    Examples:
        >>> box_giou([[0, 0, 1, 1]], [[0, 0, 1, 1], [3, 0, 4, 1]]).tolist()
        [[1.0, -0.5]]
    """
    one, two = _box_set(boxes_xyxy), _box_set(other_xyxy)
    iou = box_iou(boxes_xyxy, other_xyxy)
    corner = np.minimum(one[:, None, :2], two[None, :, :2])  # (N, M, 2)
    around = np.prod(np.maximum(one[:, None, 2:], two[None, :, 2:]) - corner, axis=-1)  # (N, M)
    # From union = (areas of both) / (1 + IoU).
    union = (_areas(one)[:, None] + _areas(two)[None, :]) / (1 + iou.astype(np.float64))
    waste = np.divide(around - union, around, out=np.zeros_like(around), where=around > 0)
    giou: NDArray[np.float32] = (iou - waste).astype(np.float32)
    return giou


def _areas(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = np.prod(
        np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None), axis=-1
    )
    return areas


def _boxes(boxes: ArrayLike) -> NDArray[np.float32]:
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected boxes as numbers of shape (..., 4), got {boxes!r:.80}") from (
            error
        )
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
