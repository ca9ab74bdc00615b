"""J, F and their statistics; the recorded numbers of the official DAVIS evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import InputError
from nexus.eval.metrics import (
    VideoScores,
    boundary_f,
    boundary_frames,
    davis_summary,
    frame_statistics,
    iou,
    j_and_f,
    jaccard_frames,
    score_label_maps,
)

SHIFT = 5


def moving(frames: int = 8, size: int = 40) -> list[NDArray[np.bool_]]:
    """Draw a square that goes right by a pixel a frame."""
    masks = [np.zeros((size, size), bool) for _ in range(frames)]
    for index, mask in enumerate(masks):
        mask[10:22, 5 + index : 17 + index] = True
    return masks


@pytest.mark.parametrize("name", ["blackswan", "car-shadow"])
def test_shifted_ground_truth_has_the_official_j_and_f(
    shared_parity: Path, shared_data: Path, name: str
) -> None:
    """Frame by frame and in the mean, as recorded from the DAVIS evaluation."""
    expected = json.loads((shared_parity / "davis_metrics.json").read_text("utf-8"))
    recorded: dict[str, Any] = expected["sequences"][name]
    files = sorted((shared_data / "davis16_video" / name / "masks").iterdir())
    masks = [np.asarray(Image.open(file)) > 0 for file in files]
    scores = j_and_f(masks[:-SHIFT], masks[SHIFT:], skip_ends=False)

    assert len(masks) == recorded["frames"]
    np.testing.assert_allclose(scores.j, recorded["J"], atol=1e-4)
    np.testing.assert_allclose(scores.f, recorded["F"], atol=1e-4)
    assert scores.j_statistics.mean == pytest.approx(recorded["J_mean"], abs=1e-4)
    assert scores.f_statistics.mean == pytest.approx(recorded["F_mean"], abs=1e-4)


def toolkit_statistics(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Compute mean, recall and decay with the formula of DAVIS 2017, from bins of frames 1..T."""
    ends = [int(np.floor(1 + k * (len(values) - 1) / 4 + 0.5)) for k in range(5)]
    bins = [values[ends[k] - 1 : ends[k + 1]] for k in range(4)]
    recall = sum(value > 0.5 for value in values) / len(values)
    return float(values.mean()), recall, float(bins[0].mean() - bins[3].mean())


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7, 40, 67, 300])
def test_statistics_are_those_of_the_toolkit(frames: int) -> None:
    """For videos of any length, also beyond the 255 frames its 8-bit indices reach."""
    values = np.random.default_rng(frames).random(frames)
    found = frame_statistics(values)

    assert (found.mean, found.recall, found.decay) == pytest.approx(toolkit_statistics(values))


def test_recall_counts_frames_above_one_half() -> None:
    """One half itself is not above."""
    assert frame_statistics([0.5, 0.51, 1.0, 0.0]).recall == 0.5


def test_decay_is_negative_where_tracking_improves() -> None:
    """First quarter less last quarter."""
    rising = np.linspace(0.2, 0.8, 40)

    assert frame_statistics(rising).decay == pytest.approx(-frame_statistics(rising[::-1]).decay)
    assert frame_statistics(rising).decay < -0.4


def test_frames_without_the_object_are_empty_masks() -> None:
    """None in both is agreement; None in one is an IoU and F of 0."""
    mask, empty = moving(1)[0], np.zeros((40, 40), bool)
    predicted = [None, None, mask, None, mask]
    truth = [None, mask, None, empty, mask]

    assert jaccard_frames(predicted, truth).tolist() == [1, 0, 0, 1, 1]
    assert boundary_frames(predicted, truth).tolist() == [1, 0, 0, 1, 1]


def test_the_first_and_the_last_frame_do_not_count() -> None:
    """As in the semi-supervised task; skip_ends=False counts them."""
    truth = moving()
    predicted = [np.zeros_like(truth[0]), *truth[1:-1], np.zeros_like(truth[0])]

    assert j_and_f(predicted, truth).j_and_f == 1.0
    assert len(j_and_f(predicted, truth).j) == 6
    assert j_and_f(predicted, truth, skip_ends=False).j.tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def test_ignored_pixels_are_taken_from_each_frame() -> None:
    """A frame may have some, or None."""
    truth, predicted = moving(2), moving(3)[1:]
    void = ~(truth[0] & predicted[0])

    assert jaccard_frames(predicted, truth, [void, None]).tolist() == [
        1.0,
        iou(predicted[1], truth[1]),
    ]


