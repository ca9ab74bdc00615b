"""The steps of an augmentation: flips, turns, zooms, crops and colours, each drawn at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.data.augment.geometry import Warp, about, flip, rotation, shift, zoom
from nexus.data.augment.sample import Sample
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
            box = sample.boxes_xyxy[index]
            point = (box[:2] + box[2:]) / 2 - 0.5
        elif sample.points_xy is not None and len(sample.points_xy[index]):
            point = sample.points_xy[index][0]
        else:
            return None
        x, y = self.warp.points(point)[0] + 0.5
        return float(x), float(y)


class Transform:
    """One entry of a list of transforms: geometric, of colours, or `AugmentPrompts`."""


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

    Raises:
        InputError: A number out of range, or another direction.
    """

    prob: float = 0.5
    direction: Direction = "horizontal"

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise InputError(f"expected prob in [0, 1], got {self.prob}")
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
        degrees: The furthest it turns either way; every angle is as likely.

    Raises:
        InputError: A number out of range.
    """

    degrees: float = 15.0

    def __post_init__(self) -> None:
        if not 0 <= self.degrees <= 180:
            raise InputError(f"expected degrees in [0, 180], got {self.degrees}")

    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw an angle."""
        turn = rotation(float(rng.uniform(-self.degrees, self.degrees)))
        return Warp(about(turn, _centre_xy(draft.size_hw)), draft.size_hw)


@dataclass(frozen=True)
class RandomScale(GeometricTransform):
    """Makes everything larger or smaller around the centre; the size of the image stays.

    Attributes:
        scale_range: Least and greatest factor; above 1 things grow and the rim is lost.

    Raises:
        InputError: Factors that are not above 0, or in the wrong order.
    """

    scale_range: tuple[float, float] = (0.8, 1.2)

    def __post_init__(self) -> None:
        low, high = self.scale_range
        if not 0 < low <= high:
            raise InputError(
                f"expected a scale_range above 0, the lower first, got {self.scale_range}"
            )

    def draw(self, draft: Draft, rng: np.random.Generator) -> Warp:
        """Draw a factor."""
        step = zoom(float(rng.uniform(*self.scale_range)))
        return Warp(about(step, _centre_xy(draft.size_hw)), draft.size_hw)


@dataclass(frozen=True)
class RandomCrop(GeometricTransform):
    """Cuts out a window of the image's shape, pixel by pixel exactly; the image becomes smaller.

    Attributes:
        share_range: Least and greatest width of the window, as a share of the image's.
        on_object: Place the window so that some pixel of a randomly chosen object is in it.

    Raises:
        InputError: Shares that are not in (0, 1], or in the wrong order.
    """

    share_range: tuple[float, float] = (0.7, 1.0)
    on_object: bool = True

    def __post_init__(self) -> None:
        low, high = self.share_range
        if not 0 < low <= high <= 1:
            raise InputError(
                f"expected a share_range in (0, 1], the lower first, got {self.share_range}"
            )

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
        brightness: Values are multiplied by a factor of at most this much above or below 1.
        contrast: The distance of values from the image's mean brightness is, likewise.

    Raises:
        InputError: A number out of [0, 1].
    """

    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"expected {name} in [0, 1], got {getattr(self, name)}")

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
            recoloured: NDArray[np.generic] = table.astype(image.dtype)[image]
            return recoloured
        return np.clip(image.astype(np.float64) * gain + offset, 0, 1).astype(image.dtype)


def _centre_xy(size_hw: tuple[int, int]) -> tuple[float, float]:
    return size_hw[1] / 2, size_hw[0] / 2
