"""Masks as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from nexus.core.errors import InputError
from nexus.ops.masks import mask_iou, mask_to_rle, stability_score, vote


@pytest.mark.parametrize("seed", range(5))
def test_iou_equals_that_of_pycocotools(seed: int) -> None:
    """All pairs, empty masks among them."""
    rng = np.random.default_rng(seed)
    one, two = rng.random((4, 30, 20)) < 0.4, rng.random((3, 30, 20)) < 0.6
    one[0] = False
    encode = lambda masks: [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]  # noqa: E731
    expected = coco.iou(encode(one), encode(two), [0] * 3)

    np.testing.assert_allclose(mask_iou(one, two), expected, atol=1e-12)


def test_empty_masks_have_no_overlap() -> None:
    """Two empty masks have an IoU of 0, not of nothing."""
    empty = np.zeros((1, 2, 2), bool)

    assert mask_iou(empty, empty).tolist() == [[0.0]]


def test_stability_is_the_iou_of_the_two_cuts() -> None:
    """By definition, about any threshold; 0 if nothing is above the lower cut."""
    logits = np.random.default_rng(0).normal(size=(20, 30))
    strict, lax = logits > 0.5 + 0.3, logits > 0.5 - 0.3

    assert stability_score(logits, 0.5, 0.3) == pytest.approx(mask_iou([strict], [lax])[0, 0])
    assert stability_score(np.full((2, 2), -5.0)) == 0.0


def test_rle_has_both_forms() -> None:
    """Compressed counts are pycocotools'; the plain ones are the run lengths."""
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))

    assert mask_to_rle(mask)["counts"] == packed["counts"].decode()
    assert mask_to_rle(mask, compressed=False) == {"size": [2, 3], "counts": [2, 3, 1]}


def test_a_vote_needs_more_than_half() -> None:
    """Two of three agree, one of two does not."""
    masks = [np.array([[row]], bool) for row in (1, 1, 0)]

    assert vote(masks).tolist() == [[True]]
    assert vote(masks[1:]).tolist() == [[False]]


def test_wrong_input_is_refused() -> None:
    """Stacks of different sizes, no masks to vote, a negative offset."""
    with pytest.raises(InputError, match=r"got \(1, 2, 2\) and \(1, 2, 3\)"):
        mask_iou(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="masks of one size"):
        vote([])
    with pytest.raises(InputError, match="offset of 0 or more, got -1"):
        stability_score(np.zeros((2, 2)), 0, -1)
