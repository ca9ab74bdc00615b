from __future__ import annotations

import numpy as np

from nexus.data.formats.painting import paint_labels
from nexus.ops.rle import encode_rle


def record(mask: np.ndarray) -> dict[str, object]:
    """Return what painting needs of a mask."""
    return {"segmentation": encode_rle(mask), "area": int(mask.sum())}


def test_of_equal_masks_the_later_is_seen() -> None:
    """The order of painting is by area, then by place, so it is the same every time."""
    mask = np.ones((2, 3), bool)

    assert (paint_labels([record(mask), record(mask)], (2, 3)) == 2).all()


def test_more_masks_than_a_byte_counts() -> None:
    """Labels above 255 keep their number."""
    masks = [np.arange(300).reshape(15, 20) == index for index in range(300)]
    labels = paint_labels([record(mask) for mask in masks], (15, 20))

    np.testing.assert_array_equal(labels.ravel(), np.arange(1, 301))
