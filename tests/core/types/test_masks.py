"""The result objects of images and of video frames."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from nexus.core.errors import MissingDependencyError
from nexus.core.types import FrameMasks, Masks


@pytest.fixture
def masks() -> Masks:
    """Three 4 x 5 candidates: a bar, nothing, a corner."""
    array = np.zeros((3, 4, 5), bool)
    array[0, 1:3, 2] = True
    array[2, 0, 0] = True
    logits = np.where(array, 1, -1).astype(np.float32)
    return Masks(array, np.array([0.5, 0.9, 0.7], np.float32), logits)


def test_the_best_is_the_one_with_the_highest_score(masks: Masks) -> None:
    """Index, mask, score and logits agree."""
    assert masks.best_index == 1
    assert not masks.best.any()
    assert masks.best_score == pytest.approx(0.9)
    assert np.array_equal(masks.best_low_res_logits, masks.low_res_logits[1])


def test_boxes_have_exclusive_right_and_bottom_edges(masks: Masks) -> None:
    """One pixel is one pixel wide; an empty mask has an empty box."""
    assert masks.boxes_xyxy.tolist() == [[2, 1, 3, 3], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert masks.areas.tolist() == [2, 0, 1]


def test_numpy_sees_an_array(masks: Masks) -> None:
    """`np.asarray`, length, indexing and iteration go over candidates; a copy is a copy."""
    array = np.asarray(masks)
    copied = np.array(masks)
    copied[:] = True

    assert array.shape == (3, 4, 5)
    assert len(masks) == 3
    assert np.array_equal(masks[2], list(masks)[2])
    assert np.asarray(masks, dtype=np.uint8).sum() == 3
    assert masks.masks.sum() == 3
    with pytest.raises(ValueError, match="without a copy"):
        np.array(masks, dtype=np.uint8, copy=False)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_annotations_are_read_by_pycocotools(masks: Masks) -> None:
    """RLE, area and box are what pycocotools computes."""
    annotations = masks.to_coco(image_id=7, category_id=2)

    assert [a["id"] for a in annotations] == [1, 2, 3]
    for annotation, mask in zip(annotations, masks, strict=True):
        assert (annotation["image_id"], annotation["category_id"]) == (7, 2)
        assert np.array_equal(coco_mask.decode(annotation["segmentation"]).astype(bool), mask)
        assert annotation["area"] == coco_mask.area(annotation["segmentation"])
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()


def test_supervision_gets_masks_boxes_and_scores(masks: Masks) -> None:
    """Boxes keep their exclusive edges."""
    detections = masks.to_supervision()

    assert np.array_equal(detections.mask, masks.masks)
    assert np.array_equal(detections.xyxy, masks.boxes_xyxy)
    assert np.array_equal(detections.confidence, masks.iou_scores)


def test_without_supervision_the_message_says_what_to_install(
    masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing optional package is an error of its own."""
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="pip install supervision"):
        masks.to_supervision()


@pytest.fixture
def frame() -> FrameMasks:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :2, :3] = True
    low = np.array([[[1, -1], [-1, -1]], [[-1, -1], [-1, -1]]], np.float32)
    zeros = np.zeros(2, np.float32)
    return FrameMasks(3, 0.12, (7, -2), masks, zeros, zeros, low)


def test_it_is_an_array_of_masks(frame: FrameMasks) -> None:
    """One for each object, found by the caller's id."""
    assert np.asarray(frame).shape == (2, 4, 6)
    assert len(frame) == 2
    assert frame.mask(7).sum() == 6
    assert frame.areas.tolist() == [6, 0]
    with pytest.raises(KeyError, match="expected an id among \\[7, -2\\], got 1"):
        frame.mask(1)


def test_an_array_of_another_type_is_a_copy(frame: FrameMasks) -> None:
    """NumPy's rule: what cannot be had without a copy is refused when none is wanted."""
    assert np.asarray(frame, dtype=np.uint8).sum() == 6
    with pytest.raises(ValueError, match="without a copy"):
        frame.__array__(np.uint8, copy=False)


def test_logits_are_those_of_the_frame(frame: FrameMasks) -> None:
    """Bilinear, at the size of the masks, when they are asked for."""
    logits = frame.logits

    assert logits.shape == (2, 4, 6)
    assert logits[0, 0, 0] == 1
    np.testing.assert_allclose(logits[0, 0], [1, 1, 2 / 3, 0, -2 / 3, -1][:6], atol=0.4)
    assert (logits[1] == -1).all()
