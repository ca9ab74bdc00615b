"""Masks to polygons and back.

A polygon is a ring of x, y corners in pixel edges: the pixel in column 0 and row 0 covers [0, 1] x
[0, 1], as in COCO files. Holes are rings too. An outer ring runs clockwise on the screen and a
hole counter-clockwise, and every hole follows the outer ring it lies in; drawn together by the
even-odd rule the rings give the mask back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.ops.components import components
from nexus.ops.rle import as_mask

Ring: TypeAlias = "list[list[float]]"

_SMALLEST_EPSILON_PX = 0.25


def mask_to_polygons(
    mask: ArrayLike, epsilon_factor: float = 0.01, *, min_iou: float = 0.98
) -> list[Ring]:
    """Outline a mask, holes kept.

    Each ring is simplified by Douglas and Peucker's rule. Where that would change the mask too
    much the tolerance of the whole mask is halved until it does not.

    Args:
        mask: (H, W) bool.
        epsilon_factor: How far corners may be off, as a share of their ring's length; 0 keeps
            every corner, so that the polygons are the mask exactly.
        min_iou: Least IoU of the mask and the polygons drawn; 0 takes the tolerance as it is.

    Returns:
        Rings of [x, y], outer rings clockwise, each followed by its holes; parts that touch at a
        corner alone have rings of their own.

    Raises:
        InputError: Another shape or type, or a factor out of range.

    Examples:
        >>> mask_to_polygons(np.array([[0, 0, 0], [0, 1, 1]], bool))
        [[[1.0, 1.0], [3.0, 1.0], [3.0, 2.0], [1.0, 2.0]]]
    """
    array = as_mask(mask)
    if epsilon_factor < 0 or not 0 <= min_iou <= 1:
        raise InputError(
            "expected an epsilon_factor of 0 or more and a min_iou in [0, 1], "
            f"got {epsilon_factor} and {min_iou}"
        )
    rings = trace_rings(array)
    steps = [np.roll(ring, -1, axis=0) - ring for ring in rings]
    epsilons = [epsilon_factor * float(np.hypot(*step.T).sum()) for step in steps]
    while True:
        simple = [simplify_ring(r, epsilon) for r, epsilon in zip(rings, epsilons, strict=True)]
        kept = [ring for ring in simple if len(ring) >= 3]
        is_exact = max(epsilons, default=0) == 0
        if is_exact or min_iou == 0 or _drawn_iou(array, kept) >= min_iou:
            return [ring.tolist() for ring in kept]
        # Corners of rings are a pixel apart, so that smaller tolerances change nothing.
        epsilons = [e / 2 if e > _SMALLEST_EPSILON_PX else 0.0 for e in epsilons]


def polygons_to_mask(polygons: Sequence[ArrayLike], height: int, width: int) -> NDArray[np.bool_]:
    """Draw polygons by the even-odd rule: a pixel is in if its centre is inside an odd number.

    Gives (H, W) bool.

    Args:
        polygons: Rings of (n, 2) x, y, or flat lists x0, y0, x1, y1, ... as in COCO files. May
            reach out of the image.
        height: Of the image, pixels, H.
        width: Of the image, pixels, W.

    Raises:
        InputError: A ring of fewer than 3 corners, or another shape.

    Examples:
        >>> polygons_to_mask([[[1, 0], [3, 0], [3, 1], [1, 1]]], 2, 4).astype(int).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    # Every crossing of a row's centre line turns what is right of it inside out.
    turns = np.zeros((height, width + 1), np.int32)
    for polygon in polygons:
        ring = _as_ring(polygon)
        following = np.roll(ring, -1, axis=0)
        (x0, y0), (x1, y1) = ring.T, following.T
        first = np.ceil(np.minimum(y0, y1) - 0.5).clip(0, height).astype(np.int64)
        last = np.ceil(np.maximum(y0, y1) - 0.5).clip(0, height).astype(np.int64)
        counts = last - first  # rows whose centre line the edge crosses
        edge = np.repeat(np.arange(len(ring)), counts)
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 != y0)
        crossing = x0[edge] + (rows + 0.5 - y0[edge]) * slope[edge]
        columns = np.ceil(crossing - 0.5).clip(0, width).astype(np.int64)
        np.add.at(turns, (rows, columns), 1)
    inside: NDArray[np.bool_] = (np.cumsum(turns[:, :width], axis=1) & 1).astype(np.bool_)
    return inside


