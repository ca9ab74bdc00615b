from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import ImageError, InputError, PromptError
from nexus.data.augment.sample import Sample
from nexus.data.truth.labelled import Truth

IMAGE = np.zeros((6, 9, 3), np.uint8)
MASKS = np.ones((2, 6, 9), np.bool_)


def test_objects_are_counted_and_numbered() -> None:
    """Objects have ids from 0, whichever of mask, box and points they come with."""
    by_mask = Sample(IMAGE, MASKS)
    by_box = Sample(IMAGE, boxes_xyxy=[(0, 0, 3, 3)])
    by_points = Sample(IMAGE, points_xy=[[(1, 2)], [], [(3, 4), (5, 5)]])

    assert [len(sample) for sample in (by_mask, by_box, by_points, Sample(IMAGE))] == [2, 1, 3, 0]
    assert by_points.object_ids.tolist() == [0, 1, 2]
    assert by_mask.size_hw == (6, 9)


def test_points_without_labels_are_foreground() -> None:
    """Each object's points have one label each, 1 unless given."""
    assumed = Sample(IMAGE, points_xy=[[(1, 2), (2, 2)], []])
    given = Sample(IMAGE, points_xy=np.array([[[1, 2], [2, 2]]]), point_labels=[[0, 1]])

    assert [labels.tolist() for labels in assumed.point_labels or ()] == [[1, 1], []]
    assert [labels.tolist() for labels in given.point_labels or ()] == [[0, 1]]


def test_a_sample_gives_prompts() -> None:
    """Each object's points, labels and box become one prompt."""
    sample = Sample(
        IMAGE,
        boxes_xyxy=[(0, 0, 3, 3), (1, 1, 4, 5)],
        points_xy=[[(1, 2)], []],
        point_labels=[[0], []],
    )
    first, second = sample.prompts()

    assert (first.points.tolist(), first.labels.tolist()) == ([[1, 2]], [0])
    assert (second.points, second.box.tolist()) == (None, [1, 1, 4, 5])


def test_kept_objects_keep_everything_of_theirs() -> None:
    """Objects are chosen with their masks, boxes, points, labels and ids."""
    masks = np.stack([np.eye(6, 9, k=k, dtype=np.bool_) for k in range(3)])
    boxes = [(0, 0, i + 1, 2) for i in range(3)]
    ignored = np.eye(6, 9, dtype=np.bool_)
    sample = Sample(IMAGE, masks, boxes, [[(i, 0)] for i in range(3)], None, [4, 5, 9], ignored)
    kept = sample.keep([2, 0])

    assert kept.object_ids.tolist() == [9, 4]
    assert np.array_equal(kept.masks, masks[[2, 0]])
    assert kept.boxes_xyxy[:, 2].tolist() == [3, 1]
    assert [points.tolist() for points in kept.points_xy] == [[[2, 0]], [[0, 0]]]
    assert kept.ignored is ignored
    assert len(sample.keep([])) == 0


def test_truths_become_a_sample() -> None:
    """Masks, boxes and ids are taken over; objects to ignore are left out."""
    truths = [
        Truth(3, MASKS[0], (0, 0, 9, 6)),
        Truth(4, MASKS[0], (0, 0, 9, 6), ignore=True),
        Truth(8, MASKS[1], (1, 2, 3, 4)),
    ]
    sample = Sample.of_truths(IMAGE, truths)
    none = Sample.of_truths(IMAGE, [])

    assert sample.object_ids.tolist() == [3, 8]
    assert sample.boxes_xyxy.tolist() == [[0, 0, 9, 6], [1, 2, 3, 4]]
    assert (none.masks.shape, none.boxes_xyxy.shape) == ((0, 6, 9), (0, 4))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"image": np.zeros((6, 9), np.uint8)}, ImageError, r"of shape \(H, W, 3\), got shape"),
        ({"image": np.zeros((6, 9, 3), int)}, ImageError, "uint8, uint16 or float, got int64"),
        ({"masks": MASKS[0]}, InputError, r"expected masks as bool \(K, H, W\)"),
        ({"masks": MASKS[:, :5]}, InputError, r"for an image of \(6, 9\), got bool \(2, 5, 9\)"),
        ({"masks": MASKS.astype(np.uint8)}, InputError, "got uint8"),
        ({"ignored": MASKS}, InputError, r"expected ignored as bool \(H, W\)"),
        ({"boxes_xyxy": [1, 2, 3, 4]}, InputError, r"boxes of shape \(K, 4\), got shape \(4,\)"),
        (
            {"masks": MASKS, "boxes_xyxy": [(1, 2, 3, 4)]},
            InputError,
            "equally many masks, boxes, lists of points and ids, got 1 and 2",
        ),
        ({"masks": MASKS, "object_ids": [1, 2, 3]}, InputError, "got 2 and 3"),
        ({"point_labels": [[1]]}, InputError, "expected points to go with the labels"),
        (
            {"points_xy": [[(1, 1)]], "point_labels": [[1], [1]]},
            InputError,
            "expected labels of 1 objects, got labels of 2",
        ),
        ({"points_xy": [[(1, 7)]]}, PromptError, "expected points inside the image"),
        (
            {"points_xy": [[(1, 1)]], "point_labels": [[2]]},
            PromptError,
            r"expected labels 1 \(foreground\) or 0",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    values: dict[str, Any], error: type[Exception], message: str
) -> None:
    """What is wrong is named with what was expected."""
    with pytest.raises(error, match=message):
        Sample(**{"image": IMAGE, **values})
