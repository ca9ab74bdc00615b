"""Non-maximum suppression against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import InputError
from nexus.ops.nms import nms


def _iou(one: np.ndarray, two: np.ndarray) -> float:
    shared = np.prod(np.clip(np.minimum(one, two)[2:] - np.maximum(one, two)[:2], 0, None))
    union = np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2]) - shared
    return float(shared / union) if union else 0.0


def _plain(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """One box after the other, best first, each against all that stayed."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(_iou(boxes[index], boxes[k]) <= threshold for k in kept):
            kept.append(index)
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_equals_the_definition(count: int, seed: int, threshold: float) -> None:
    """Greedy suppression, box by box, gives the same indices in the same order."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 8, (count, 2))], 1)
    scores = rng.integers(0, 6, count) / 6

    assert nms(boxes, scores, threshold).tolist() == _plain(boxes, scores, threshold)


def test_equal_scores_keep_their_order() -> None:
    """Of equal boxes with equal scores the first stays."""
    assert nms([[0, 0, 2, 2]] * 3, [1, 1, 1], 0.5).tolist() == [0]


def test_an_iou_of_just_the_threshold_stays() -> None:
    """Only an IoU above the threshold removes a box."""
    boxes = [[0, 0, 2, 1], [0, 0, 1, 1]]

    assert nms(boxes, [1, 0], 0.5).tolist() == [0, 1]
    assert nms(boxes, [1, 0], 0.49).tolist() == [0]
    assert nms([[0, 0, 10, 1], [0, 0, 3, 1]], [1, 0], 0.3).tolist() == [0, 1]


def test_other_shapes_are_refused() -> None:
    """The message has both shapes."""
    with pytest.raises(InputError, match=r"\(N, 4\).*got \(2, 4\) and \(3,\)"):
        nms(np.zeros((2, 4)), [1, 2, 3], 0.5)
