"""How masks, boxes and points follow one warp of their image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nexus.data.augment.geometry import Warp
from nexus.data.augment.sample import Sample
from nexus.data.clicks.sampling import centre_click
from nexus.ops.boxes import mask_to_box_xyxy


def warped(sample: Sample, warp: Warp, *, min_area_px: int = 1) -> Sample:
    """Move everything a sample has.

    A box becomes the tight box of the moved mask; without masks, the box around its own moved
    corners. A point that leaves the image is dropped. One that was on the right side of its
    mask's edge stays on it: at the edge it goes to the nearest pixel that is, and is dropped if
    there is none within a pixel or two. An object that loses its last foreground point this way
    gets the centre of what is left of its mask. An object of which nothing is left is dropped,
    with its mask, box, points and id.

    Args:
        sample: What to move.
        warp: How.
        min_area_px: Masks with fewer pixels than this count as gone.
    """
    masks = sample.masks
    if masks is not None:
        moved = [warp.mask(mask) for mask in masks]
        masks = np.stack(moved) if moved else np.zeros((0, *warp.size_hw), np.bool_)
    boxes = sample.boxes_xyxy
    if boxes is not None:
        rows = [warp.box(box) for box in boxes] if masks is None else map(mask_to_box_xyxy, masks)
        boxes = np.array(list(rows), np.float64).reshape(-1, 4)
    areas = np.zeros(len(sample)) if masks is None else masks.sum(axis=(1, 2))
    points, labels = _moved_points(sample, warp, masks, areas >= min_area_px)
    if masks is not None:
        left = areas >= min_area_px
    elif boxes is not None:
        left = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > 0
    else:
        left = np.array([len(part) > 0 for part in points or ()], np.bool_)
    ignored = None if sample.ignored is None else warp.mask(sample.ignored)
    image, matrix = warp.image(sample.image), warp.matrix @ sample.matrix
    whole = Sample(image, masks, boxes, points, labels, sample.object_ids, ignored, matrix)
    return whole if left.all() else whole.keep(np.flatnonzero(left).tolist())


def _moved_points(
    sample: Sample,
    warp: Warp,
    masks: NDArray[np.bool_] | None,
    present: NDArray[np.bool_],
) -> tuple[list[NDArray[np.float64]] | None, list[NDArray[np.int64]] | None]:
    """Return the points and labels of every object, `present` or not, after a warp."""
    if sample.points_xy is None or sample.point_labels is None:
        return None, None
    points, labels = [], []
    for index, (old, old_labels) in enumerate(
        zip(sample.points_xy, sample.point_labels, strict=True)
    ):
        before = None if sample.masks is None else sample.masks[index]
        after = None if masks is None else masks[index]
        new, kept = _follow(old, old_labels, warp, sample.size_hw, before, after)
        new_labels = old_labels[kept]
        lost = old_labels.any() and not new_labels.any()
        bare = len(old) > 0 and not len(new) and sample.boxes_xyxy is None
        if after is not None and present[index] and (lost or bare):
            centre = centre_click(after)
            new = np.concatenate([[[centre.x, centre.y]], new])
            new_labels = np.concatenate([[1], new_labels])
        points.append(new)
        labels.append(new_labels)
    return points, labels


def _follow(
    points_xy: NDArray[np.float64],
    labels: NDArray[np.int64],
    warp: Warp,
    size_hw: tuple[int, int],
    before: NDArray[np.bool_] | None,
    after: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return one object's points (N', 2) after a warp, and which of the old ones they were."""
    # A prompt may lie on the image's right or bottom edge, which still means the last pixel.
    within = np.clip(points_xy, 0, _last_edge(size_hw))
    moved = warp.points(within)
    limits = _last_edge(warp.size_hw)
    new, kept = [], []
    for index, point in enumerate(moved):
        if (point < -0.5).any() or (point > limits).any():
            continue
        place: NDArray[np.float64] | None = np.clip(point, 0, limits)
        if before is not None and after is not None and place is not None:
            wanted = bool(labels[index])
            if _at(before, within[index]) == wanted and _at(after, place) != wanted:
                place = _nearest(after, place, wanted, 1 + _scale(warp))
        if place is not None:
            new.append(place)
            kept.append(index)
    return np.array(new, np.float64).reshape(-1, 2), np.array(kept, np.int64)


def _nearest(
    mask: NDArray[np.bool_], point_xy: NDArray[np.float64], wanted: bool, reach_px: float
) -> NDArray[np.float64] | None:
    """Return the nearest pixel that is in a mask, or out of it, if there is one in reach."""
    x, y = point_xy
    x0, y0 = max(math.ceil(x - reach_px), 0), max(math.ceil(y - reach_px), 0)
    around = mask[y0 : math.floor(y + reach_px) + 1, x0 : math.floor(x + reach_px) + 1]
    places = np.argwhere(around == wanted)[:, ::-1] + (x0, y0)
    if not len(places):
        return None
    distances = np.hypot(*(places - point_xy).T)
    nearest = int(distances.argmin())
    return places[nearest].astype(np.float64) if distances[nearest] <= reach_px else None


def _at(mask: NDArray[np.bool_], point_xy: NDArray[np.float64]) -> bool:
    x, y = (math.floor(value + 0.5) for value in point_xy)
    return bool(mask[min(y, mask.shape[0] - 1), min(x, mask.shape[1] - 1)])


def _last_edge(size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return the right and bottom edge of an image, in the coordinates of points."""
    return np.array([size_hw[1] - 0.5, size_hw[0] - 0.5])


def _scale(warp: Warp) -> float:
    return math.sqrt(abs(float(np.linalg.det(warp.matrix))))
