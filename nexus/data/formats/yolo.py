"""YOLO segmentation labels: a text file per image with one polygon a line, and `data.yaml`.

Follows https://docs.ultralytics.com/datasets/segment/: a line is the class, counted from 0, and x y
of each corner as shares of the image's width and height. The labels of `images/NAME.jpg` are in
`labels/NAME.txt`; an image without masks has an empty one. The format has room for one ring a mask,
so further parts and holes are joined to it by a line there and back, which encloses nothing;
readers fill by the even-odd rule. `train` and `val` of `data.yaml` both name all images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.files import write_text
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.ops.polygons import mask_to_polygons
from nexus.ops.rle import decode_rle

_EPSILON_FACTOR = 0.002


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write labels/ and data.yaml."""
    for image in dataset.images:
        target = folder / "labels" / f"{image.source.name}.txt"
        yield write_text(target, "".join(_lines(image)))
    names = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(dataset.categories))
    yield write_text(folder / "data.yaml", f"train: images\nval: images\nnames:\n{names}")


def join_rings(rings: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Join rings into one, each to the nearest corner of those before it.

    Args:
        rings: At least one, of (n, 2) x, y.

    Returns:
        (n, 2) with the corners of all rings, and twice those where they are joined.
    """
    joined = np.asarray(rings[0], np.float64)
    for ring in rings[1:]:
        other = np.asarray(ring, np.float64)
        away = ((joined[:, None] - other[None]) ** 2).sum(2)  # (joined, other)
        here, there = np.unravel_index(int(np.argmin(away)), away.shape)
        turned = np.roll(other, -int(there), axis=0)
        joined = np.concatenate((joined[: here + 1], turned, turned[:1], joined[here:]))
    return joined


def _lines(image: DatasetImage) -> Iterator[str]:
    height, width = image.size_hw
    for mask in image.masks:
        rings = mask_to_polygons(decode_rle(mask["segmentation"]), _EPSILON_FACTOR)
        shares = join_rings(rings) / (width, height)
        numbers = " ".join(f"{share:.6f}" for share in shares.ravel())
        yield f"{mask['category_id'] - 1} {numbers}\n"
