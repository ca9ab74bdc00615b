"""IoU and Dice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from nexus.eval.metrics import dice, iou


@pytest.mark.parametrize("seed", range(5))
def test_iou_equals_that_of_pycocotools(seed: int) -> None:
    """The reference of the field, on random masks."""
    rng = np.random.default_rng(seed)
    one, two = rng.random((30, 20)) < 0.4, rng.random((30, 20)) < 0.6
    packed = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in (one, two)]

    assert iou(one, two) == pytest.approx(coco.iou(packed[:1], packed[1:], [0])[0, 0], abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_dice_follows_from_iou(one: int, two: int) -> None:
    """DSC = 2 J / (1 + J), empty masks included."""
    masks = [np.array([code >> bit & 1 for bit in range(16)], bool) for code in (one, two)]
    overlap = iou(*masks)

    assert dice(*masks) == pytest.approx(2 * overlap / (1 + overlap))


def test_volumes_count_voxels() -> None:
    """Masks of three axes are compared as a whole, not slice by slice."""
    truth = np.zeros((3, 4, 4), bool)
    truth[0, :2] = truth[1, 0, 0] = True
    predicted = truth.copy()
    predicted[1:] = False

    assert iou(predicted, truth) == pytest.approx(8 / 9)
    assert dice(predicted, truth) == pytest.approx(16 / 17)


def test_plain_numbers_come_back() -> None:
    """The results go into JSON as they are."""
    mask = np.ones((2, 2), bool)

    assert [type(metric(mask, mask)) for metric in (iou, dice)] == [float, float]
