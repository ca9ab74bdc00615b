"""Clips drawn from labelled videos are what the settings say, and the same each time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.train.video.clip_sampling import (
    ClickTeacher,
    ClipSample,
    ClipSettings,
    draw_clip,
    usable_videos,
)
from tests.train.moving_square import moving_square

PLAIN = ClipSettings(frames=4, reverse=0.0, flip=0.0, first={"mask": 1.0})


def draws(folder: Path, settings: ClipSettings, count: int = 20) -> list[ClipSample]:
    """Return clips of a video of ten frames with two objects."""
    video = moving_square(folder, count=10, objects=2)
    return [draw_clip([video], settings, 0, step) for step in range(count)]


def test_a_clip_is_neighbouring_frames_with_their_masks(tmp_path: Path) -> None:
    """Frames, masks and ids belong together, and everything is of one size."""
    sample = draws(tmp_path, PLAIN, 1)[0]
    first = sample.indices[0]

    assert sample.indices == tuple(range(first, first + 4))
    assert len(sample.frames) == 4
    assert sample.masks.shape == (4, 2, 48, 64)
    assert not sample.ignored.any()
    assert sample.object_ids == (1, 2)
    assert (sample.frames[2][sample.masks[2, 0]] == (250, 40, 60)).all()


def test_the_same_numbers_give_the_same_clip(tmp_path: Path) -> None:
    """A clip and its prompts follow from seed, step and row alone."""
    video = moving_square(tmp_path, objects=2)
    settings = ClipSettings(frames=3)
    one, same, other = (draw_clip([video], settings, 3, 5, row) for row in (0, 0, 1))
    prompts, again = one.prompts(), same.prompts()

    assert (one.indices, one.kind, one.corrected) == (same.indices, same.kind, same.corrected)
    assert all(np.array_equal(a, b) for a, b in zip(one.frames, same.frames, strict=True))
    assert repr(prompts) == repr(again)
    assert not np.array_equal(np.stack(one.frames), np.stack(other.frames))


def test_strides_stay_in_the_video(tmp_path: Path) -> None:
    """Neighbours are 1 to `max_stride` frames apart, less where the video is too short."""
    samples = draws(tmp_path, dataclasses.replace(PLAIN, max_stride=9), 40)
    steps = {tuple(np.diff(sample.indices)) for sample in samples}

    assert steps == {(1, 1, 1), (2, 2, 2), (3, 3, 3)}


def test_shares_of_one_always_and_of_zero_never_happen(tmp_path: Path) -> None:
    """Clips go backward and are mirrored exactly as often as they are asked to at the ends."""
    backward = draws(tmp_path, dataclasses.replace(PLAIN, reverse=1.0, flip=1.0), 5)
    forward = draws(tmp_path, PLAIN, 5)

    assert all(sample.indices[0] > sample.indices[-1] for sample in backward)
    assert all(sample.indices[0] < sample.indices[-1] for sample in forward)
    # Object 2 is at the left, mirrored at the right.
    assert all(sample.masks[0, 1, :, 40:].any() for sample in backward)
    assert not any(sample.masks[0, 1, :, 40:].any() for sample in forward)


def test_a_short_video_gives_a_short_clip(tmp_path: Path) -> None:
    """A clip has all annotated frames of a video with fewer than were asked for."""
    video = dataclasses.replace(moving_square(tmp_path), annotated=(2, 5))
    sample = draw_clip([video], PLAIN, 0)

    assert sample.indices == (2, 5)


def test_at_most_so_many_objects(tmp_path: Path) -> None:
    """With room for one object each is drawn now and then."""
    samples = draws(tmp_path, dataclasses.replace(PLAIN, most_objects=1))

    assert {sample.object_ids for sample in samples} == {(1,), (2,)}


def test_pixels_that_count_for_nothing_are_told(tmp_path: Path) -> None:
    """Label -1 is no object, and is handed on."""
    video = moving_square(tmp_path)

    def labels(index: int) -> np.ndarray:
        known = video.load_labels(index)
        known[:2] = -1
        return known

    sample = draw_clip([dataclasses.replace(video, load_labels=labels)], PLAIN, 0)

    assert sample.object_ids == (1,)
    assert sample.ignored[:, :2].all()
    assert not sample.ignored[:, 2:].any()


def test_a_clip_begins_on_a_frame_with_an_object(tmp_path: Path) -> None:
    """Frames without any object are passed over as first frames."""
    video = moving_square(tmp_path)

    def labels(index: int) -> np.ndarray:
        return video.load_labels(index) if index == 3 else np.zeros((48, 64), np.int32)

    samples = [
        draw_clip([dataclasses.replace(video, load_labels=labels)], PLAIN, step)
        for step in range(4)
    ]

    assert {sample.indices[0] for sample in samples} == {3}


@pytest.mark.parametrize("kind", ["mask", "click", "box"])
def test_first_prompts_point_at_their_objects(tmp_path: Path, kind: str) -> None:
    """A mask is the true one, a click is on the object, a box is near it."""
    sample = draws(tmp_path, dataclasses.replace(PLAIN, first={kind: 1.0}), 1)[0]
    prompts = sample.prompts()

    assert list(prompts) == [1, 2]
    for row, prompt in enumerate(prompts.values()):
        truth = sample.masks[0, row]
        if kind == "mask":
            assert np.array_equal(prompt.mask, truth)
        elif kind == "click":
            (x, y), (label,) = prompt.points[0], prompt.labels
            assert truth[int(y), int(x)]
            assert label == 1
        else:
            x0, y0, x1, y1 = prompt.box
            inside = truth[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
            assert inside.sum() > 0.4 * truth.sum()


def test_clips_that_begin_with_a_mask_are_not_corrected(tmp_path: Path) -> None:
    """Corrections are for clicks and boxes, on the first frame and `corrected_frames` - 1 more."""
    masks = draws(tmp_path, PLAIN, 3)
    clicks = draws(tmp_path, dataclasses.replace(PLAIN, first={"click": 1.0}), 3)

    assert [sample.corrected for sample in masks] == [()] * 3
    assert all(len(set(sample.corrected)) == 2 for sample in clicks)
    assert all(sample.corrected[0] == 0 for sample in clicks)


def test_corrections_are_clicks_on_what_is_wrong(tmp_path: Path) -> None:
    """Each adds one click, with the label of the truth there, and they end after `clicks`."""
    settings = dataclasses.replace(PLAIN, first={"click": 1.0}, clicks=2, corrected_frames=9)
    sample = draws(tmp_path, settings, 1)[0]
    first = sample.prompts()
    teacher = ClickTeacher(sample, first)
    empty = {k: np.zeros((48, 64), bool) for k in (1, 2)}
    rounds = [teacher(0, empty) for _ in range(3)]
    later = teacher(1, empty)

    assert [len(prompt.points) for prompt in rounds[1].values()] == [3, 3]
    assert np.array_equal(rounds[1][1].points[:1], first[1].points)
    assert rounds[2] == {}
    assert [len(prompt.points) for prompt in later.values()] == [1, 1]
    assert later[1].mask is None
    for k, prompt in rounds[1].items():
        assert prompt.labels.tolist() == [1, 1, 1]
        assert all(sample.masks[0, k - 1, int(y), int(x)] for x, y in prompt.points)


def test_frames_that_are_not_to_be_corrected_are_not(tmp_path: Path) -> None:
    """A clip that begins with a mask asks for no correction anywhere."""
    sample = draws(tmp_path, PLAIN, 1)[0]
    teacher = ClickTeacher(sample, sample.prompts())

    assert teacher(0, {1: np.zeros((48, 64), bool)}) == {}


def test_single_frames_are_no_videos(tmp_path: Path) -> None:
    """Videos with one annotated frame are left out, and none but those is an error."""
    video = moving_square(tmp_path)
    single = dataclasses.replace(video, annotated=(0,))

    assert usable_videos([single, video]) == [video]
    with pytest.raises(InputError, match="at least two annotated frames, got none among 1"):
        usable_videos([single])


def test_videos_without_objects_are_refused(tmp_path: Path) -> None:
    """After some draws the message asks whether the label maps are right."""
    video = moving_square(tmp_path, objects=0)
    blank = dataclasses.replace(video, load_labels=lambda _: np.zeros((48, 64), np.int32))
    with pytest.raises(InputError) as caught:
        draw_clip([blank], PLAIN, 0)

    assert "expected frames with an object on them, got none in 50 draws" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 1}, "expected frames of at least 2, got 1"),
        ({"flip": 1.5}, "expected flip from 0 to 1, got 1.5"),
        ({"first": {"scribble": 1.0}}, "among mask, click, box, got scribble"),
        ({"first": {"mask": 0.0}}, "with a sum above 0"),
        ({"first": {}}, "with a sum above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    """The message names the setting."""
    with pytest.raises(InputError) as caught:
        ClipSettings(**values)

    assert message in str(caught.value)
