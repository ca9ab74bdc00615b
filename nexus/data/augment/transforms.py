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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nexus.core.errors import InputError
from nexus.data.augment.geometry import Warp
from nexus.data.augment.sample import Sample
from nexus.data.augment.steps import (
    ColorJitter,
    Draft,
    GeometricTransform,
    RandomCrop,
    RandomFlip,
    RandomRotate,
    RandomScale,
    RecolourTransform,
    Transform,
)
from nexus.data.augment.warp import warped

__all__ = [
    "AugmentPrompts",
    "ColorJitter",
    "Compose",
    "Draft",
    "GeometricTransform",
    "RandomCrop",
    "RandomFlip",
    "RandomRotate",
    "RandomScale",
    "RecolourTransform",
    "Sample",
    "Transform",
    "apply",
]


@dataclass(frozen=True)
class AugmentPrompts(Transform):
    """Lets boxes and points follow the image; stands after everything that moves pixels.

    `nexus.data.augment.warp.warped` says how boxes are made tight, and what becomes of points that
    leave the image or their object.
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
        moves = [isinstance(transform, GeometricTransform) for transform in transforms]
        follows = [isinstance(transform, AugmentPrompts) for transform in transforms]
        self.transforms = tuple(transforms)
        self.min_area_px = min_area_px
        self._moves, self._follows = any(moves), any(follows)
        if self._follows and any(moves[follows.index(True) :]):
            late = transforms[moves.index(True, follows.index(True))]
            raise InputError(
                "expected AugmentPrompts after everything that moves pixels, "
                f"got {type(late).__name__} after it",
                hint="make AugmentPrompts() the last of the list",
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Augment a sample.

        Args:
            sample: Not changed.
            rng: The source of chance; equal states give equal results.

        Returns:
            A sample whose `matrix` leads from the given image to the new one.

        Raises:
            InputError: The sample has boxes or points, which would stay behind.
        """
        prompted = sample.boxes_xyxy is not None or sample.points_xy is not None
        if prompted and self._moves and not self._follows:
            raise InputError(
                "expected AugmentPrompts for a sample with boxes or points, got a list without it",
                hint="end the list with AugmentPrompts(), or leave boxes and points out",
            )
        draft = Draft(sample, Warp.identity(sample.size_hw))
        for transform in self.transforms:
            if isinstance(transform, GeometricTransform):
                warp = draft.warp.then(transform.draw(draft, rng))
                draft = dataclasses.replace(draft, warp=warp)
            elif isinstance(transform, RecolourTransform):
                image = transform.recolour(draft.sample.image, rng)
                draft = dataclasses.replace(
                    draft, sample=dataclasses.replace(draft.sample, image=image)
                )
        if not self._moves and not self._follows:
            return draft.sample
        return warped(draft.sample, draft.warp, min_area_px=self.min_area_px)


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
