"""Images and videos with ground truth: what every dataset reader gives, one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.ops.boxes import tight_box
from nexus.ops.labels import largest_first


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_HasName)


@dataclass(frozen=True)
class Truth:
    """One annotated object of an image.

    Attributes:
        object_id: Its id in the image, as the dataset numbers it.
        mask: Bool (H, W), in pixels of the original image.
        box_xyxy: As annotated, or tight around the mask; right and bottom edges exclusive.
        category: Name of its class, where the dataset has classes.
        ignore: It is not evaluated: a crowd, or a region nobody annotated.
        notes: What had to be done to read its mask, or looks wrong with it.
    """

    object_id: int
    mask: NDArray[np.bool_]
    box_xyxy: tuple[float, float, float, float]
    category: str | None = None
    ignore: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unpaired:
    """How many files of a dataset's folder are no pair of image and mask, and were left out.

    Attributes:
        images: Images without a mask.
        masks: Masks without an image.
    """

    images: int = 0
    masks: int = 0


@dataclass(frozen=True)
class LabelledImage:
    """An image with its objects, read when asked for.

    The functions can be pickled, so that worker processes read for themselves.

    Attributes:
        name: Its name in the dataset, unique there.
        load_image: Read it: (H, W, 3) RGB, uint8 or uint16.
        load_truths: Read its objects, in the order of their ids.
        load_ignored: Read the pixels that count for nothing, bool (H, W); None where all count.
        spacing_hw: Height and width of a pixel, mm; (1, 1) where the dataset does not say.
        group: What it is a part of: a volume, a patient, a video.
        absent: Names of the classes known to have no object here, where the dataset says so.
        not_exhaustive: Names of the classes of which not every object here is annotated.
        unpaired: What was left out of the dataset it is of.
    """

    name: str
    load_image: Callable[[], NDArray[np.generic]]
    load_truths: Callable[[], list[Truth]]
    load_ignored: Callable[[], NDArray[np.bool_] | None] | None = None
    spacing_hw: tuple[float, float] = (1.0, 1.0)
    group: str | None = None
    absent: tuple[str, ...] = ()
    not_exhaustive: tuple[str, ...] = ()
    unpaired: Unpaired = Unpaired()

    def ignored(self) -> NDArray[np.bool_] | None:
        """Read the pixels that count for nothing, or None where all count."""
        return None if self.load_ignored is None else self.load_ignored()


@dataclass(frozen=True)
class LabelledVideo:
    """A video as its frames on disk, with label maps of some or all of them.

    Attributes:
        name: Its name in the dataset, unique there.
        frames: The frames, in order.
        annotated: Indices of the frames with a label map, ascending.
        first_frames: By object id, the frame on which the object is given to the tracker.
        load_labels: Read the label map of an annotated frame: int32 (H, W), 0 background, other
            values object ids; pixels that count for nothing are -1.
        load_masks: Read the masks of an annotated frame by object id, where objects overlap so
            that no label map can hold them all; `load_labels` then shows the smaller on top.
    """

    name: str
    frames: tuple[Path, ...]
    annotated: tuple[int, ...]
    first_frames: dict[int, int]
    load_labels: Callable[[int], NDArray[np.int32]]
    load_masks: Callable[[int], dict[int, NDArray[np.bool_]]] | None = None

    def masks(self, index: int) -> dict[int, NDArray[np.bool_]]:
        """Read the masks of one annotated frame, by object id; empty ones are left out.

        Raises:
            InputError: The frame has no annotation.
        """
        if index not in self.annotated:
            raise InputError(f"expected an annotated frame of {self.name!r}, got frame {index}")
        if self.load_masks is not None:
            return {i: mask for i, mask in self.load_masks(index).items() if mask.any()}
        labels = self.load_labels(index)
        return {int(i): labels == i for i in np.unique(labels) if i > 0}


def truths_of_labels(
    labels: NDArray[np.integer],
    categories: dict[int, str] | None = None,
    min_area: int = 1,
    notes: tuple[str, ...] = (),
) -> list[Truth]:
    """Return the objects of a label map (H, W): one for each value above 0.

    Args:
        labels: 0 is background.
        categories: Names of the classes, by value.
        min_area: Leave smaller objects out, pixels.
        notes: On how the label map was read.
    """
    masks = {int(value): labels == value for value in np.unique(labels) if value > 0}
    return [
        Truth(value, mask, tight_box(mask), (categories or {}).get(value), notes=notes)
        for value, mask in masks.items()
        if np.count_nonzero(mask) >= min_area
    ]


def largest_truths(
    truths: Iterable[Truth], max_objects: int | None = None, min_area: int = 0
) -> list[Truth]:
    """Return the largest objects, in descending area; equal ones stay in their order.

    Args:
        truths: Of one image; those to ignore are left out.
        max_objects: How many at most; None for all.
        min_area: Leave smaller objects out, pixels.

    Raises:
        InputError: `max_objects` is below 0.
    """
    if max_objects is not None and max_objects < 0:
        raise InputError(f"expected max_objects of 0 or more or None, got {max_objects}")
    counted = [truth for truth in truths if not truth.ignore]
    areas = [int(np.count_nonzero(truth.mask)) for truth in counted]
    return [counted[i] for i in largest_first(areas) if areas[i] >= min_area][:max_objects]


def held_out_split(
    images: Iterable[Named], share: float = 0.25, stated: Iterable[Named] | None = None
) -> tuple[list[Named], list[Named]]:
    """Return the images to learn from and the held-out ones, each in the order of their names.

    Args:
        images: Or videos, or anything else with a name.
        share: The last floor(n * share) of the n names are held out.
        stated: Hold these out instead, and learn from all of `images`.

    Raises:
        InputError: `share` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"expected a share in [0, 1], got {share}")
    ordered = sorted(images, key=lambda image: image.name)
    if stated is not None:
        return ordered, sorted(stated, key=lambda image: image.name)
    first = len(ordered) - math.floor(len(ordered) * share)
    return ordered[:first], ordered[first:]
