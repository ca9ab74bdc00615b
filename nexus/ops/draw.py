"""Draw masks and prompts over an image, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.ops.boxes import tight_box
from nexus.ops.captions import Caption, draw_captions
from nexus.ops.labels import lowest_first
from nexus.ops.masks import rim
from nexus.ops.rle import as_mask

PALETTE: tuple[tuple[int, int, int], ...] = (
    (0, 158, 255),
    (255, 159, 0),
    (0, 190, 130),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 200),
    (120, 220, 255),
    (110, 90, 220),
)
"""Colours of masks in turn: Okabe and Ito's set for all kinds of colour vision, made brighter."""

_FOREGROUND = (30, 170, 60)
_BACKGROUND = (215, 40, 40)
_WHITE = (255, 255, 255)
_DARK = (20, 20, 20)


def overlay(
    image: NDArray[Any],
    masks: ArrayLike | Sequence[ArrayLike],
    *,
    boxes_xyxy: ArrayLike | None = None,
    points_xy: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    captions: Sequence[Caption | str] | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
    alpha: float = 0.5,
    outline: bool = True,
) -> NDArray[np.uint8]:
    """Return a picture of an image with masks, boxes and points over it.

    Args:
        image: (H, W) or (H, W, 1 | 3 | 4), RGB; uint8, float in [0, 1], or uint16, of which the
            darkest to brightest value are spread over the 8 bits shown.
        masks: (M, H, W) or (H, W), bool or 0 and 1; the later lies on top. May have M of 0.
        boxes_xyxy: (K, 4) or (4,), x0, y0, x1, y1 in pixels of the image, edges exclusive; a box
            has the colour of the mask with its number.
        points_xy: (N, 2) or (2,) in pixels of the image.
        labels: (N,) of the points: 1 foreground (green, with a plus), 0 background (red, with a
            minus). None means all foreground.
        captions: M, written at the masks: `Caption(number, name, score)`, or any text. None
            writes nothing. See `nexus.ops.captions` for how they are placed.
        colors: RGB of the masks in turn; `PALETTE` if None.
        alpha: How much of a mask's colour covers the image, 0 none to 1 all.
        outline: Draw each mask's edge in its full colour. Lines grow with the image, so that they
            look alike on a small and on a large one.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: Shapes that do not fit each other, or values out of range.

    Examples:
        >>> picture = overlay(np.zeros((2, 2)), np.eye(2, dtype=bool), alpha=1, outline=False)
        >>> picture[..., 0].tolist(), picture[..., 2].tolist()
        ([[0, 0], [0, 0]], [[255, 0], [0, 255]])
    """
    canvas = _as_picture(image)
    height, width = canvas.shape[:2]
    stack = _as_stack(masks, (height, width))
    if not 0 <= alpha <= 1:
        raise InputError(f"expected alpha in [0, 1], got {alpha!r}")
    palette = _as_palette(colors)
    line = max(1, round(max(height, width) / 400))
    for index, mask in enumerate(stack):
        _blend(canvas, mask, palette[index % len(palette)], alpha, line if outline else 0)
    boxes = _rows(boxes_xyxy, 4, "boxes_xyxy")
    for index, box in enumerate(boxes):
        _draw_box(canvas, box, palette[index % len(palette)], line)
    points = _rows(points_xy, 2, "points_xy")
    canvas = _draw_points(canvas, points, _as_labels(labels, len(points)))
    return _draw_captions(canvas, stack, captions, palette, boxes, points)


