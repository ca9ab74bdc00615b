"""Preprocessing policies: how an image enters a model's frame and how its masks leave it.

A policy is data. MedSAM differs from SAM by its policy alone, and a caller may override any field:

    model.policy = dataclasses.replace(model.policy, normalize="mean_std")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nexus.core.errors import InputError, shown


@dataclass(frozen=True)
class Policy:
    """What happens between an original image and the model frame, in both directions.

    Attributes:
        input_side: Side S of the square model frame, pixels; a multiple of 16.
        resize: 'longest_side' keeps the aspect and pads with zeros right and below after
            normalisation; 'square' stretches to S x S.
        interpolation: 'bilinear' and 'bicubic' are antialiased (Pillow on 8-bit images);
            'area' weighs every source pixel by the part of it a target pixel covers.
        resize_as: 'source' keeps the image's type, so that 8-bit images are rounded after resizing;
            'float' resizes in floating point.
        normalize: 'mean_std' subtracts `pixel_mean` and divides by `pixel_std`, both in 0..255;
            'min_max' maps the resized image's own range to [0, 1].
        pixel_mean: RGB, used by 'mean_std'.
        pixel_std: RGB, used by 'mean_std'.
        box_scale: Prompts are scaled 'per_axis' by resized / original size, or on both axes by
            S / longest side.
        upscale: 'via_input' resizes mask logits to S x S, crops the padding, then resizes to the
            original; 'direct' crops the padding from the logits and resizes once.
        padding_point: The weights were trained with a padding point beside the points
            'without_box', or 'always'.
        logit_limit: `low_res_logits` are given clipped to this on both sides; None for no limit.
        mask_threshold: Logits above it are mask.
        candidates: The weights were trained to answer a single foreground point with several
            masks; without, as where boxes alone were taught, one mask is the answer unless more
            are asked for.
        box_only: The weights were trained on box prompts alone, so that a point prompt is answered
            with a warning and a note on the result.

    Raises:
        InputError: A field has a value not listed here.
    """

    input_side: int = 1024
    resize: Literal["longest_side", "square"] = "longest_side"
    interpolation: Literal["bilinear", "bicubic", "area"] = "bilinear"
    resize_as: Literal["source", "float"] = "source"
    normalize: Literal["mean_std", "min_max"] = "mean_std"
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    box_scale: Literal["per_axis", "longest_side"] = "per_axis"
    upscale: Literal["via_input", "direct"] = "via_input"
    padding_point: Literal["without_box", "always"] = "without_box"
    logit_limit: float | None = None
    mask_threshold: float = 0.0
    candidates: bool = True
    box_only: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"expected {name} to be one of {', '.join(choices)}, "
                    f"got {getattr(self, name)!r}"
                )
        check_input_side(self.input_side)
        if len(self.pixel_mean) != 3 or len(self.pixel_std) != 3 or min(self.pixel_std) <= 0:
            raise InputError(
                "expected three pixel means and three standard deviations above 0, "
                f"got {self.pixel_mean} and {self.pixel_std}"
            )


_CHOICES = {
    name: get_args(annotation)
    for name, annotation in get_type_hints(Policy).items()
    if get_origin(annotation) is Literal
}


_LARGEST_SIDE = 16384


def _fits(side: int) -> bool:
    return 32 <= side <= _LARGEST_SIDE and side % 16 == 0


def check_input_side(side: Any) -> int:
    """Return `side` if a model frame can have it.

    Raises:
        InputError: Not a whole multiple of 16 from 32 to 16384.
    """
    if isinstance(side, bool) or not isinstance(side, int) or not _fits(side):
        raise InputError(
            "expected input_side to be a whole multiple of 16 "
            f"from 32 to {_LARGEST_SIDE}, got {shown(side)}",
            hint="the models were trained at 1024 (LiteMedSAM at 256)",
        )
    return side


SAM_POLICY = Policy()
"""SAM and MobileSAM: longest side 1024, Pillow's bilinear filter, ImageNet mean and deviation."""

MEDSAM_POLICY = Policy(
    resize="square",
    interpolation="bicubic",
    normalize="min_max",
    upscale="direct",
    candidates=False,
    box_only=True,
)
"""MedSAM: square 1024, min-max to [0, 1], boxes scaled per axis, logits resized once."""

LITE_MEDSAM_POLICY = Policy(
    input_side=256,
    interpolation="area",
    normalize="min_max",
    box_scale="longest_side",
    upscale="direct",
    candidates=False,
    box_only=True,
)
"""LiteMedSAM: longest side 256 by area, min-max over the resized image, zero padding."""

SAM2_POLICY = Policy(
    resize="square", resize_as="float", upscale="direct", padding_point="always", logit_limit=32.0
)
"""SAM 2 and EdgeTAM on images: square 1024 in floating point, logits resized once."""