def ring_area(ring: ArrayLike) -> float:
    """Return the signed area of a ring, in pixels: above 0 for an outer ring, below for a hole.

    Raises:
        InputError: Fewer than 3 corners, or another shape.

    Examples:
        >>> ring_area([[1, 1], [3, 1], [3, 2], [1, 2]])
        2.0
    """
    x, y = _as_ring(ring).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def trace_rings(mask: ArrayLike) -> list[NDArray[np.int64]]:
    """Follow the pixel edges around every 4-connected part and every hole of an (H, W) mask.

    Returns:
        (n, 2) x, y of the corners of each ring, ordered and turned as the module says.

    Raises:
        InputError: Another shape or type.

    Examples:
        >>> [len(ring) for ring in trace_rings(np.ones((2, 3), bool))]
        [4]
    """
    array = as_mask(mask)
    starts, following = _edges(array)  # corners, and which corner comes after each
    labels = components(array, connectivity=4)[0]
    seen = np.zeros(len(starts), np.bool_)
    rings = []
    for begin in range(len(starts)):
        if seen[begin]:
            continue
        members, at = [], begin
        while not seen[at]:
            seen[at] = True
            members.append(at)
            at = following[at]
        ring = starts[members]
        # Begins eastward, so that the pixel right below its first corner is in the mask.
        x, y = ring[0]
        rings.append((int(labels[y, x]), ring_area(ring) < 0, ring))
    rings.sort(key=lambda item: item[:2])
    return [ring for _, _, ring in rings]


def simplify_ring(ring: ArrayLike, epsilon: float) -> NDArray[np.float64]:
    """Leave out corners of a ring that are no further than `epsilon` pixels from what remains.

    Of (n, 2) x, y a part comes back, in its order; an `epsilon` of 0 keeps every corner.

    Raises:
        InputError: Fewer than 3 corners, or another shape.

    Examples:
        >>> simplify_ring([[0, 0], [4, 0], [4, 4], [2, 4.1], [0, 4]], 0.5).tolist()
        [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]]
    """
    points = _as_ring(ring)
    if epsilon <= 0:
        return points
    # Two corners far apart stay, and split the ring into two lines.
    far = int(np.argmax(((points - points[0]) ** 2).sum(1)))
    closed = np.concatenate([points, points[:1]])
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, far, -1]] = True
    pending = [(0, far), (far, len(points))]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        along, away = closed[last] - closed[first], closed[first + 1 : last] - closed[first]
        if length := float(np.hypot(*along)):
            distance = np.abs(along[0] * away[:, 1] - along[1] * away[:, 0]) / length
        else:
            distance = np.hypot(away[:, 0], away[:, 1])
        worst = int(np.argmax(distance))
        if distance[worst] > epsilon:
            middle = first + 1 + worst
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    return points[keep[:-1]]


def _edges(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[int]]:
    """Return the straight pieces of all outlines: where each starts, and which follows it.

    The mask is on the right of every piece. Those that run east come first.
    """
    stride = mask.shape[1] + 1
    padded = np.pad(mask, 1).astype(np.int8)
    down = np.diff(padded, axis=0)[:, 1:-1]  # (H + 1, W): 1 where the mask begins, -1 where it ends
    across = np.diff(padded, axis=1)[1:-1]  # (H, W + 1)
    # Corners are numbered y * stride + x. South and west, a run is walked from its end.
    east, north = _runs(down == 1, stride, 1), _runs((across == 1).T, 1, stride)[::-1]
    west, south = _runs(down == -1, stride, 1)[::-1], _runs((across == -1).T, 1, stride)
    pieces = (east, south, west, north)
    begins, ends = (np.concatenate(side) for side in zip(*pieces, strict=True))
    headings = np.repeat(np.arange(4), [len(piece[0]) for piece in pieces])
    keys = begins * 4 + headings
    order = np.argsort(keys)

    def turning(quarters: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the piece that goes on so, and whether there is one."""
        wanted = ends * 4 + (headings + quarters) % 4
        place = order[np.searchsorted(keys, wanted, sorter=order).clip(0, len(keys) - 1)]
        return place, keys[place] == wanted

    # To the right first: at a corner where two parts touch, the outline stays with its own part.
    (right, is_right), (left, _) = turning(1), turning(3)
    following: list[int] = np.where(is_right, right, left).tolist()
    return np.stack([begins % stride, begins // stride], axis=1), following


def _runs(
    flags: NDArray[np.bool_], row_step: int, column_step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the corners where every run of True along the rows starts and ends."""
    changes = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(changes == 1)
    ends = np.nonzero(changes == -1)[1]
    return rows * row_step + starts * column_step, rows * row_step + ends * column_step


def _drawn_iou(mask: NDArray[np.bool_], rings: Sequence[NDArray[np.float64]]) -> float:
    drawn = polygons_to_mask(rings, *mask.shape)
    union = np.count_nonzero(mask | drawn)
    return np.count_nonzero(mask & drawn) / union if union else 1.0


def _as_ring(ring: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.asarray(ring, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"expected a ring of x, y pairs, got {ring!r:.80}") from error
    if array.ndim == 1 and len(array) % 2 == 0:
        array = array.reshape(-1, 2)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 3:
        raise InputError(f"expected a ring of shape (n, 2) with n >= 3, got shape {array.shape}")
    return array
