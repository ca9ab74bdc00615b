from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.core.types import FrameMasks
from nexus.data.images.loading import read_mask
from nexus.data.truth.labelled import LabelledVideo
from nexus.eval.vos import VOS_METRICS, SessionTracker, given_masks, label_map, video_rows
from nexus.ops.rle import decode_rle
from tests.eval.scenes import SIZE_HW, labels, perfect_tracker, plain_iou, video
from tests.models.tiny_sam2 import tiny_sam2


def test_the_truth_scores_1(tmp_path: Path) -> None:
    """A tracker that returns the truth has J and F of 1 on every frame after the first."""
    clip = video(tmp_path)
    rows = video_rows(clip, perfect_tracker(clip))

    assert [(row["j"], row["f"], row["j_and_f"]) for row in rows] == [(1.0, 1.0, 1.0)] * 2
    assert [row["frames"] for row in rows] == [[1, 2, 3]] * 2
    assert [(row["object_id"], row["area"]) for row in rows] == [(1, 400), (2, 900)]
    assert rows[0]["box"] == [4.0, 6.0, 24.0, 26.0]


def still(clip: LabelledVideo) -> Iterator[np.ndarray]:
    """Yield the first label map again and again."""
    for _ in clip.frames:
        yield clip.load_labels(0)


def test_a_still_tracker_loses_what_moves(tmp_path: Path) -> None:
    """J falls with each pixel the object moves on; the row holds the worst frame."""
    clip = video(tmp_path)
    row = video_rows(clip, still(clip))[0]
    ious = [plain_iou(labels(t) == 1, labels(0) == 1) for t in (1, 2, 3)]

    assert row["j_per_frame"] == pytest.approx(ious)
    assert row["j"] == pytest.approx(np.mean(ious))
    assert row["j_and_f"] == pytest.approx((row["j"] + row["f"]) / 2)
    assert row["j_recall"] == pytest.approx(np.mean(np.array(ious) > 0.5))
    assert row["j_decay"] == pytest.approx(np.mean(ious[:2]) - ious[2])
    assert row["worst_frame"] == 3
    assert (decode_rle(row["prediction"]) == (labels(0) == 1)).all()


def test_davis_leaves_out_the_last_frame(tmp_path: Path) -> None:
    """With `leave_out_last` the last frame of the video does not count."""
    clip = video(tmp_path)
    rows = video_rows(clip, perfect_tracker(clip), leave_out_last=True)

    assert [row["frames"] for row in rows] == [[1, 2]] * 2


def test_an_object_counts_from_where_it_is_given(tmp_path: Path) -> None:
    """An object given on frame 2 counts on the frames after it."""
    clip = video(tmp_path, first_frames={1: 0, 2: 2})
    rows = video_rows(clip, perfect_tracker(clip))

    assert [row["frames"] for row in rows] == [[1, 2, 3], [3]]


def test_an_object_that_never_counts_is_not_defined(tmp_path: Path) -> None:
    """An object given on the last frame has no J, no F and no prediction."""
    clip = video(tmp_path, first_frames={1: 0, 2: 3})
    row = video_rows(clip, perfect_tracker(clip))[1]

    assert {row[name] for name in VOS_METRICS} == {None}
    assert "prediction" not in row


def test_void_pixels_count_for_nothing(tmp_path: Path) -> None:
    """Pixels of -1 are removed from truth and prediction."""
    clip = video(tmp_path, 2)

    def void(index: int) -> np.ndarray:
        drawn = labels(index)
        drawn[:, 24:30] = -1 if index else drawn[:, 24:30]
        return drawn

    holed = dataclasses.replace(clip, load_labels=void)
    larger = labels(1)
    larger[6:26, 24:30] = 1
    row = video_rows(holed, iter([labels(0), larger]))[0]

    assert (row["j"], row["f"]) == (1.0, 1.0)


def test_masks_may_overlap_where_the_truth_does(tmp_path: Path) -> None:
    """With masks by id two objects may have the same pixel, and a lacking one is empty."""
    clip = video(tmp_path, 2)
    whole = np.ones(SIZE_HW, bool)

    def masks(index: int) -> dict[int, np.ndarray]:
        return {1: whole, 2: labels(index) == 2}

    overlapping = dataclasses.replace(clip, load_masks=masks)
    both = video_rows(overlapping, iter([masks(0), masks(1)]))
    one = video_rows(overlapping, iter([masks(0), {1: whole}]))

    assert [row["j"] for row in both] == [1.0, 1.0]
    assert [row["j"] for row in one] == [1.0, 0.0]


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    """A tracker that ends early is an error that says where."""
    clip = video(tmp_path)

    with pytest.raises(InputError, match=r"masks for each of 4 frames of 'clip', got 2"):
        video_rows(clip, iter([labels(0), labels(1)]))


