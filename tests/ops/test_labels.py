from __future__ import annotations

import numpy as np

from nexus.ops.labels import label_palette, largest_first, paint_labels

# Of the first classes, as the development kit's pages print them.
KIT_COLORS = {
    0: (0, 0, 0),
    1: (128, 0, 0),
    2: (0, 128, 0),
    3: (128, 128, 0),
    4: (0, 0, 128),
    8: (64, 0, 0),
    20: (0, 64, 128),
    255: (224, 224, 192),
}


def test_the_palette_is_the_kits() -> None:
    """Known entries of the VOC kit's colour map are where they belong, and no two are alike."""
    palette = label_palette()

    assert {index: tuple(palette[index].tolist()) for index in KIT_COLORS} == KIT_COLORS
    assert len(np.unique(palette, axis=0)) == 256


def test_the_later_is_on_top() -> None:
    """Where masks overlap the number painted last is seen; nothing painted is 0."""
    one, other = np.array([[True, True, False]]), np.array([[False, True, True]])

    assert paint_labels([(7, one), (3, other)], (1, 3)).tolist() == [[7, 3, 3]]
    assert paint_labels([(3, other), (7, one)], (1, 3)).tolist() == [[7, 7, 3]]
    assert paint_labels([], (1, 2), np.uint8).dtype == np.uint8


def test_equal_areas_keep_their_order() -> None:
    """The largest comes first; of equal ones the first."""
    assert largest_first([2, 5, 2, 5]) == [1, 3, 0, 2]