def overlay_objects(
    image: NDArray[Any],
    object_ids: Sequence[int],
    masks: NDArray[np.bool_],
    scores: ArrayLike | None = None,
    *,
    labels: bool | Mapping[int, str] = False,
    **drawing: Any,
) -> NDArray[np.uint8]:
    """Return a picture of an image with numbered objects, each in the colour its number always has.

    Args:
        image: As in `overlay`.
        object_ids: K numbers.
        masks: (K, H, W); where they overlap, the highest of the scores lies on top.
        scores: (K,), NaN where a score is not known; None if none is.
        labels: Write number and score at each object; names by number are written too.
        drawing: What else `overlay` takes, but for `colors` and `captions`.

    Raises:
        InputError: As in `overlay`; or numbers, masks and scores that are not as many.

    Examples:
        >>> picture = overlay_objects(np.zeros((1, 2)), [2], np.ones((1, 1, 2), bool), alpha=1)
        >>> tuple(picture[0, 0].tolist()) == PALETTE[1]
        True
    """
    known = np.full(len(object_ids), np.nan) if scores is None else np.asarray(scores, np.float64)
    if known.shape != (len(object_ids),) or len(masks) != len(object_ids):
        raise InputError(
            f"expected a mask and a score for each of {len(object_ids)} objects, "
            f"got {len(masks)} masks and scores of shape {known.shape}"
        )
    order = lowest_first(known)
    ids = [int(object_ids[place]) for place in order]
    captions = None
    if labels or isinstance(labels, Mapping):
        names = labels if isinstance(labels, Mapping) else {}
        told = zip(ids, known[order].tolist(), strict=True)
        captions = [Caption(number, names.get(number), score) for number, score in told]
    colors = [PALETTE[(number - 1) % len(PALETTE)] for number in ids]
    drawing = {"captions": captions, "colors": colors or None, **drawing}
    return overlay(image, masks[order], **drawing)


def _as_picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a fresh (H, W, 3) uint8 copy of any image a model takes."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise InputError(
            "expected an image of shape (H, W) or (H, W, C), C of 1, 3 or 4, "
            f"got shape {np.shape(image)}"
        )
    array = array[..., :3]
    if array.dtype == np.uint16:
        low, high = int(array.min()), int(array.max())
        array = ((array - np.float32(low)) * np.float32(255 / max(1, high - low))).round()
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):
            raise InputError(
                f"expected float values in [0, 1], got {array.min():g} to {array.max():g}",
                hint="nexus.data.images.load_image checks and converts images",
            )
        array = (array.clip(0, 1) * np.float32(255)).round()
    elif array.dtype != np.uint8:
        raise InputError(
            f"expected an image of uint8, uint16 or float, got {array.dtype}",
            hint="nexus.data.images.load_image checks and converts images",
        )
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)), np.uint8)