def test_another_size_is_refused(tmp_path: Path) -> None:
    """A label map of another size is an error that names the frame."""
    clip = video(tmp_path)

    with pytest.raises(InputError, match=r"masks of \(48, 64\) for 'clip'.*\(8, 8\) for frame 1"):
        video_rows(clip, iter([np.zeros((8, 8), int)] * 4))


def test_a_lacking_first_mask_is_refused(tmp_path: Path) -> None:
    """An object that is not where it is to be given is named."""
    clip = dataclasses.replace(video(tmp_path), first_frames={1: 0, 7: 1})

    with pytest.raises(InputError, match=r"expected object 7 in the label map of frame 1"):
        given_masks(clip, 1)


def test_the_highest_logit_has_the_pixel() -> None:
    """A label map gives each pixel to the surest object, and none where no logit is above 0."""
    low = np.zeros((2, 1, 3), np.float32)
    low[0], low[1] = [[3, 1, -1]], [[2, 2, -2]]
    frame = FrameMasks(0, 0.0, (5, 9), low > 0, np.ones(2, np.float32), np.ones(2, np.float32), low)
    none = FrameMasks(0, 0.0, (), np.zeros((0, 1, 3), bool), *[np.zeros(0, np.float32)] * 3)

    assert label_map(frame).tolist() == [[5, 9, 0]]
    assert label_map(none).tolist() == [[0, 0, 0]]


def test_a_session_takes_objects_when_they_enter(tmp_path: Path) -> None:
    """Each frame gets a label map; before an object is given, it is on none of them."""
    clip = video(tmp_path, first_frames={1: 1, 2: 3})
    shown = list(SessionTracker(tiny_sam2())(clip))

    assert [frame.shape for frame in shown] == [SIZE_HW] * 4
    assert not shown[0].any()
    assert not any((frame == 2).any() for frame in shown[:3])
    assert plain_iou(shown[1] == 1, labels(1) == 1) > 0.5
    assert plain_iou(shown[3] == 2, labels(3) == 2) > 0.5
    assert len(video_rows(clip, iter(shown))) == 2


def test_a_session_gives_masks_where_the_truth_overlaps(tmp_path: Path) -> None:
    """Objects whose truth overlaps come as masks by id."""
    clip = video(tmp_path, 2)
    overlapping = dataclasses.replace(
        clip, load_masks=lambda index: {k: labels(index) == k for k in (1, 2)}
    )
    shown = list(SessionTracker(tiny_sam2())(overlapping))

    assert [sorted(frame) for frame in shown] == [[1, 2], [1, 2]]


def test_a_video_without_objects_is_refused(tmp_path: Path) -> None:
    """There is nothing to track where no object is given."""
    clip = dataclasses.replace(video(tmp_path), first_frames={})

    with pytest.raises(InputError, match="expected objects to track in 'clip', got none"):
        next(SessionTracker(tiny_sam2())(clip))


def shifted(clip: LabelledVideo) -> Iterator[np.ndarray]:
    """Yield the truth of five frames before; before there is one, nothing."""
    for index in range(len(clip.frames)):
        truth = clip.load_labels(max(0, index - 5))
        yield truth if index >= 5 else np.zeros_like(truth)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blackswan", "car-shadow"])
def test_shifted_masks_score_as_recorded(name: str, shared_data: Path, shared_parity: Path) -> None:
    """J and F on the truth of five frames before equal those of the official evaluation."""
    recorded = json.loads((shared_parity / "davis_metrics.json").read_text())["sequences"][name]
    folder = shared_data / "davis16_video" / name
    frames = tuple(sorted((folder / "images").iterdir()))
    masks = sorted((folder / "masks").iterdir())
    clip = LabelledVideo(
        name,
        frames,
        tuple(range(len(frames))),
        {1: 0},
        lambda index: (np.asarray(read_mask(masks[index])) > 0).astype(np.int32),
    )
    (row,) = video_rows(clip, shifted(clip))
    counted = slice(row["frames"].index(5), None)

    assert row["j_per_frame"][counted] == pytest.approx(recorded["J"], abs=1e-4)
    assert row["f_per_frame"][counted] == pytest.approx(recorded["F"], abs=1e-4)
    assert np.mean(row["f_per_frame"][counted]) == pytest.approx(recorded["F_mean"], abs=1e-4)
