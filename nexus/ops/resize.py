"""Resize images and mask logits the way the original pipelines do.

Sizes are (height, width) in pixels. 8-bit images go through Pillow, whose rounding the original
SAM and MobileSAM preprocessing has; wider types are resized in floating point.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic", "area"]


def longest_side_size(size_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the size whose longest side is `side`, keeping the aspect.

    >>> longest_side_size((600, 900), 1024)
    (683, 1024)
    >>> longest_side_size((5, 10_000), 256)
    (1, 256)
    """
    height, width = size_hw
    scale = side / max(height, width)
    # A very thin image keeps one pixel of its short side.
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_image(
    image: NDArray[np.generic], size_hw: tuple[int, int], interpolation: Interpolation
) -> NDArray[np.generic]:
    """Resize an (H, W, 3) image; 8-bit images stay 8-bit, others come back as float32.

    Bilinear and bicubic are antialiased when they shrink. Area weighs every source pixel by the
    part of it a target pixel covers; where an axis grows it interpolates linearly.

    >>> image = np.array([[[0] * 3, [0] * 3], [[100] * 3, [100] * 3]], np.uint8)
    >>> resize_image(image, (1, 1), "area")[0, 0].tolist()
    [50, 50, 50]
    """
    height, width = size_hw
    if image.shape[:2] == size_hw:
        return image if image.dtype == np.uint8 else image.astype(np.float32)
    if interpolation == "area":
        rows = _area_weights(image.shape[0], height)
        columns = _area_weights(image.shape[1], width)
        resized = columns @ _combine_rows(rows, image)  # (h, w, 3)
        if image.dtype == np.uint8:
            return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
        return resized.astype(np.float32)
    if image.dtype == np.uint8:
        resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        return np.asarray(Image.fromarray(image).resize((width, height), resample[interpolation]))
    tensor = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1).unsqueeze(0)
    resized_tensor = F.interpolate(
        tensor, size=size_hw, mode=interpolation, antialias=True, align_corners=False
    )
    return resized_tensor[0].permute(1, 2, 0).numpy()


def resize_logits(logits: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize (..., h, w) mask logits bilinearly to (..., H, W), not antialiased.

    >>> resize_logits(torch.tensor([[[-1.0, 1.0]]]), (1, 4)).tolist()
    [[[-1.0, -0.5, 0.5, 1.0]]]
    """
    if tuple(logits.shape[-2:]) == tuple(size_hw):
        return logits
    flat = logits.reshape(-1, 1, *logits.shape[-2:])
    resized = F.interpolate(flat, size=size_hw, mode="bilinear", align_corners=False)
    return resized.view(*logits.shape[:-2], *size_hw)


def _combine_rows(weights: NDArray[np.float64], image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Combine the rows of an (H, W, 3) image: (h, W, 3), without a float copy of the whole."""
    out = np.empty((len(weights), *image.shape[1:]))
    for y, row in enumerate(weights):
        used = np.flatnonzero(row)
        span = slice(used[0], used[-1] + 1)
        out[y] = np.tensordot(row[span], image[span], axes=1)
    return out


def _area_weights(source: int, target: int) -> NDArray[np.float64]:
    """Return (target, source) weights of area interpolation along one axis; rows sum to 1."""
    scale = source / target
    position = np.arange(source)
    if scale >= 1:
        start = (np.arange(target) * scale)[:, None]
        overlap = np.minimum(start + scale, position + 1) - np.maximum(start, position)
        weights: NDArray[np.float64] = np.clip(overlap, 0, None)
        weights /= weights.sum(1, keepdims=True)
        return weights
    # Growing, a target pixel that lies across a border of two source pixels mixes them by the
    # part of it on either side. Where the two grids meet, rounding decides which pixel is taken;
    # it is done as OpenCV does it, with the inverse scale and a share in float32.
    inverse = target / source
    first = np.floor(np.arange(target) * (1 / inverse)).astype(int)
    share = (np.arange(1, target + 1) - (first + 1) * inverse).astype(np.float32)
    share = np.where(share <= 0, 0, share - np.floor(share))
    weights = np.zeros((target, source))
    index = np.arange(target)
    weights[index, first] += 1 - share
    weights[index, np.minimum(first + 1, source - 1)] += share
    return weights
