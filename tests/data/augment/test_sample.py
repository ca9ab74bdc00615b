from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import ImageError, InputError, PromptError
from nexus.data.augment.geometry import Warp, about, flip, rotation, shift
from nexus.data.augment.sample import Sample, warped
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
            "expected labels of 1 object, got labels of 2",
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


WIDE_HW = (20, 30)
NOISE = np.random.default_rng(0).integers(0, 256, (*WIDE_HW, 3), dtype=np.uint8)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(WIDE_HW, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def left_by(columns: int) -> Warp:
    return Warp(shift(-columns, 0), WIDE_HW)


def test_boxes_become_tight_with_masks() -> None:
    """A loose box becomes the box of the moved mask, even where nothing moves."""
    sample = Sample(NOISE, block(5, 6, 9, 12)[None], [(3, 3, 12, 14)])
    flipped = warped(sample, Warp(flip(WIDE_HW, x=True, y=False), WIDE_HW))
    still = warped(sample, Warp.identity(WIDE_HW))

    assert flipped.boxes_xyxy.tolist() == [[21, 6, 25, 12]]
    assert still.boxes_xyxy.tolist() == [[5, 6, 9, 12]]


def test_boxes_alone_are_moved_by_their_corners() -> None:
    """Without masks a box stays as loose as it is, cut at the image's edge."""
    sample = Sample(NOISE, boxes_xyxy=[(3, 3, 12, 14), (0, 0, 2, 2)], object_ids=[7, 8])
    moved = warped(sample, left_by(5))

    assert moved.boxes_xyxy.tolist() == [[0, 3, 7, 14]]
    assert moved.object_ids.tolist() == [7]


def test_vanished_objects_take_their_prompts_along() -> None:
    """An object that left the image is gone with its mask, box, points, labels and id."""
    masks = np.stack([block(0, 0, 4, 4), block(10, 5, 20, 15)])
    boxes = [(0, 0, 4, 4), (10, 5, 20, 15)]
    sample = Sample(NOISE, masks, boxes, [[(1, 1)], [(12, 7), (3, 3)]], [[1], [1, 0]], [3, 9])
    moved = warped(sample, left_by(6))

    assert moved.object_ids.tolist() == [9]
    assert np.array_equal(moved.masks, block(4, 5, 14, 15)[None])
    assert moved.boxes_xyxy.tolist() == [[4, 5, 14, 15]]
    assert [points.tolist() for points in moved.points_xy] == [[[6, 7]]]
    assert [labels.tolist() for labels in moved.point_labels] == [[1]]


def test_slivers_count_as_gone() -> None:
    """A mask with fewer pixels left than asked for is dropped, one with as many stays."""
    sample = Sample(NOISE, np.stack([block(0, 0, 8, 3), block(0, 0, 8, 4)]))

    assert warped(sample, left_by(7), min_area_px=4).object_ids.tolist() == [1]
    assert len(warped(sample, left_by(7), min_area_px=5)) == 0
    assert warped(sample, left_by(7), min_area_px=5).masks.shape == (0, *WIDE_HW)


def test_the_last_foreground_point_is_replaced() -> None:
    """Of an object cut through, the click that left comes back in the middle of the rest."""
    sample = Sample(
        NOISE, block(0, 5, 15, 10)[None], points_xy=[[(2, 7), (20, 2)]], point_labels=[[1, 0]]
    )
    moved = warped(sample, left_by(10))

    assert moved.points_xy[0].tolist() == [[2, 7], [10, 2]]
    assert moved.point_labels[0].tolist() == [1, 0]


def test_a_background_point_that_leaves_is_dropped() -> None:
    """With a box left to point at the object, nothing takes its place."""
    mask, box = block(12, 5, 20, 10)[None], [(12, 5, 20, 10)]
    boxed = Sample(NOISE, mask, box, [[(2, 2)]], [[0]])
    bare = Sample(NOISE, mask, None, [[(2, 2)]], [[0]])
    moved, clicked = warped(boxed, left_by(10)), warped(bare, left_by(10))

    assert [points.tolist() for points in moved.points_xy] == [[]]
    assert moved.prompts()[0].points is None
    assert clicked.point_labels[0].tolist() == [1]


def test_points_alone_go_with_their_object() -> None:
    """Without mask and box an object is gone when its last point is."""
    sample = Sample(NOISE, points_xy=[[(2, 2), (15, 5)], [(3, 3)]])
    moved = warped(sample, left_by(10))

    assert moved.object_ids.tolist() == [0]
    assert moved.points_xy[0].tolist() == [[5, 5]]


def test_points_at_an_edge_stay_on_their_side() -> None:
    """However an image turns, a click on the object's rim is on it, one beside it is not."""
    mask = block(8, 5, 20, 14)
    rim = [(x, y) for x in range(8, 20) for y in (5, 13)] + [(8, y) for y in range(5, 14)]
    beside = [(x, 4) for x in range(8, 20)] + [(20, y) for y in range(5, 14)]
    labels = [1] * len(rim) + [0] * len(beside)
    sample = Sample(NOISE, mask[None], points_xy=[rim + beside], point_labels=[labels])
    for degrees in range(-40, 41, 8):
        warp = Warp(about(rotation(degrees), (15, 10)), WIDE_HW)
        moved = warped(sample, warp)
        (points,), (kept,) = moved.points_xy, moved.point_labels
        columns, rows = np.floor(points + 0.5).astype(int).T
        exact = warp.points(sample.points_xy[0])
        nearest = np.hypot(*(points[:, None] - exact[None]).transpose(2, 0, 1)).min(1)

        assert len(points) == len(labels)
        assert moved.masks[0][rows, columns].tolist() == (kept == 1).tolist()
        assert nearest.max() <= 2


def test_points_on_the_wrong_side_are_moved_as_they_are() -> None:
    """A noisy click is not corrected."""
    sample = Sample(NOISE, block(8, 5, 20, 14)[None], points_xy=[[(10, 7), (25, 7)]])

    assert warped(sample, left_by(3)).points_xy[0].tolist() == [[7, 7], [22, 7]]


def test_points_on_the_last_edge_belong_to_the_last_pixel() -> None:
    """A prompt may lie on the image's right or bottom edge; mirrored it is on the first pixel."""
    sample = Sample(NOISE, block(20, 10, 30, 20)[None], points_xy=[[(30, 20)]])
    moved = warped(sample, Warp(flip(WIDE_HW, x=True, y=True), WIDE_HW))

    assert moved.points_xy[0].tolist() == [[0, 0]]
    assert moved.prompts()[0].check_within(WIDE_HW) is None


def test_ignored_pixels_follow() -> None:
    """Pixels that count for nothing move with the image, and the matrix says how."""
    sample = Sample(NOISE, ignored=block(10, 3, 14, 9))
    moved = warped(warped(sample, left_by(4)), left_by(2))

    assert np.array_equal(moved.ignored, block(4, 3, 8, 9))
    assert np.array_equal(moved.matrix, shift(-6, 0))
