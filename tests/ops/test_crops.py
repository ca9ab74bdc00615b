"""Crops and tiles cover the image and stay inside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import InputError
from nexus.ops.crops import layered_crops, near_crop_edge, tiles

_SIDE = st.integers(1, 300)


def _covered(boxes: list[tuple[int, int, int, int]], size_hw: tuple[int, int]) -> np.ndarray:
    times = np.zeros(size_hw, int)
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= size_hw[1]
        assert 0 <= y0 < y1 <= size_hw[0]
        times[y0:y1, x0:x1] += 1
    return times


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 300), st.integers(16, 300), st.integers(0, 2), st.floats(0, 0.9))
def test_crops_of_each_layer_cover_the_image(h: int, w: int, layers: int, ratio: float) -> None:
    """4^i crops in layer i, inside the image, each pixel in at least one."""
    crops = layered_crops((h, w), layers, ratio)

    for layer in range(layers + 1):
        boxes = [box for box, at in crops if at == layer]
        assert len(boxes) == 4**layer
        assert _covered(boxes, (h, w)).min() == 1 or ratio > 0


def test_crops_are_the_originals() -> None:
    """For 900 x 600 and the default overlap: the boxes the original generator has recorded."""
    boxes = [box for box, _ in layered_crops((256, 256), 1, 512 / 1500)]

    assert boxes == [
        (0, 0, 256, 256),
        (0, 0, 172, 172),
        (0, 85, 172, 256),
        (85, 0, 256, 172),
        (85, 85, 256, 256),
    ]


@settings(max_examples=60, deadline=None)
@given(_SIDE, _SIDE, st.integers(1, 80), st.data())
def test_tiles_cover_and_overlap(h: int, w: int, side: int, data: st.DataObject) -> None:
    """Every pixel is in a tile; neighbours in a row share at least the overlap asked for."""
    overlap = data.draw(st.integers(0, side - 1))
    boxes = tiles((h, w), side, overlap)
    columns = sorted({box[0] for box in boxes})

    assert _covered(boxes, (h, w)).min() >= 1
    assert {box[2] - box[0] for box in boxes} == {min(side, w)}
    assert all(a + side - b >= overlap for a, b in zip(columns[:-1], columns[1:], strict=True))


def test_the_edge_of_the_image_is_no_crop_edge() -> None:
    """Near a crop's edge counts, unless that edge is the image's; 20 pixels are near, 21 not."""
    crop, size_hw = (0, 0, 100, 100), (100, 300)
    boxes = [[0, 0, 50, 100], [10, 10, 80, 50], [10, 10, 79, 50], [50, 0, 99, 99]]

    assert near_crop_edge(boxes, crop, size_hw).tolist() == [False, True, False, True]


def test_wrong_numbers_are_refused() -> None:
    """Negative layers, a ratio of 1, and an overlap as large as the tile."""
    with pytest.raises(InputError, match="0 or more crop layers"):
        layered_crops((9, 9), -1, 0.3)
    with pytest.raises(InputError, match=r"overlap in \[0, 1\), got 1 and 1"):
        layered_crops((9, 9), 1, 1)
    with pytest.raises(InputError, match="less than the tile side 8, got 8"):
        tiles((9, 9), 8, 8)
