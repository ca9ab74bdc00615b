"""Connected components: count them, fill holes, drop specks.

Two pixels are connected across an edge (connectivity 4), or also across a corner (8). Masks are
(H, W) bool; areas are in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.ops.rle import as_mask


def components(mask: ArrayLike, connectivity: int = 8) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Number the connected components of a mask.

    Returns:
        (H, W) labels, 0 outside the mask and 1..n in it; and (n + 1,) areas by label, that of the
        outside first.

    Raises:
        InputError: Another shape or type, or another connectivity.

    Examples:
        >>> labels, areas = components(np.eye(2, dtype=bool), connectivity=4)
        >>> labels.tolist(), areas.tolist()
        ([[1, 0], [0, 2]], [2, 1, 1])
    """
    array = as_mask(mask)
    if connectivity not in (4, 8):
        raise InputError(f"expected connectivity 4 or 8, got {connectivity!r}")
    structure = np.ones((3, 3)) if connectivity == 8 else None
    numbers, count = ndimage.label(array, structure=structure)
    labels = np.asarray(numbers, np.int32)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)


def fill_holes(mask: ArrayLike, max_area: int | None = None) -> NDArray[np.bool_]:
    """Fill the holes of a mask: background that does not reach the edge of the image.

    Holes of at most `max_area` are filled; None fills all.

    Raises:
        InputError: Another shape or type.

    Examples:
        >>> ring = np.ones((3, 3), bool)
        >>> ring[1, 1] = False
        >>> int(fill_holes(ring).sum())
        9
    """
    array = as_mask(mask)
    labels, areas = components(~array, connectivity=4)
    hole = np.ones(len(areas), np.bool_) if max_area is None else areas <= max_area
    for border in (0, labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        hole[border] = False
    return np.asarray(array | hole[labels])


def remove_small_regions(
    mask: ArrayLike, min_area: int = 100, connectivity: int = 4
) -> NDArray[np.bool_]:
    """Remove the parts of a mask that have fewer than `min_area` pixels.

    Raises:
        InputError: Another shape or type, or another connectivity.

    Examples:
        >>> remove_small_regions(np.array([[1, 1, 0, 1]], bool), min_area=2).astype(int).tolist()
        [[1, 1, 0, 0]]
    """
    labels, areas = components(mask, connectivity)
    keep = areas >= min_area
    keep[0] = False
    return np.asarray(keep[labels])


def clean_mask(mask: ArrayLike, min_area: int) -> tuple[NDArray[np.bool_], bool]:
    """Fill small holes, then remove small specks, as SAM's automatic masks do.

    Unlike `fill_holes`, background at the edge of the image counts as a hole if it is small; and
    of a mask of specks alone the largest stays. Components are 8-connected. Holes and specks of
    fewer pixels than `min_area` go.

    Returns:
        The mask, and whether anything was changed.

    Raises:
        InputError: Another shape or type.

    Examples:
        >>> mask, changed = clean_mask(np.array([[1, 1, 1, 0, 0, 0, 1]], bool), min_area=2)
        >>> mask.astype(int).tolist(), changed
        ([[1, 1, 1, 0, 0, 0, 0]], True)
    """
    array = as_mask(mask)
    labels, areas = components(~array)
    small = areas < min_area
    small[0] = False
    has_holes = bool(small.any())
    if has_holes:
        array = array | small[labels]
    labels, areas = components(array)
    keep = areas >= min_area
    keep[0] = False
    if keep[1:].all():
        return array, has_holes
    if not keep.any():
        keep[1 + int(np.argmax(areas[1:]))] = True
    return keep[labels], True