def _as_stack(masks: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        stack = np.asarray(masks)
    except ValueError as error:
        raise InputError("expected masks of one size, got several sizes") from error
    if stack.size == 0 and stack.shape[0] == 0:
        return np.zeros((0, *size_hw), np.bool_)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3 or stack.shape[1:] != size_hw:
        raise InputError(
            f"expected masks of shape (M, {size_hw[0]}, {size_hw[1]}), as the image is, "
            f"got shape {np.shape(masks)}",
            hint="pass the image the masks were made from, at its original size",
        )
    return stack if stack.dtype == np.bool_ else np.stack([as_mask(mask) for mask in stack])


def _as_palette(colors: Sequence[tuple[int, int, int]] | None) -> Sequence[tuple[int, int, int]]:
    if colors is None:
        return PALETTE
    array = np.asarray(colors)
    if array.ndim != 2 or array.shape[1] != 3 or array.min() < 0 or array.max() > 255:
        raise InputError(f"expected colors as RGB triples of 0 to 255, got {colors!r:.80}")
    return [(int(red), int(green), int(blue)) for red, green, blue in array]


def _rows(values: ArrayLike | None, columns: int, name: str) -> NDArray[np.float64]:
    array = np.asarray(() if values is None else values, np.float64)
    array = np.atleast_2d(array) if array.size else np.zeros((0, columns))
    if array.ndim != 2 or array.shape[1] != columns or not np.isfinite(array).all():
        raise InputError(
            f"expected {name} as finite numbers of shape (N, {columns}), got shape {array.shape}"
        )
    return array


def _as_labels(labels: ArrayLike | None, count: int) -> NDArray[np.bool_]:
    array = np.ones(count) if labels is None else np.atleast_1d(np.asarray(labels))
    if array.shape != (count,) or not np.isin(array, (0, 1)).all():
        raise InputError(
            f"expected labels of 0 or 1, one for each of {count} points, got {labels!r:.80}"
        )
    return array.astype(np.bool_)


def _blend(
    canvas: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    color: tuple[int, int, int],
    alpha: float,
    line: int,
) -> None:
    """Lay one mask's colour over the canvas in place, its edge `line` pixels wide in full."""
    x0, y0, x1, y1 = tight_box(mask)
    window = np.s_[y0:y1, x0:x1]
    part, region = mask[window], canvas[window]
    shades = np.arange(256)
    for channel, value in enumerate(color):
        blended = (shades + alpha * (value - shades)).round().astype(np.uint8)  # (256,)
        plane = region[..., channel]
        np.copyto(plane, blended[plane], where=part)
    if line:
        region[rim(part, line)] = color


def _draw_box(
    canvas: NDArray[np.uint8], box: NDArray[np.float64], color: tuple[int, int, int], line: int
) -> None:
    """Draw a box in place: its colour, and around it a thin dark line to show on any ground."""
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = box.round().clip(-4 * line, max(height, width) + 4 * line).astype(int)
    thin = max(1, line // 2) if min(x1 - x0, y1 - y0) >= 12 * line else 0
    _frame(canvas, (x0 - thin, y0 - thin, x1 + thin, y1 + thin), _DARK, thin)
    _frame(canvas, (x0, y0, x1, y1), color, line)


def _frame(
    canvas: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    color: tuple[int, int, int],
    line: int,
) -> None:
    """Fill the `line` pixels inside a box's edges, as far as they are on the canvas."""
    x0, y0, x1, y1 = box
    sides = (
        (x0, y0, x1, min(y0 + line, y1)),
        (x0, max(y1 - line, y0), x1, y1),
        (x0, y0, min(x0 + line, x1), y1),
        (max(x1 - line, x0), y0, x1, y1),
    )
    for left, top, right, bottom in sides:
        canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = color


def _draw_points(
    canvas: NDArray[np.uint8], points: NDArray[np.float64], foreground: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the canvas with a disc at each point: white rim, and a sign if there is room."""
    if len(points) == 0:
        return canvas
    from PIL import Image

    radius = _radius(canvas)
    picture = Image.fromarray(canvas)
    for (x, y), is_foreground in zip(points, foreground, strict=True):
        marker = _marker(radius, bool(is_foreground))
        corner = (int(np.floor(x)) - marker.width // 2, int(np.floor(y)) - marker.height // 2)
        picture.paste(marker, corner, marker)
    return np.array(picture)


def _radius(canvas: NDArray[np.uint8]) -> int:
    """Return how large the disc of a point is, in pixels."""
    height, width = canvas.shape[:2]
    return int(np.clip(round(max(height, width) / 90), 1, max(1, min(height, width) // 8)))


def _draw_captions(
    canvas: NDArray[np.uint8],
    stack: NDArray[np.bool_],
    captions: Sequence[Caption | str] | None,
    palette: Sequence[tuple[int, int, int]],
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Write captions in place, and over no point."""
    if captions is None:
        return canvas
    if isinstance(captions, str) or len(captions) != len(stack):
        got = repr(captions)[:80] if isinstance(captions, str) else len(captions)
        raise InputError(f"expected a caption for each of {len(stack)} masks, got {got}")
    colors = [palette[index % len(palette)] for index in range(len(stack))]
    reach = _radius(canvas) * 4 // 3 + 1
    discs = np.hstack([np.floor(points) - reach, np.floor(points) + reach + 1])
    whole = boxes.clip(-1e6, 1e6).round().astype(int)
    return draw_captions(canvas, stack, captions, colors, boxes=whole.tolist(), kept_free=discs)


def _marker(radius: int, foreground: bool) -> Any:
    """Return a smooth RGBA disc, drawn four times larger and scaled down."""
    from PIL import Image, ImageDraw

    rim = max(1, radius // 3) if radius > 2 else 0
    side = 2 * (radius + rim) + 1
    fine, middle = 4, 2 * side
    marker = Image.new("RGBA", (side * fine, side * fine), (*_WHITE, 0))
    draw = ImageDraw.Draw(marker)
    fill = _FOREGROUND if foreground else _BACKGROUND
    for reach, color in ((side * fine / 2, _WHITE), (side * fine / 2 - rim * fine, fill)):
        low, high = middle - reach, middle + reach - 1
        draw.ellipse((low, low, high, high), fill=(*color, 255))
    if radius > 2:
        arm, half = round(radius * fine * 0.55), max(fine // 2, round(radius * fine * 0.13))
        strokes = [(arm, half), (half, arm)] if foreground else [(arm, half)]
        for x, y in strokes:
            corners = (middle - x, middle - y, middle + x - 1, middle + y - 1)
            draw.rectangle(corners, fill=_WHITE)
    return marker.resize((side, side), Image.Resampling.BOX)