def label_maps(count: int = 6) -> list[NDArray[np.int32]]:
    """Draw two objects, 1 and 4; the second comes in on frame 2."""
    maps = []
    for index, mask in enumerate(moving(count)):
        labels = mask.astype(np.int32)
        if index >= 2:
            labels[25:35, index : index + 12] = 4
        maps.append(labels)
    return maps


def test_label_maps_give_the_scores_of_their_masks() -> None:
    """Each object from the frame after its first, the last frame left out."""
    truth = label_maps()
    predicted = [np.roll(labels, 1, axis=1) for labels in truth]
    scores = score_label_maps(iter(predicted), iter(truth), {1: 0, 4: 2})

    assert {key: len(value.j) for key, value in scores.items()} == {1: 4, 4: 2}
    for key, value in scores.items():
        start = {1: 1, 4: 3}[key]
        pairs = list(zip(predicted, truth, strict=True))[start:-1]
        assert value.j.tolist() == [iou(p == key, t == key) for p, t in pairs]
        assert value.f.tolist() == [boundary_f(p == key, t == key) for p, t in pairs]


def test_missing_objects_and_frames_score_zero() -> None:
    """An object nobody predicted, a frame nothing was predicted for; other ids do not matter."""
    truth = label_maps()
    predicted: list[NDArray[np.int32] | None] = [np.where(m == 1, 1, m * 2) for m in truth]
    predicted[3] = None
    scores = score_label_maps(predicted, truth, {1: 0, 4: 2}, skip_last=False)

    assert scores[1].j.tolist() == [1, 1, 0, 1, 1]
    assert scores[4].j_and_f == 0.0


def test_negative_labels_count_for_nothing() -> None:
    """What is predicted there is no error."""
    truth = label_maps(3)
    predicted = [labels.copy() for labels in truth]
    for labels, wanted in zip(predicted, truth, strict=True):
        labels[:5] = 1
        wanted[:5] = -1

    assert score_label_maps(predicted, truth, {1: 0})[1].j_and_f == 1.0


def test_a_summary_weighs_objects_alike() -> None:
    """However many frames each has."""
    long, short = (
        VideoScores(np.full(n, j), np.full(n, f)) for n, j, f in [(90, 0.4, 0.6), (3, 0.8, 1.0)]
    )
    summary = davis_summary([long, short])

    assert summary == pytest.approx(
        {
            "j_and_f": 0.7,
            "j_mean": 0.6,
            "j_recall": 0.5,
            "j_decay": 0.0,
            "f_mean": 0.8,
            "f_recall": 1.0,
            "f_decay": 0.0,
        }
    )


def test_wrong_videos_are_refused() -> None:
    """Other numbers of frames, no frame, no object, float label maps."""
    truth, labels = moving(3), label_maps(3)

    with pytest.raises(InputError, match=r"(?s)as many predicted frames .*\[2, 3\].*None stands"):
        jaccard_frames(truth[:2], truth)
    with pytest.raises(InputError, match=r"\[3, 3, 1\]"):
        boundary_frames(truth, truth, [None])
    with pytest.raises(InputError, match=r"(?s)got a video of 2.*skip_ends=False"):
        j_and_f(truth[:2], truth[:2])
    with pytest.raises(InputError, match=r"at least one frame, got shape \(0,\)"):
        frame_statistics([])
    with pytest.raises(InputError, match="scores of at least one object, got none"):
        davis_summary([])
    with pytest.raises(InputError, match="at least one object, got none"):
        score_label_maps(labels, labels, {})
    with pytest.raises(InputError, match="as many predicted label maps as true ones"):
        score_label_maps(labels[:2], labels, {1: 0})
    with pytest.raises(InputError, match=r"label maps of integers, got float64 in frame 0"):
        score_label_maps([m * 1.0 for m in labels], labels, {1: 0})
    with pytest.raises(InputError, match=r"(?s)counts for object 1, got none.*skip_last=False"):
        score_label_maps(labels, labels, {1: 1})
