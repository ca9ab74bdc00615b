"""Pictures of masks, however they were saved: one object cut out of grey levels, or a label map.

A label map holds numbers, and its pixels have neighbours with the same number. The edges of a mask
that was smoothed, resized or saved as JPEG are full of levels in between, which are no objects.
What is told here apart is described for users in `docs/readers.md`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nexus.core.errors import ImageError
from nexus.data.images.decoding import decode_stored
from nexus.data.images.loading import DEFAULT_MAX_PIXELS

GREY = "grey levels cut half-way between dark and bright"
COLOUR = "one colour on black read as one object"
ALPHA = "the alpha channel read as one object"
PALETTE = "the white of a palette read as the object, though its number is 0"
BORDER = "the object covers the whole edge of the picture: is the mask inverted?"

# Shares of rough edge pixels: real label maps have up to 0.02 (tiny ones 0.07), masks with JPEG's
# noise 0.06 and more, smoothed ones 0.2 and more.
_MAYBE_SOFT, _SURELY_SOFT, _SOFT_LABELS = 0.04, 0.15, 0.3
_MOST_ROUGH = 8  # pixels a level; an object has hardly any
# A third level shows as flat pixels away from both levels, as a share of the object's pixels, and
# as many pixels between the levels for one on the object's edge.
_MOST_FLAT, _MOST_BETWEEN, _MOST_BETWEEN_LOSSY = 0.005, 6.5, 1.2
_LEAST_SPAN, _LEAST_SPAN_LOSSY, _TWO_LEVELS = 32, 64, 128
_MOST_OF_ALL = 0.35  # of all pixels are between the levels; more are noise
_MOST_SMOOTH = 0.3  # of the pixels between the levels
_FEW_VALUES = 8
_SAME_COLOUR = 48  # spread of a colour after lossy coding, of 255
_COLOUR_NOISE = 24  # spread of the channels of grey after lossy coding, of 255

Values: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"


@dataclass(frozen=True)
class LabelMap:
    """What the picture of a mask says.

    Attributes:
        labels: (H, W) uint8 or uint16, 0 background; of a label map the stored values, of a mask
            of one object its bright level where the object is.
        notes: What had to be done to read it, or looks wrong with it; empty for a plain one.
    """

    labels: Values
    notes: tuple[str, ...] = ()


def read_label_map(
    path: str | os.PathLike[str] | bytes, *, max_pixels: int | None = DEFAULT_MAX_PIXELS
) -> LabelMap:
    """Read the picture of a mask or a label map, of any kind that has one clear meaning.

    A label map stored without loss comes back as `read_mask` gives it. Grey levels, colours or
    alpha that show one object on its ground, as JPEG and smooth edges leave them, are cut half-way,
    which a note tells.

    Args:
        path: The file, or its bytes.
        max_pixels: As in `nexus.data.images.load_image`.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageError: Cannot be read; or its levels or colours are neither two nor numbers of objects,
            as in a label map that was saved as JPEG or resized with smoothing, or in a photograph.
    """
    what = "encoded bytes" if isinstance(path, bytes) else repr(str(Path(path)))
    stored = decode_stored(path, max_pixels=max_pixels)
    if stored.palette is not None:
        found = _of_palette(stored.samples, stored.palette, what)
    elif stored.samples.ndim == 3:
        found = _of_channels(stored.samples, stored.is_lossy, stored.kind, what)
    else:
        found = _of_levels(stored.samples, stored.is_lossy, stored.kind, what)
    return LabelMap(found.labels, (*found.notes, BORDER)) if _is_around(found.labels) else found


def _of_palette(indices: Values, palette: NDArray[np.uint8], what: str) -> LabelMap:
    """Read indices as labels, unless the colours say that they are no numbers of objects."""
    used = np.flatnonzero(np.bincount(indices.ravel()))
    if used[-1] >= len(palette) or len(used) < 2:
        return LabelMap(indices)
    bright = palette.max(axis=1)
    levels = bright[indices]
    first, last = (int(bright[index]) for index in used[[0, -1]])
    if len(used) == 2 and first > last == 0:  # programs that reduce colours order them as they like
        return LabelMap(_above(levels, (last, first)), (PALETTE,))
    if len(used) > 2 and _rough_pixels(levels)[1] >= _MAYBE_SOFT:
        with contextlib.suppress(ImageError):
            found = _of_channels(palette[indices], False, "", what)
            if {GREY, COLOUR} & {*found.notes}:
                return found
    return LabelMap(indices)


def _of_channels(samples: NDArray[Any], is_lossy: bool, kind: str, what: str) -> LabelMap:
    """Read grey in several channels as grey; one colour on black, or alpha, as one object."""
    samples = samples.astype(np.int32)
    if samples.shape[2] in (2, 4):
        alpha, samples = samples[:, :, -1], samples[:, :, :-1]
        if alpha.min() < alpha.max():
            shown = samples[alpha > 0]
            if (shown == shown[0]).all():
                found = _of_levels(alpha.astype(np.uint8), is_lossy, kind, what)
                return LabelMap(found.labels, (ALPHA, *found.notes))
            samples = samples * alpha[:, :, None] // 255
    bright = samples.max(axis=2)
    spread = bright - samples.min(axis=2)
    values = bright.astype(np.uint8)
    if spread.max() <= (_COLOUR_NOISE if is_lossy else 0):
        return _of_levels(values, is_lossy, kind, what)
    # JPEG and WebP keep colours at half the size, so that more is between.
    cut = _cut(values, is_lossy, _MOST_BETWEEN, _rough_pixels(values)[0])
    if cut is not None and cut[0] <= (_COLOUR_NOISE if is_lossy else 0):
        core = samples[values > (cut[0] + 3 * cut[1]) / 4]
        if (np.quantile(core, 0.95, axis=0) - np.quantile(core, 0.05, axis=0)).max() < _SAME_COLOUR:
            return LabelMap(_above(values, cut), (COLOUR,))
    raise ImageError(
        f"expected a mask of one object or a label map of one channel, got {what} in colours",
        hint="save it as a grey or palette PNG whose values are the labels: 0 for the background, "
        "1, 2, ... for the objects",
    )


def _of_levels(values: Values, is_lossy: bool, kind: str, what: str) -> LabelMap:
    """Read one channel: as numbers of objects, or as one object cut out of grey levels."""
    levels = np.flatnonzero(np.bincount(values.ravel()))
    low, high = int(levels[0]), int(levels[-1])
    if is_lossy and 0 < high < _LEAST_SPAN_LOSSY:
        raise _lost(kind, f"{what} with levels {low} to {high}")
    if len(levels) == 1:
        return LabelMap(values)
    if len(levels) == 2:
        if low == 0 or (high - low < _TWO_LEVELS and not is_lossy):
            return LabelMap(values)
        return LabelMap(_above(values, (low, high)), (GREY,))
    rough, share = _rough_pixels(values)
    if share < _MAYBE_SOFT and not is_lossy:
        return LabelMap(values)
    cut = _cut(values, is_lossy, _MOST_BETWEEN_LOSSY if is_lossy else _MOST_BETWEEN, rough)
    if cut is not None:
        return LabelMap(_above(values, cut), (GREY,))
    if is_lossy:
        raise _lost(kind, f"{what} with {len(levels)} grey levels in more than two groups")
    surely = _SURELY_SOFT if high - low >= _LEAST_SPAN else _SOFT_LABELS
    scattered = np.count_nonzero(rough) > _MOST_ROUGH * len(levels)
    if len(levels) <= _FEW_VALUES or not (share >= surely or scattered):
        return LabelMap(values)
    raise ImageError(
        f"expected a mask of two levels or a label map, got {what} with {len(levels)} grey levels "
        "that run into each other",
        hint="it is a photograph, a map of scores, or a label map that was resized with smoothing: "
        "resize label maps with the nearest neighbour, and cut scores at a threshold",
    )


def _lost(kind: str, got: str) -> ImageError:
    return ImageError(
        f"expected a mask of two levels, dark and bright, or a label map stored without loss, "
        f"got {got}",
        hint=f"{kind} changes the numbers of objects; save label maps as PNG, and masks of one "
        "object as PNG or with the levels 0 and 255",
    )


def _rough_pixels(values: NDArray[Any]) -> tuple[NDArray[np.bool_], float]:
    """Find the pixels between two levels or alone with theirs, and their share of those at edges.

    Label maps have none but at objects a pixel wide; smooth edges and noise consist of them.
    """
    padded = np.pad(values, 1, mode="edge")
    up, down = padded[:-2, 1:-1], padded[2:, 1:-1]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    alone = (values != up) & (values != down) & (values != left) & (values != right)
    edges = np.count_nonzero(
        (values != up) | (values != down) | (values != left) | (values != right)
    )
    between = (up < values) & (values < down) | (up > values) & (values > down)
    between |= (left < values) & (values < right) | (left > values) & (values > right)
    if np.count_nonzero(alone | between) >= _MAYBE_SOFT * edges:
        # A speck of a label that has an area elsewhere is a speck.
        areas = values[ndimage.maximum_filter(values, 3) == ndimage.minimum_filter(values, 3)]
        alone &= ~np.isin(values, np.unique(areas))
    rough = alone | between
    return rough, float(np.count_nonzero(rough)) / max(int(edges), 1)


def _cut(
    values: Values, is_lossy: bool, most_between: float, rough: NDArray[np.bool_]
) -> tuple[int, int] | None:
    """Return the dark and the bright level of a mask, or None where there are not just two.

    At most `most_between` pixels are between the levels for one on the object's edge, and they are
    `rough`, as `_rough_pixels` says, unless the picture is lossy.
    """
    counts = np.bincount(values.ravel())
    levels = np.flatnonzero(counts)
    if len(levels) < 2:
        return None
    middle = (int(levels[0]) + int(levels[-1])) // 2 + 1
    low, high = int(counts[:middle].argmax()), middle + int(counts[middle:].argmax())
    span = high - low
    if span < (_LEAST_SPAN_LOSSY if is_lossy else _LEAST_SPAN):
        return None
    whole = values.astype(np.int32)
    inside = whole > (low + high) / 2
    between = (abs(whole - low) > 0.15 * span) & (abs(whole - high) > 0.15 * span)
    ranges = ndimage.maximum_filter(whole, 3) - ndimage.minimum_filter(whole, 3)
    flat = np.count_nonzero(between & (ranges <= 0.08 * span))
    if not is_lossy and (between & ~rough).sum() > _MOST_SMOOTH * between.sum():
        return None  # small objects of a label map are no flat areas, but no edges either
    edge = np.count_nonzero(inside & ~ndimage.minimum_filter(inside, 3))
    if flat > _MOST_FLAT * np.count_nonzero(inside):
        return None
    most = min(most_between * edge, _MOST_OF_ALL * values.size)
    return None if np.count_nonzero(between) > most else (low, high)


def _above(values: NDArray[Any], cut: tuple[int, int]) -> Values:
    """Return the bright level where values are nearer to it than to the dark one, and 0."""
    low, high = cut
    whole: Values = np.where(values > (low + high) / 2, high, 0).astype(values.dtype)
    return whole


def _is_around(labels: Values) -> bool:
    """Whether one object covers all of the picture's edge, and not all of the picture."""
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return bool(edge[0] > 0 and (edge == edge[0]).all() and not labels.all())
