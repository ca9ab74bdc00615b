"""Cut an image into overlapping crops or tiles; boxes are x0, y0, x1, y1, edges exclusive."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError

CropBox = tuple[int, int, int, int]


def layered_crops(
    size_hw: tuple[int, int], layers: int, overlap_ratio: float
) -> list[tuple[CropBox, int]]:
    """Return the whole image and, layer by layer, its crops, as SAM's automatic masks take them.

    Layer i has 2^i x 2^i crops. Neighbours overlap by `overlap_ratio` of the image's shorter side
    in the first layer and by half of that in each further one.

    Args:
        size_hw: Of the image.
        layers: Layers of crops beyond the whole image, which is layer 0.
        overlap_ratio: In [0, 1).

    Returns:
        Crops with the layer of each.

    Raises:
        InputError: A negative number of layers, or a ratio out of range.

    Examples:
        >>> layered_crops((100, 200), 1, 0.25)[:3]
        [((0, 0, 200, 100), 0), ((0, 0, 113, 63), 1), ((0, 38, 113, 100), 1)]
    """
    if layers < 0 or not 0 <= overlap_ratio < 1:
        raise InputError(
            f"expected 0 or more crop layers and an overlap in [0, 1), got {layers} and "
            f"{overlap_ratio}"
        )
    height, width = size_hw
    crops: list[tuple[CropBox, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size_hw) * (2 / count))
        crop_w, crop_h = (
            math.ceil((overlap * (count - 1) + length) / count) for length in (width, height)
        )
        for column in range(count):
            for row in range(count):
                x0, y0 = (crop_w - overlap) * column, (crop_h - overlap) * row
                box = (x0, y0, min(x0 + crop_w, width), min(y0 + crop_h, height))
                crops.append((box, layer))
    return crops


def tiles(size_hw: tuple[int, int], tile_side: int, overlap: int) -> list[CropBox]:
    """Cover an image, row by row, with tiles of one size, spread evenly, that overlap so much.

    Args:
        size_hw: Of the image, pixels.
        tile_side: Pixels; a shorter image has one tile of its own length.
        overlap: Least pixels that neighbours share, less than `tile_side`.

    Raises:
        InputError: An overlap that leaves no step.

    Examples:
        >>> tiles((10, 25), 10, 2)
        [(0, 0, 10, 10), (8, 0, 18, 10), (15, 0, 25, 10)]
    """
    if not 0 <= overlap < tile_side:
        raise InputError(
            f"expected an overlap of 0 or more and less than the tile side {tile_side}, "
            f"got {overlap}"
        )
    rows, columns = (_starts(length, tile_side, overlap) for length in size_hw)
    height, width = size_hw
    return [
        (x0, y0, min(x0 + tile_side, width), min(y0 + tile_side, height))
        for y0 in rows
        for x0 in columns
    ]


def near_crop_edge(
    boxes_xyxy: ArrayLike, crop_box: CropBox, size_hw: tuple[int, int], tolerance_px: float = 20
) -> NDArray[np.bool_]:
    """Tell which boxes come near an edge of their crop that is no edge of the image.

    What is there was probably cut off by the crop.

    Args:
        boxes_xyxy: (N, 4) in the image; the answer is (N,) bool.
        crop_box: The crop they were found in.
        size_hw: Of the image.
        tolerance_px: What counts as near.

    Examples:
        >>> near_crop_edge([[0, 0, 30, 30], [40, 5, 90, 30]], (0, 0, 100, 60), (60, 200)).tolist()
        [False, True]
    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    near_crop = np.abs(boxes - crop_box) <= tolerance_px
    near_image = np.abs(boxes - (0, 0, size_hw[1], size_hw[0])) <= tolerance_px
    return np.asarray((near_crop & ~near_image).any(axis=1))


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]
