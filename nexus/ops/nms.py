"""Non-maximum suppression: of things that overlap too much, keep the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError


def nms(boxes_xyxy: ArrayLike, scores: ArrayLike, iou_threshold: float) -> NDArray[np.int64]:
    """Return the boxes that remain when each removes those below it that overlap it too much.

    Equal scores keep their order. A box without area overlaps nothing.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,) higher is better.
        iou_threshold: A box goes if its IoU with a better one that stays is above this; at 1.0
            all stay.

    Returns:
        (K,) indices, best score first.

    Raises:
        InputError: Other shapes, or as many scores as boxes are not given.

    Examples:
        >>> nms([[0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 6, 6]], [0.5, 0.9, 0.1], 0.7).tolist()
        [1, 2]
    """
    # Of whole pixels every IoU is then the quotient nearest to the true one, as 0.7 is to 7 / 10.
    boxes = np.asarray(boxes_xyxy, np.float64)
    values = np.asarray(scores, np.float64)
    if boxes.size == 0 and values.size == 0:
        return np.zeros(0, np.int64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or values.shape != (len(boxes),):
        raise InputError(
            "expected boxes of shape (N, 4) and scores of shape (N,), "
            f"got {boxes.shape} and {values.shape}"
        )
    order = np.argsort(-values, kind="stable")
    x0, y0, x1, y1 = boxes[order].T
    areas = (x1 - x0) * (y1 - y0)
    alive = np.ones(len(order), np.bool_)
    for index in range(len(order)):
        if not alive[index]:
            continue
        rest = index + 1 + np.flatnonzero(alive[index + 1 :])
        width = np.minimum(x1[index], x1[rest]) - np.maximum(x0[index], x0[rest])
        height = np.minimum(y1[index], y1[rest]) - np.maximum(y0[index], y0[rest])
        shared = width.clip(0) * height.clip(0)
        union = areas[index] + areas[rest] - shared
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        alive[rest[iou > iou_threshold]] = False
    return np.asarray(order[alive], np.int64)
