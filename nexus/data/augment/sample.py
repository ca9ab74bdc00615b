"""An image with any of the masks, boxes and points of its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import ImageError, InputError
from nexus.core.types.prompt import Prompt
from nexus.data.augment.geometry import Matrix
from nexus.data.truth.labelled import Truth

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
            raise InputError(
                "expected equally many masks, boxes, lists of points and ids, got "
                f"{' and '.join(str(count) for count in sorted(counts))}"
            )
        ids = np.arange(counts.pop() if counts else 0) if object_ids is None else object_ids
        values = {
            "image": image,
            "masks": masks,
            "boxes_xyxy": boxes,
            "points_xy": points,
            "point_labels": labels,
            "object_ids": np.asarray(ids, np.int64),
            "ignored": ignored,
            "matrix": np.eye(3) if matrix is None else np.asarray(matrix, np.float64),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of_truths(
        cls,
        image: NDArray[Any],
        truths: Sequence[Truth],
        ignored: NDArray[np.bool_] | None = None,
    ) -> Sample:
        """Return an image with the masks, boxes and ids of its objects; those to ignore left out.

        Raises:
            ImageError: An image of another shape.
            InputError: Masks of another size than the image.
        """
        kept = [truth for truth in truths if not truth.ignore]
        masks = np.zeros((0, *image.shape[:2]), np.bool_)
        if kept:
            masks = np.stack([truth.mask for truth in kept])
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
        return [
            Prompt(
                None if self.points_xy is None else self.points_xy[index],
                None if self.point_labels is None else self.point_labels[index],
                None if self.boxes_xyxy is None else self.boxes_xyxy[index],
            )
            for index in range(len(self))
        ]

    def keep(self, indices: Sequence[int]) -> Sample:
        """Return the sample with some of its objects, in the order given."""
        chosen = np.asarray(indices, np.int64)
        points, labels = self.points_xy, self.point_labels
        return Sample(
            self.image,
            None if self.masks is None else self.masks[chosen],
            None if self.boxes_xyxy is None else self.boxes_xyxy[chosen],
            None if points is None else [points[index] for index in chosen],
            None if labels is None else [labels[index] for index in chosen],
            self.object_ids[chosen],
            self.ignored,
            self.matrix,
        )


def _check_image(image: NDArray[Any]) -> None:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        got, wanted = f"shape {np.shape(image)}", "of shape (H, W, 3)"
    elif image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        got, wanted = str(image.dtype), "of uint8, uint16 or float"
    else:
        return
    raise ImageError(
        f"expected an image {wanted}, got {got}",
        hint="nexus.data.images.load_image gives one",
    )


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
            f"expected labels of {len(points_xy)} objects, got labels of {len(point_labels)}"
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
