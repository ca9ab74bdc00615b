"""Clicks and loose boxes as a person would give them, made from ground truth.

A click is on a pixel: its coordinates are the column and the row of that pixel. Everything random
comes from the generator passed in, so that the same seed gives the same prompts. Clicks follow
RITM (arXiv 2102.06583), loose boxes the SAM paper (arXiv 2304.02643, appendix A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.ops.boxes import mask_to_box_xyxy

Box: TypeAlias = "tuple[float, float, float, float]"
_NEAR_SPREAD = 0.4  # of the logarithm of a near box's sides
_NEAR_LEAST_PX = 2.0  # half a side


@dataclass(frozen=True)
class Click:
    """A click on one pixel.

    Attributes:
        x: Column of the pixel; a whole number.
        y: Row of the pixel; a whole number.
        label: 1 on the object, 0 on the background.
    """

    x: float
    y: float
    label: int


def centre_click(mask: NDArray[np.bool_]) -> Click:
    """Click the pixel of an object that is furthest from everything else.

    What lies outside the image counts as background. Of several such pixels the first is taken,
    row by row.

    Raises:
        InputError: No bool (H, W), or an empty mask.
    """
    check_object(mask)
    return Click(*_deepest(mask)[1:], 1)


def error_click(
    mask: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    ignored: NDArray[np.bool_] | None = None,
    *,
    clicked: Sequence[Click] = (),
) -> Click | None:
    """Click the middle of the thickest part of what a prediction has wrong, by RITM's rule.

    The middle is the pixel furthest from what is right, from pixels that count for nothing and
    from the image's edge; of several the first, row by row. Where too much and too little are
    equally thick, the click is on the background. The object, the prediction and the pixels that
    are ignored are bool (H, W); the pixels of `clicked`, given already, are not clicked again.

    Returns:
        A click with label 1 on what is missing, or with label 0 on what is too much; None where
        nothing is wrong, or all of it has been clicked.

    Raises:
        InputError: Another type, or shapes that differ.
    """
    missing, excess = _errors(mask, predicted, ignored)
    taken = [(round(click.y), round(click.x)) for click in clicked]
    more, less = _deepest(missing, taken), _deepest(excess, taken)
    label = int(more[0] > less[0])
    distance, x, y = more if label else less
    return Click(x, y, label) if distance else None


def random_click(mask: NDArray[np.bool_], rng: np.random.Generator, *, label: int = 1) -> Click:
    """Click a pixel of a mask, each as likely as any other.

    Raises:
        InputError: No bool (H, W), or an empty mask.
    """
    check_object(mask)
    places = np.flatnonzero(mask)
    row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
    return Click(float(column), float(row), label)


def random_error_click(
    mask: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    rng: np.random.Generator,
    ignored: NDArray[np.bool_] | None = None,
) -> Click | None:
    """Click a pixel that is wrong, each as likely as any other; otherwise as `error_click`."""
    missing, excess = _errors(mask, predicted, ignored)
    wrong = missing | excess
    if not wrong.any():
        return None
    click = random_click(wrong, rng)
    return Click(click.x, click.y, int(missing[int(click.y), int(click.x)]))


def jittered_box(
    box_xyxy: ArrayLike,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    *,
    share: float = 0.1,
    limit_px: float = 20.0,
) -> Box:
    """Move each edge of a box by chance, as a box drawn by hand is off.

    Args:
        box_xyxy: (4,) in pixels, right and bottom edges exclusive.
        size_hw: Height and width of the image, pixels.
        rng: The source of chance.
        share: Standard deviation of the noise, as a share of the box's width or height.
        limit_px: The furthest an edge moves.

    Returns:
        x0, y0, x1, y1 inside the image, at least one pixel wide and high.

    Raises:
        InputError: A box without area or outside the image, or noise below 0.
    """
    if share < 0 or limit_px < 0:
        raise InputError(
            f"expected noise of 0 or more for a box, got a share of {share} and at most "
            f"{limit_px} px"
        )
    box = np.asarray(box_xyxy, np.float64)
    height, width = size_hw
    if box.shape != (4,) or not (
        max(box[0], 0) < min(box[2], width) and max(box[1], 0) < min(box[3], height)
    ):
        raise InputError(
            f"expected a box with area inside the image of {width} x {height} pixels, "
            f"got {box.tolist()}"
        )
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + np.clip(rng.normal(0.0, 1.0, 4) * share * sides, -limit_px, limit_px)
    (x0, x1), (y0, y1) = _span(moved[::2], width), _span(moved[1::2], height)
    return x0, y0, x1, y1


def near_box(box_xyxy: ArrayLike, size_hw: tuple[int, int], rng: np.random.Generator) -> Box:
    """Draw a box with its middle in a given one, of about its size; otherwise as `jittered_box`."""
    x0, y0, x1, y1 = np.asarray(box_xyxy, np.float64).tolist()
    x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
    halves = np.exp(rng.normal(0, _NEAR_SPREAD, 2)) * ((x1 - x0) / 2, (y1 - y0) / 2)
    half_w, half_h = np.maximum(halves, _NEAR_LEAST_PX).tolist()
    height, width = size_hw
    left, top = max(0.0, x - half_w), max(0.0, y - half_h)
    return left, top, min(float(width), x + half_w), min(float(height), y + half_h)


def depth_map(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return how deep each pixel of a bool (H, W) mask lies: 255 where deepest, 0 outside alone.

    Raises:
        InputError: Another shape or type, or an empty mask.
    """
    check_object(mask)
    rows, columns, distances = _distances(mask)
    depth = np.zeros(mask.shape, np.uint8)
    # Divided first: the deepest pixel is 255 exactly, and no rounding takes it past that.
    depth[rows, columns] = np.ceil(distances / distances.max() * 255)
    return depth


