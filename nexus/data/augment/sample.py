"""An image with any of the masks, boxes and points of its objects, and how they follow a warp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import ImageError, InputError
from nexus.core.types.prompt import Prompt
from nexus.core.words import counted
from nexus.data.augment.geometry import Matrix, Warp
from nexus.data.clicks.sampling import centre_click
from nexus.data.truth.labelled import Truth
from nexus.ops.boxes import mask_to_box_xyxy

Points = tuple[NDArray[np.float64], ...]
Labels = tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and K objects of it, each with any of a mask, a box and points.

    Attributes:
        image: (H, W, 3) RGB: uint8, uint16, or float in [0, 1].
        masks: Bool (K, H, W), or None.
        boxes_xyxy: (K, 4) in pixels, right and bottom edges exclusive; or None.
        points_xy: K arrays (N, 2), each point on the pixel of its column x and row y; or None.
        point_labels: K arrays (N,): 1 on the object, 0 on the background; None with the points.
        object_ids: (K,) whatever tells the objects apart when some are dropped; 0 to K - 1 unless
            given.
        ignored: Pixels that count for nothing, bool (H, W), or None.
        matrix: (3, 3) that led here from the first image, in pixel edges.

    Raises:
        ImageError: An image of another shape or type.
        InputError: Other shapes or types, or numbers of objects that differ.
        PromptError: Points outside the image, or labels other than 0 and 1.
    """

    image: NDArray[np.generic]
    masks: NDArray[np.bool_] | None
    boxes_xyxy: NDArray[np.float64] | None
    points_xy: Points | None
    point_labels: Labels | None
    object_ids: NDArray[np.int64]
    ignored: NDArray[np.bool_] | None
    matrix: Matrix

    def __init__(
        self,
        image: NDArray[Any],
        masks: NDArray[np.bool_] | None = None,
        boxes_xyxy: ArrayLike | None = None,
        points_xy: Sequence[ArrayLike] | NDArray[Any] | None = None,
        point_labels: Sequence[ArrayLike] | NDArray[Any] | None = None,
        object_ids: ArrayLike | None = None,
        ignored: NDArray[np.bool_] | None = None,
        matrix: ArrayLike | None = None,
    ) -> None:
        _check_image(image)
        size_hw = (image.shape[0], image.shape[1])
        boxes = None if boxes_xyxy is None else np.asarray(boxes_xyxy, np.float64)
        points, labels = _read_points(points_xy, point_labels, size_hw)
        _check_shapes(size_hw, masks, boxes, ignored)
        counts = {len(part) for part in (masks, boxes, points, object_ids) if part is not None}  # type: ignore[arg-type]
        if len(counts) > 1:
            got = " and ".join(map(str, sorted(counts)))
            raise InputError(
                f"expected equally many masks, boxes, lists of points and ids, got {got}"
            )
        ids = np.arange(counts.pop() if counts else 0) if object_ids is None else object_ids
        ids = np.asarray(ids, np.int64)
        matrix = np.eye(3) if matrix is None else np.asarray(matrix, np.float64)
        vars(self).update(image=image, masks=masks, boxes_xyxy=boxes, points_xy=points)
        vars(self).update(point_labels=labels, object_ids=ids, ignored=ignored, matrix=matrix)

    @classmethod
    def of_truths(
        cls, image: NDArray[Any], truths: Sequence[Truth], ignored: NDArray[np.bool_] | None = None
    ) -> Sample:
        """Return an image with the masks, boxes and ids of its objects; those to ignore left out.

        Raises:
            ImageError: An image of another shape.
            InputError: Masks of another size than the image.
        """
        kept = [truth for truth in truths if not truth.ignore]
        none = np.zeros((0, *image.shape[:2]), np.bool_)
        masks = np.stack([truth.mask for truth in kept]) if kept else none
        boxes = np.array([truth.box_xyxy for truth in kept], np.float64).reshape(-1, 4)
        ids = [truth.object_id for truth in kept]
        return cls(image, masks, boxes, object_ids=ids, ignored=ignored)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image, pixels."""
        return self.image.shape[0], self.image.shape[1]

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.object_ids)

    def prompts(self) -> list[Prompt]:
        """Return each object's points and box as a prompt.

        Raises:
            PromptError: An object has neither.
        """
        parts = (self.points_xy, self.point_labels, self.boxes_xyxy)
        return [
            Prompt(*(None if part is None else part[index] for part in parts))
            for index in range(len(self))
        ]

    def keep(self, indices: Sequence[int]) -> Sample:
        """Return the sample with some of its objects, in the order given."""
        chosen = np.asarray(indices, np.int64)
        kept: dict[str, Any] = {}
        for name in ("masks", "boxes_xyxy", "object_ids", "points_xy", "point_labels"):
            part = getattr(self, name)
            if part is not None:
                lists = isinstance(part, tuple)
                kept[name] = [part[index] for index in chosen] if lists else part[chosen]
        return replace(self, **kept)


def warped(sample: Sample, warp: Warp, *, min_area_px: int = 1) -> Sample:
    """Move everything a sample has.

    A box becomes the tight box of the moved mask; without masks, the box around its own moved
    corners. A point that leaves the image is dropped. One that was on the right side of its
    mask's edge stays on it: at the edge it goes to the nearest pixel that is, and is dropped if
    there is none within a pixel or two. An object that loses its last foreground point this way
    gets the centre of what is left of its mask. An object of which nothing is left, or fewer pixels
    of its mask than `min_area_px`, is dropped, with its mask, box, points and id.
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
    sample: Sample, warp: Warp, masks: NDArray[np.bool_] | None, present: NDArray[np.bool_]
) -> tuple[list[NDArray[np.float64]] | None, list[NDArray[np.int64]] | None]:
    """Return the points and labels of every object, `present` or not, after a warp."""
    if sample.points_xy is None or sample.point_labels is None:
        return None, None
    points, labels = [], []
    for index, old in enumerate(sample.points_xy):
        old_labels = sample.point_labels[index]
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
    scale = math.sqrt(abs(float(np.linalg.det(warp.matrix))))
    new: dict[int, NDArray[np.float64]] = {}
    for index in np.flatnonzero(((moved >= -0.5) & (moved <= limits)).all(axis=1)).tolist():
        place: NDArray[np.float64] | None = np.clip(moved[index], 0, limits)
        if before is not None and after is not None and place is not None:
            wanted = bool(labels[index])
            if _at(before, within[index]) == wanted and _at(after, place) != wanted:
                place = _nearest(after, place, wanted, 1 + scale)
        if place is not None:
            new[index] = place
    return np.array([*new.values()], np.float64).reshape(-1, 2), np.array([*new], np.int64)


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


