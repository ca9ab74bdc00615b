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

    Args:
        mask: Bool (H, W).

    Raises:
        InputError: Another shape or type, or an empty mask.
    """
    check_mask(mask)
    deepest = _deepest(mask)
    if deepest is None:
        raise no_object()
    return Click(float(deepest.x), float(deepest.y), 1)


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
    equally thick, the click is on the background.

    Args:
        mask: The object, bool (H, W).
        predicted: What was predicted, bool (H, W).
        ignored: Pixels that count for nothing, bool (H, W).
        clicked: Clicks already given; their pixels are not clicked again.

    Returns:
        A click with label 1 on what is missing, or with label 0 on what is too much; None where
        nothing is wrong, or all of it has been clicked.

    Raises:
        InputError: Another type, or shapes that differ.
    """
    missing, excess = _errors(mask, predicted, ignored)
    taken = [(round(click.y), round(click.x)) for click in clicked]
    more, less = _deepest(missing, taken), _deepest(excess, taken)
    if more is None and less is None:
        return None
    if less is None or (more is not None and more.distance > less.distance):
        label, deepest = 1, more
    else:
        label, deepest = 0, less
    return None if deepest is None else Click(float(deepest.x), float(deepest.y), label)


def random_click(mask: NDArray[np.bool_], rng: np.random.Generator, *, label: int = 1) -> Click:
    """Click a pixel of a mask, each as likely as any other.

    Args:
        mask: Bool (H, W).
        rng: The source of chance.
        label: The label of the click.

    Raises:
        InputError: Another shape or type, or an empty mask.
    """
    check_mask(mask)
    places = np.flatnonzero(mask)
    if not len(places):
        raise no_object()
    row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
    return Click(float(column), float(row), label)


def random_error_click(
    mask: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    rng: np.random.Generator,
    ignored: NDArray[np.bool_] | None = None,
) -> Click | None:
    """Click a pixel that is wrong, each as likely as any other.

    Args:
        mask: The object, bool (H, W).
        predicted: What was predicted, bool (H, W).
        rng: The source of chance.
        ignored: Pixels that count for nothing, bool (H, W).

    Returns:
        A click with label 1 on what is missing, or with label 0 on what is too much; None where
        nothing is wrong.

    Raises:
        InputError: Another type, or shapes that differ.
    """
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
    check_noise(share, limit_px)
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
    (x0, x1), (y0, y1) = _span(moved[0], moved[2], width), _span(moved[1], moved[3], height)
    return x0, y0, x1, y1


@dataclass(frozen=True)
class _Deepest:
    """The pixel of a region furthest from what is outside it, and how far that is in pixels."""

    x: int
    y: int
    distance: float


def _deepest(region: NDArray[np.bool_], taken: Sequence[tuple[int, int]] = ()) -> _Deepest | None:
    """Return the deepest pixel of a region, `taken` (row, column) ones apart; None without one."""
    x0, y0, x1, y1 = (int(edge) for edge in mask_to_box_xyxy(region))
    if x1 == x0:
        return None
    # The pixel nearest to one in the box that is not of the region is at most a ring away from
    # the box: the rest of the image changes nothing.
    around = np.pad(region[y0:y1, x0:x1], 1)
    distances = ndimage.distance_transform_edt(around)[1:-1, 1:-1]
    for row, column in taken:
        if y0 <= row < y1 and x0 <= column < x1:
            distances[row - y0, column - x0] = 0.0
    row, column = divmod(int(distances.argmax()), x1 - x0)
    distance = float(distances[row, column])
    return _Deepest(column + x0, row + y0, distance) if distance > 0 else None


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


def _span(start: float, end: float, length: int) -> tuple[float, float]:
    """Return two edges in order, in [0, length] and at least a pixel apart."""
    low, high = (float(np.clip(edge, 0, length)) for edge in (min(start, end), max(start, end)))
    if high - low < 1:
        low = float(np.clip((low + high) / 2 - 0.5, 0, max(length - 1, 0)))
        high = min(low + 1, float(length))
    return low, high


def check_mask(mask: NDArray[Any], name: str = "mask") -> None:
    """Refuse what is not a bool array (H, W).

    Raises:
        InputError: Another shape or type; the message calls it `name`.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 2:
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(
            f"expected {name} as a bool array (H, W), got {got}",
            hint="labels == object_id makes a mask of a label map",
        )


def check_noise(share: float, limit_px: float) -> None:
    """Refuse noise of a box that is below 0.

    Raises:
        InputError: Either number is below 0.
    """
    if share < 0 or limit_px < 0:
        raise InputError(
            f"expected noise of 0 or more for a box, got a share of {share} and at most "
            f"{limit_px} px"
        )


def no_object() -> InputError:
    """Return the error of a mask without a pixel."""
    return InputError(
        "expected a mask with at least one pixel, got an empty one",
        hint="leave out objects that are not in the image",
    )
