from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from nexus.core.errors import InputError
from nexus.ops.boxes import (
    box_giou,
    box_iou,
    box_xywh_to_xyxy,
    box_xyxy_to_xywh,
    clip_boxes,
    inclusive_box,
    mask_to_box_xyxy,
    tight_box,
)

COORDINATES = st.integers(-50, 50).map(float)
BOX_SETS = st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES), min_size=1).map(
    lambda boxes: np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in boxes])
)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_mask_boxes_are_those_of_pycocotools(mask: np.ndarray) -> None:
    """The tight box, as xywh, equals toBbox, for empty masks too."""
    expected = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8))))

    np.testing.assert_array_equal(box_xyxy_to_xywh(mask_to_box_xyxy(mask)), expected)


def test_mask_boxes_have_exclusive_edges() -> None:
    """A single pixel has a box of width and height 1."""
    mask = np.zeros((4, 6), bool)
    mask[2, 5] = True

    assert mask_to_box_xyxy(mask).tolist() == [5, 2, 6, 3]
    assert tight_box(mask) == (5, 2, 6, 3)


def test_inclusive_boxes_end_on_the_last_pixel() -> None:
    """The box of records is a pixel short at the right and bottom; an empty mask has zeros."""
    mask = np.zeros((4, 6), bool)
    empty = inclusive_box(mask)
    mask[2, 3:5] = True

    assert empty == tight_box(mask & False) == (0, 0, 0, 0)
    assert inclusive_box(mask) == (3, 2, 4, 2)


@given(BOX_SETS)
def test_conversions_are_inverses(boxes: np.ndarray) -> None:
    """Going to width and height and back changes nothing."""
    np.testing.assert_array_equal(box_xywh_to_xyxy(box_xyxy_to_xywh(boxes)), boxes)


@given(BOX_SETS, BOX_SETS)
def test_iou_is_that_of_pycocotools(one: np.ndarray, two: np.ndarray) -> None:
    """Every pair overlaps as pycocotools says, where the boxes have area."""
    one = one[(one[:, 2:] > one[:, :2]).all(1)]
    two = two[(two[:, 2:] > two[:, :2]).all(1)]
    iou = box_iou(one.reshape(-1, 4), two.reshape(-1, 4))

    assert iou.shape == (len(one), len(two))
    if len(one) and len(two):
        as_xywh = [box_xyxy_to_xywh(boxes).astype(np.float64) for boxes in (one, two)]
        expected = coco.iou(*as_xywh, [0] * len(two))
        np.testing.assert_allclose(iou, expected, atol=1e-6)


def test_iou_of_boxes_without_area_is_0() -> None:
    """Empty boxes divide nothing by nothing and give 0, without a warning."""
    assert box_iou([[3, 3, 3, 3]], [[3, 3, 3, 3], [0, 0, 5, 5]]).tolist() == [[0, 0]]


@given(BOX_SETS)
def test_clipped_boxes_lie_inside(boxes: np.ndarray) -> None:
    """After clipping every box is inside, and one inside is not moved."""
    clipped = clip_boxes(boxes, (20, 30))

    assert (clipped >= 0).all()
    assert (clipped <= [30, 20, 30, 20]).all()
    np.testing.assert_array_equal(clip_boxes(clipped, (20, 30)), clipped)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mask_to_box_xyxy(np.zeros((2, 3, 4))), r"shape \(H, W\), got shape \(2, 3, 4\)"),
        (lambda: box_xyxy_to_xywh([1, 2, 3]), r"shape \(\.\.\., 4\), got shape \(3,\)"),
        (lambda: box_xywh_to_xyxy(5), r"got shape \(\)"),
        (lambda: clip_boxes([["a", 1, 2, 3]], (3, 3)), r"as numbers .* got \[\['a', 1, 2, 3\]\]"),
        (lambda: clip_boxes([[1, 2], [3]], (3, 3)), r"as numbers of shape"),
        (lambda: box_iou([0, 0, 1, 1], [[0, 0, 1, 1]]), r"\(N, 4\), got shape \(4,\)\nhint: a si"),
    ],
)
def test_what_is_no_box_is_refused(call: object, message: str) -> None:
    """Wrong shapes and values that are not numbers say what was expected."""
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]


def test_giou_is_iou_less_the_waste() -> None:
    """By its definition on random boxes; equal boxes have 1, boxes far apart near -1."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (2, 8, 2))
    one, two = np.concatenate([corner, corner + rng.uniform(1, 20, (2, 8, 2))], -1)
    giou = box_giou(one, two)
    for row, column in np.ndindex(8, 8):
        a, b = one[row], two[column]
        overlap = np.prod(np.clip(np.minimum(a, b)[2:] - np.maximum(a, b)[:2], 0, None))
        union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
        around = np.prod(np.maximum(a, b)[2:] - np.minimum(a, b)[:2])
        expected = overlap / union - (around - union) / around

        assert giou[row, column] == pytest.approx(expected, abs=1e-5)
    assert box_giou([[0, 0, 1, 1]], [[99, 0, 100, 1]])[0, 0] == pytest.approx(-0.98)
