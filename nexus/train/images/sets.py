"""What a run on images learns from: the objects that count, the views of an image, what is in them.

Everything here depends on the settings alone. Nothing is drawn while training but which view of an
object comes when (see `nexus.train.images.plan`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.types import Geometry
from nexus.data.augment import transforms
from nexus.data.augment.sample import Sample
from nexus.data.clicks.sampling import centre_click, depth_map
from nexus.data.truth.labelled import LabelledImage, Truth, largest_truths
from nexus.ops.boxes import tight_box
from nexus.train.config import AugmentSettings, DataSettings
from nexus.train.losses import truths_to_frame
from nexus.train.sets import SetItem

_MIN_FRAME_PIXELS = 5
Array: TypeAlias = "NDArray[Any]"
_LOSSLESS: dict[str, Callable[[Array], Array]] = {
    "plain": lambda a: a,
    "mirrored": lambda a: a[:, ::-1],
    "upside_down": lambda a: a[::-1],
    "turned_90": lambda a: np.rot90(a),
    "turned_180": lambda a: np.rot90(a, 2),
    "turned_270": lambda a: np.rot90(a, 3),
}


SetImage: TypeAlias = SetItem[LabelledImage]


def counted_truths(image: SetImage, settings: DataSettings) -> list[Truth]:
    """Read the objects of an image that count, the largest first."""
    return largest_truths(image.labelled.load_truths(), settings.most_objects, settings.min_area)


@dataclass(frozen=True)
class View:
    """One way to see an image.

    Attributes:
        image: The image.
        name: A lossless view, or 'random_0', 'random_1', ...
        settings: Of the data; they choose the objects.
        augment: Of the random views.
        seed: Of the random views.
    """

    image: SetImage
    name: str
    settings: DataSettings
    augment: AugmentSettings
    seed: int

    def read(self) -> Sample:
        """Return the image with the masks of the objects that count.

        Raises:
            ImageError: The image cannot be read.
        """
        pixels = self.image.labelled.load_image()
        truths = counted_truths(self.image, self.settings)
        shown = [truth.mask for truth in truths]
        masks = np.stack(shown) if shown else np.zeros((0, *pixels.shape[:2]), np.bool_)
        ids = [truth.object_id for truth in truths]
        ignored = self.image.labelled.ignored()
        if self.name in _LOSSLESS:
            turn = _LOSSLESS[self.name]
            pixels = np.ascontiguousarray(turn(pixels))
            masks = np.ascontiguousarray(np.moveaxis(turn(np.moveaxis(masks, 0, -1)), -1, 0))
            ignored = None if ignored is None else np.ascontiguousarray(turn(ignored))
        sample = Sample(pixels, masks, object_ids=ids, ignored=ignored)
        if self.name in _LOSSLESS:
            return sample
        word = f"{self.seed}/{self.image.name}/{self.name}"
        digest = hashlib.sha256(word.encode()).digest()
        augment = self.augment
        drawn = [
            transforms.RandomFlip(prob=augment.flip),
            transforms.RandomRotate(degrees=augment.rotate_degrees),
            transforms.RandomScale(scale_range=augment.scale),
            transforms.ColorJitter(brightness=augment.brightness, contrast=augment.contrast),
        ]
        return transforms.apply(drawn, sample, np.random.default_rng(list(digest[:16])))


def views_of(
    image: SetImage, data: DataSettings, augment: AugmentSettings, seed: int
) -> list[View]:
    """Return the views of an image that a run learns from."""
    names = [*dict.fromkeys(augment.views), *(f"random_{n}" for n in range(augment.random_views))]
    return [View(image, name, data, augment, seed) for name in names]


@dataclass(frozen=True, eq=False)
class ObjectView:
    """An object in one view, ready to be pointed at.

    Attributes:
        view: The view it is in.
        digest: Of the view's pixels, by which its embedding is found.
        geometry: How the view lies in the model frame.
        truth: (h, w) float16 share of each decoder pixel that the object covers.
        valid: (h, w) float16 share of each decoder pixel that is image and counts.
        depth: (h, w) uint8 distance from the object's edge, 255 where it is deepest.
        centre_xy: The pixel of the view where the distance transform has its maximum.
        box_xyxy: Tight box in pixels of the view.
    """

    view: View
    digest: str
    geometry: Geometry
    truth: NDArray[np.float16]
    valid: NDArray[np.float16]
    depth: NDArray[np.uint8]
    centre_xy: tuple[float, float]
    box_xyxy: tuple[float, float, float, float]


TrainingObject: TypeAlias = tuple[ObjectView, ...]
"""An object: the views in which enough of it is to be seen; at least one."""


def object_views(
    view: View, digest: str, sample: Sample, geometry: Geometry, frame_hw: tuple[int, int]
) -> dict[int, ObjectView]:
    """Make the objects of a view ready; those too small to learn from are left out.

    `sample` is what `View.read` gave, `frame_hw` the size of the decoder's masks; the others are as
    in `ObjectView`.
    """
    ready: dict[int, ObjectView] = {}
    if sample.masks is None or not len(sample.masks):
        return ready
    shares, valid = truths_to_frame(sample.masks, geometry, frame_hw, sample.ignored)
    weights = valid.numpy().astype(np.float16)
    ids = sample.object_ids.tolist()
    for key, mask, share in zip(ids, sample.masks, shares.numpy(), strict=True):
        inside = (share > 0.5) & (weights > 0.5)
        if np.count_nonzero(inside) < _MIN_FRAME_PIXELS:
            continue
        centre = centre_click(mask)
        places = depth_map(inside), (centre.x, centre.y), tight_box(mask)
        ready[key] = ObjectView(view, digest, geometry, share.astype(np.float16), weights, *places)
    return ready


def gather_objects(views: Sequence[tuple[View, dict[int, ObjectView]]]) -> list[TrainingObject]:
    """Put the views of each object together, in the order of the images.

    Raises:
        InputError: There is no object at all.
    """
    found: dict[tuple[str, int], list[ObjectView]] = {}
    for view, objects in views:
        for key, seen in objects.items():
            found.setdefault((view.image.name, key), []).append(seen)
    if not found:
        raise InputError(
            "expected at least one object to learn from, got none",
            hint="lower data.min_area, or check that the masks are label maps",
        )
    return [tuple(mine) for mine in found.values()]


def sample_digest(name: str, sample: Sample) -> str:
    """Return a digest of the name, pixels and masks of an image."""
    digest = hashlib.sha256(f"{name} {sample.image.dtype} {sample.image.shape}".encode())
    digest.update(np.ascontiguousarray(sample.image).tobytes())
    masks = () if sample.masks is None else sample.masks
    for key, mask in zip(sample.object_ids.tolist(), masks, strict=True):
        digest.update(str(key).encode() + np.packbits(mask).tobytes())
    return digest.hexdigest()
