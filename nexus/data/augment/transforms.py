"""Augmentation of images together with what points at things in them.

    transforms = [
        RandomFlip(prob=0.5),
        RandomRotate(degrees=15),
        RandomScale(scale_range=(0.8, 1.2)),
        ColorJitter(brightness=0.2, contrast=0.2),
        AugmentPrompts(),
    ]
    augmented = apply(transforms, sample, np.random.default_rng(0))

What moves pixels only multiplies a 3x3 matrix; the image and the masks are interpolated once, at
the end, and boxes and points follow the same matrix. Equal seeds give equal results.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.data.augment.geometry import Warp, about, flip, rotation, shift, zoom
from nexus.data.augment.sample import Sample as Sample
from nexus.data.augment.sample import warped
from nexus.data.clicks.sampling import random_click

Direction = Literal["horizontal", "vertical", "both"]

# How bright red, green and blue look (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class Draft:
    """A sample on its way: colours are changed already, geometry is only noted down.

    Attributes:
        sample: Its image and objects where they were at first.
        warp: Where they will be.
    """

    sample: Sample
    warp: Warp

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width the image has by now, pixels."""
        return self.warp.size_hw

    def anchor_xy(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """Return a random place on a random object, as pixel edges by now; None without objects.

        With masks any of their pixels, else the middle of a box, else a point.
        """
        sample = self.sample
        if not len(sample):
            return None
        index = int(rng.integers(len(sample)))
        if sample.masks is not None:
            if not sample.masks[index].any():
                return None
            click = random_click(sample.masks[index], rng)
            point = np.array([click.x, click.y])
        elif sample.boxes_xyxy is not None:
            point = sample.boxes_xyxy[index].reshape(2, 2).mean(0) - 0.5
        elif sample.points_xy is not None and len(sample.points_xy[index]):
            point = sample.points_xy[index][0]
        else:
            return None
        x, y = self.warp.points(point)[0] + 0.5
        return float(x), float(y)


class Transform:
    """One entry of a list of transforms: geometric, of colours, or `AugmentPrompts`.

    Raises:
        InputError: A number out of its range, two in the wrong order, or another direction.
    """


class GeometricTransform(Transform, ABC):
    """Moves pixels."""

    @abstractmethod
    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw a step from the image as it is by now to what it becomes."""


class RecolourTransform(Transform, ABC):
    """Changes colours and moves nothing."""

    @abstractmethod
    def recolour(self, image: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.generic]:
        """Return an image (H, W, 3) of the same shape, type and range of values."""


@dataclass(frozen=True)
class RandomFlip(GeometricTransform):
    """Mirrors the image, pixel by pixel exactly.

    Attributes:
        prob: How often, in [0, 1].
        direction: `horizontal` swaps left and right, `vertical` top and bottom; `both` does each
            of them this often, whatever the other does.
    """

    prob: float = 0.5
    direction: Direction = "horizontal"

    def __post_init__(self) -> None:
        _check_range(self, 1, "prob")
        if self.direction not in get_args(Direction):
            raise InputError(
                f"expected a direction among {', '.join(get_args(Direction))}, "
                f"got {self.direction!r}"
            )

    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw whether to mirror each way."""
        x, y = (rng.random(2) < self.prob).tolist()
        x, y = x and self.direction != "vertical", y and self.direction != "horizontal"
        return Warp(flip(draft.size_hw, x=x, y=y), draft.size_hw)


@dataclass(frozen=True)
class RandomRotate(GeometricTransform):
    """Turns the image around its centre; its size stays, so that corners leave.

    Attributes:
        degrees: The furthest it turns either way, in [0, 180]; every angle is as likely.
    """

    degrees: float = 15.0

    def __post_init__(self) -> None:
        _check_range(self, 180, "degrees")

    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw an angle."""
        turn = rotation(float(rng.uniform(-self.degrees, self.degrees)))
        return Warp(about(turn, _centre_xy(draft.size_hw)), draft.size_hw)


@dataclass(frozen=True)
class RandomScale(GeometricTransform):
    """Makes everything larger or smaller around the centre; the size of the image stays.

    Attributes:
        scale_range: Least and greatest factor, above 0; above 1 things grow, the rim is lost.
    """

    scale_range: tuple[float, float] = (0.8, 1.2)

    def __post_init__(self) -> None:
        _check_order("scale_range above 0", self.scale_range, np.inf)

    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw a factor."""
        step = zoom(float(rng.uniform(*self.scale_range)))
        return Warp(about(step, _centre_xy(draft.size_hw)), draft.size_hw)


@dataclass(frozen=True)
class RandomCrop(GeometricTransform):
    """Cuts out a window of the image's shape, pixel by pixel exactly; the image becomes smaller.

    Attributes:
        share_range: Least and greatest width of the window, as a share of the image's, in (0, 1].
        on_object: Place the window so that some pixel of a randomly chosen object is in it.
    """

    share_range: tuple[float, float] = (0.7, 1.0)
    on_object: bool = True

    def __post_init__(self) -> None:
        _check_order("share_range in (0, 1]", self.share_range, 1)

    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw a window."""
        share = float(rng.uniform(*self.share_range))
        anchor = draft.anchor_xy(rng) if self.on_object else None
        places, sides = [], []
        for axis, length in ((0, draft.size_hw[1]), (1, draft.size_hw[0])):
            side = max(1, round(length * share))
            first, last = 0, length - side
            if anchor is not None and 0 <= anchor[axis] < length:
                pixel = int(anchor[axis])
                first, last = max(first, pixel - side + 1), min(last, pixel)
            places.append(int(rng.integers(first, last + 1)))
            sides.append(side)
        return Warp(shift(-places[0], -places[1]), (sides[1], sides[0]))


@dataclass(frozen=True)
class ColorJitter(RecolourTransform):
    """Changes brightness and contrast.

    Attributes:
        brightness: Values are multiplied by a factor of at most this much above or below 1; in
            [0, 1].
        contrast: The distance of values from the image's mean brightness is, likewise.
    """

    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        _check_range(self, 1, "brightness", "contrast")

    def recolour(self, image: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.generic]:
        """Draw both factors and apply them, within the range of the image's type."""
        brightness = 1 + float(rng.uniform(-self.brightness, self.brightness))
        contrast = 1 + float(rng.uniform(-self.contrast, self.contrast))
        mean = float(image.reshape(-1, 3).mean(0, dtype=np.float64) @ _LUMA)
        # contrast * (brightness * value - brightness * mean) + brightness * mean
        gain, offset = contrast * brightness, (1 - contrast) * brightness * mean
        if image.dtype in (np.uint8, np.uint16):
            most = 255 if image.dtype == np.uint8 else 65535
            table = np.clip(np.arange(most + 1) * gain + offset, 0, most).round()
            return np.asarray(table.astype(image.dtype)[image])
        return np.clip(image.astype(np.float64) * gain + offset, 0, 1).astype(image.dtype)


@dataclass(frozen=True)
class AugmentPrompts(Transform):
    """Lets boxes and points follow the image; stands after everything that moves pixels.

    `nexus.data.augment.sample.warped` says how boxes are made tight, and what becomes of points
    that leave the image or their object.
    """


class Compose:
    """Transforms one after another, as one function of a sample and a generator.

    Args:
        transforms: In order.
        min_area_px: Objects of whose mask fewer pixels are left are dropped.

    Raises:
        InputError: Something that is not a transform, or one that moves pixels after
            `AugmentPrompts`.
    """

    def __init__(self, transforms: Sequence[Transform], *, min_area_px: int = 1) -> None:
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise InputError(
                    f"expected transforms, got {transform!r}",
                    hint="an entry is made by a call, such as RandomFlip()",
                )
        if min_area_px < 1:
            raise InputError(f"expected min_area_px of at least 1, got {min_area_px}")
        self.transforms = tuple(transforms)
        self.min_area_px = min_area_px
        self._moves = self._follows = False
        for transform in transforms:
            if self._follows and isinstance(transform, GeometricTransform):
                raise InputError(
                    "expected AugmentPrompts after everything that moves pixels, "
                    f"got {type(transform).__name__} after it",
                    hint="make AugmentPrompts() the last of the list",
                )
            self._moves |= isinstance(transform, GeometricTransform)
            self._follows |= isinstance(transform, AugmentPrompts)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a new sample, whose `matrix` leads from the given image to the new one.

        Raises:
            InputError: The sample has boxes or points, which would stay behind.
        """
        prompted = sample.boxes_xyxy is not None or sample.points_xy is not None
        if prompted and self._moves and not self._follows:
            raise InputError(
                "expected AugmentPrompts for a sample with boxes or points, got a list without it",
                hint="end the list with AugmentPrompts(), or leave boxes and points out",
            )
        warp = Warp.identity(sample.size_hw)
        for transform in self.transforms:
            if isinstance(transform, GeometricTransform):
                warp = warp.then(transform.draw(Draft(sample, warp), rng))
            elif isinstance(transform, RecolourTransform):
                image = transform.recolour(sample.image, rng)
                sample = dataclasses.replace(sample, image=image)
        if not self._moves and not self._follows:
            return sample
        return warped(sample, warp, min_area_px=self.min_area_px)


def apply(
    transforms: Sequence[Transform],
    sample: Sample,
    rng: np.random.Generator,
    *,
    min_area_px: int = 1,
) -> Sample:
    """Augment a sample by a list of transforms; `Compose` says how.

    Raises:
        InputError: As `Compose` and its call.
    """
    return Compose(transforms, min_area_px=min_area_px)(sample, rng)


def _check_range(step: Transform, most: int, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(step, name) <= most:
            raise InputError(f"expected {name} in [0, {most}], got {getattr(step, name)}")


def _check_order(what: str, span: tuple[float, float], most: float) -> None:
    if not 0 < span[0] <= span[1] <= most:
        raise InputError(f"expected a {what}, the lower first, got {span}")


def _centre_xy(size_hw: tuple[int, int]) -> tuple[float, float]:
    return size_hw[1] / 2, size_hw[0] / 2
