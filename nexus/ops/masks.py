"""Masks as arrays: overlap, stability, run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.ops.rle import encode_rle, rle_counts


def stability_score(logits: ArrayLike, threshold: float = 0.0, offset: float = 1.0) -> float:
    """Return how little a mask changes with its threshold: IoU of a stricter and a laxer one.

    The stricter mask lies inside the laxer, so that their IoU is a quotient of areas.

    Args:
        logits: (H, W) mask logits at the size the mask is used at.
        threshold: Where the mask is cut.
        offset: How far to either side, 0 or more.

    Returns:
        A number in [0, 1]; 0 if nothing is above the laxer threshold.

    Raises:
        InputError: A negative offset.

    Examples:
        >>> stability_score([[-2, -0.5, 0.5, 2]])
        0.3333333333333333
    """
    if offset < 0:
        raise InputError(f"expected an offset of 0 or more, got {offset}")
    array = np.asarray(logits)
    laxer = np.count_nonzero(array > threshold - offset)
    return float(np.count_nonzero(array > threshold + offset) / laxer) if laxer else 0.0


def mask_iou(masks: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of every pair of two stacks of masks.

    Args:
        masks: (N, H, W) bool.
        other: (M, H, W) bool.

    Returns:
        (N, M) in [0, 1]; 0 where both masks are empty.

    Raises:
        InputError: Stacks of other shapes or of different sizes.

    Examples:
        >>> mask_iou([[[True, True, False]]], [[[False, True, True]]]).round(3).tolist()
        [[0.333]]
    """
    rows, columns = (np.asarray(stack, np.bool_) for stack in (masks, other))
    if rows.ndim != 3 or columns.ndim != 3 or rows.shape[1:] != columns.shape[1:]:
        raise InputError(
            "expected stacks of shapes (N, H, W) and (M, H, W), "
            f"got {rows.shape} and {columns.shape}"
        )
    # float32 counts exactly up to 2^24 pixels, and its products are fast.
    kind = np.float32 if rows[:1].size < 2**24 else np.float64
    flat = [stack.reshape(len(stack), -1).astype(kind) for stack in (rows, columns)]
    shared = (flat[0] @ flat[1].T).astype(np.float64)
    union = np.add.outer(*(part.sum(1, dtype=np.float64) for part in flat)) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))


def rim(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask within so many rows and columns of its outside.

    Args:
        mask: (H, W) bool; outside the array is background.
        width_px: 1 or more; diagonal steps count as one.

    Examples:
        >>> rim(np.ones((3, 3), bool), 1).astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    inner = np.pad(mask, width_px)
    for _ in range(2):
        covered = 1
        while covered < 2 * width_px + 1:  # each pass widens the window, at most to its double
            step = min(covered, 2 * width_px + 1 - covered)
            inner = inner[:-step] & inner[step:]
            covered += step
        inner = inner.T
    return np.asarray(mask & ~inner)


def mask_to_rle(mask: NDArray[Any], compressed: bool = True) -> dict[str, Any]:
    """Encode an (H, W) mask of bool, or of 0 and 1, as COCO RLE.

    The counts are a compressed string, as `encode_rle` gives it, or a list of lengths.

    Raises:
        InputError: Another shape or type.

    Examples:
        >>> mask_to_rle(np.array([[False, True], [True, True]]), compressed=False)
        {'size': [2, 2], 'counts': [1, 3]}
    """
    rle = encode_rle(mask)
    return rle if compressed else {**rle, "counts": rle_counts(rle).tolist()}


def vote(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the mask that more than half of one or more (H, W) masks agree on.

    Raises:
        InputError: No mask, or different sizes.

    Examples:
        >>> vote([np.array([[1, 1, 0]], bool), np.array([[0, 1, 0]], bool)]).astype(int).tolist()
        [[0, 1, 0]]
    """
    if not masks or len({mask.shape for mask in masks}) != 1:
        raise InputError(f"expected masks of one size, got shapes {[mask.shape for mask in masks]}")
    votes = np.sum(masks, axis=0, dtype=np.int32)
    return np.asarray(votes >= len(masks) // 2 + 1)