def _check_image(image: NDArray[Any]) -> None:
    got = ""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        got = f"of shape (H, W, 3), got shape {np.shape(image)}"
    elif image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        got = f"of uint8, uint16 or float, got {image.dtype}"
    if got:
        hint = "nexus.data.images.load_image gives one"
        raise ImageError(f"expected an image {got}", hint=hint)


def _read_points(
    points_xy: Sequence[ArrayLike] | NDArray[Any] | None,
    point_labels: Sequence[ArrayLike] | NDArray[Any] | None,
    size_hw: tuple[int, int],
) -> tuple[Points | None, Labels | None]:
    """Return points and labels as one array for each object."""
    if points_xy is None:
        if point_labels is not None:
            raise InputError("expected points to go with the labels, got labels alone")
        return None, None
    if point_labels is not None and len(point_labels) != len(points_xy):
        raise InputError(
            f"expected labels of {counted(len(points_xy), 'object')}, "
            f"got labels of {len(point_labels)}"
        )
    points, labels = [], []
    for index, part in enumerate(points_xy):
        of_part = None if point_labels is None else point_labels[index]
        if np.size(part) == 0:
            points.append(np.zeros((0, 2)))
            labels.append(np.zeros(0, np.int64))
            continue
        prompt = Prompt(part, of_part)
        prompt.check_within(size_hw)
        points.append(np.asarray(part, np.float64).reshape(-1, 2))
        ones = np.ones(len(points[-1]), np.int64)
        labels.append(ones if prompt.labels is None else prompt.labels)
    return tuple(points), tuple(labels)


def _check_shapes(
    size_hw: tuple[int, int],
    masks: NDArray[Any] | None,
    boxes: NDArray[np.float64] | None,
    ignored: NDArray[Any] | None,
) -> None:
    for name, array, ndim in (("masks", masks, 3), ("ignored", ignored, 2)):
        if array is None:
            continue
        if array.dtype != np.bool_ or array.ndim != ndim or array.shape[-2:] != size_hw:
            letters = "(K, H, W)" if ndim == 3 else "(H, W)"
            raise InputError(
                f"expected {name} as bool {letters} for an image of {size_hw}, "
                f"got {array.dtype} {array.shape}"
            )
    if boxes is not None and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise InputError(f"expected boxes of shape (K, 4), got shape {boxes.shape}")