def _distances(region: NDArray[np.bool_]) -> tuple[slice, slice, NDArray[np.float64]]:
    """Return rows and columns of the box of a region, and how far each pixel in it is inside."""
    x0, y0, x1, y1 = (int(edge) for edge in mask_to_box_xyxy(region))
    rows, columns = slice(y0, y1), slice(x0, x1)
    # The pixel nearest to one in the box that is not of the region is at most a ring away from
    # the box: the rest of the image changes nothing.
    around = np.pad(region[rows, columns], 1)
    return rows, columns, ndimage.distance_transform_edt(around)[1:-1, 1:-1]


def _deepest(
    region: NDArray[np.bool_], taken: Sequence[tuple[int, int]] = ()
) -> tuple[float, float, float]:
    """Return how far inside the deepest pixel of a region is, and its x and y.

    The pixels `taken`, (row, column), are passed over; without another the distance is 0.
    """
    rows, columns, distances = _distances(region)
    if not distances.size:
        return 0.0, 0.0, 0.0
    for row, column in taken:
        if rows.start <= row < rows.stop and columns.start <= column < columns.stop:
            distances[row - rows.start, column - columns.start] = 0.0
    row, column = divmod(int(distances.argmax()), distances.shape[1])
    return float(distances[row, column]), float(column + columns.start), float(row + rows.start)


def _errors(
    mask: NDArray[np.bool_], predicted: NDArray[np.bool_], ignored: NDArray[np.bool_] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what a prediction misses and what it has too much, pixels that count alone."""
    for array, name in ((mask, "mask"), (predicted, "predicted"), (ignored, "ignored")):
        if array is None:
            continue
        check_mask(array, name)
        if array.shape != mask.shape:
            raise InputError(
                f"expected {name} of the mask's shape {mask.shape}, got shape {array.shape}"
            )
    missing, excess = mask & ~predicted, predicted & ~mask
    return (missing, excess) if ignored is None else (missing & ~ignored, excess & ~ignored)


def _span(edges: NDArray[np.float64], length: int) -> tuple[float, float]:
    """Return two edges in order, in [0, length] and at least a pixel apart."""
    low, high = np.sort(edges).clip(0, length).tolist()
    if high - low < 1:
        low = min(max((low + high) / 2 - 0.5, 0.0), max(length - 1.0, 0.0))
        high = min(low + 1, float(length))
    return low, high


def check_mask(mask: NDArray[Any], name: str = "mask") -> None:
    """Refuse what is not a bool array (H, W).

    Raises:
        InputError: Another shape or type; the message calls it `name`.
    """
    got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
    if not got.startswith("bool (") or mask.ndim != 2:
        raise InputError(
            f"expected {name} as a bool array (H, W), got {got}",
            hint="labels == object_id makes a mask of a label map",
        )


def check_object(mask: NDArray[Any]) -> None:
    """Refuse what is not a bool array (H, W) with an object in it.

    Raises:
        InputError: Another shape or type, or an empty mask.
    """
    check_mask(mask)
    if not mask.any():
        raise InputError(
            "expected a mask with at least one pixel, got an empty one",
            hint="leave out objects that are not in the image",
        )
