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
    one, two = (np.asarray(stack, np.bool_) for stack in (masks, other))
    if one.ndim != 3 or two.ndim != 3 or one.shape[1:] != two.shape[1:]:
        raise InputError(
            f"expected stacks of shapes (N, H, W) and (M, H, W), got {one.shape} and {two.shape}"
        )
    # float32 counts exactly up to 2^24 pixels, and its products are fast.
    kind = np.float32 if one[:1].size < 2**24 else np.float64
    flat_one, flat_two = (stack.reshape(len(stack), -1).astype(kind) for stack in (one, two))
    shared = (flat_one @ flat_two.T).astype(np.float64)
    areas_one, areas_two = (flat.sum(1, dtype=np.float64) for flat in (flat_one, flat_two))
    union = areas_one[:, None] + areas_two - shared
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return iou


def mask_to_rle(mask: NDArray[Any], compressed: bool = True) -> dict[str, Any]:
    """Encode a mask as COCO RLE.

    Args:
        mask: (H, W) bool, or integers of 0 and 1.
        compressed: Write the counts as a string, as `encode_rle` does, or as a list of lengths.

    Raises:
        InputError: Another shape or type.

    Examples:
        >>> mask_to_rle(np.array([[False, True], [True, True]]), compressed=False)
        {'size': [2, 2], 'counts': [1, 3]}
    """
    rle = encode_rle(mask)
    return rle if compressed else {**rle, "counts": rle_counts(rle).tolist()}


def vote(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the mask that more than half of several masks agree on.

    Args:
        masks: One or more (H, W) bool of one size.

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
