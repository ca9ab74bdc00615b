"""Several masks in one label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.ops.rle import decode_rle


def paint_labels(
    masks: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]
) -> NDArray[np.uint16]:
    """Return one map of all masks: 0 background, else the place of a mask in `masks`, from 1.

    Where masks overlap the smaller one is seen, so that a part is not hidden by the whole.

    Args:
        masks: Records with `segmentation` and `area`; at most 65535.
        size_hw: Height and width, pixels.

    Returns:
        (H, W) uint16.
    """
    labels = np.zeros(size_hw, np.uint16)
    for index in sorted(range(len(masks)), key=lambda index: (-masks[index]["area"], index)):
        labels[decode_rle(masks[index]["segmentation"])] = index + 1
    return labels
