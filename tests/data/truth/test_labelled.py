from __future__ import annotations

import dataclasses
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.truth.labelled import (
    LabelledImage,
    LabelledVideo,
    Truth,
    held_out_split,
    largest_truths,
    truths_of_labels,
)

LABELS = np.array([[0, 3, 3], [1, 1, 1], [0, 7, 0]], np.int32)


def give(value: object, *_: object) -> object:
    return value


def image(name: str) -> LabelledImage:
    return LabelledImage(name, partial(give, np.zeros((3, 3, 3), np.uint8)), partial(give, []))


def truth(number: int, area: int) -> Truth:
    return Truth(number, np.arange(9).reshape(3, 3) < area, (0, 0, 3, 3))


def test_a_label_map_gives_an_object_a_value() -> None:
    """Objects are the values above 0 in ascending order, with tight boxes and class names."""
    truths = truths_of_labels(LABELS, {3: "cat"}, min_area=2)

    assert [t.object_id for t in truths] == [1, 3]
    assert [t.category for t in truths] == [None, "cat"]
    assert [t.box_xyxy for t in truths] == [(0, 1, 3, 2), (1, 0, 3, 1)]
    assert truths[1].mask.tolist() == (LABELS == 3).tolist()


def test_largest_truths_are_in_descending_area() -> None:
    """At most N of them, none under the least area, equal ones in their order."""
    truths = [truth(1, 2), truth(2, 5), truth(3, 2), truth(4, 9)]

    assert [t.object_id for t in largest_truths(truths)] == [4, 2, 1, 3]
    assert [t.object_id for t in largest_truths(truths, 3, 2)] == [4, 2, 1]
    assert [t.object_id for t in largest_truths(truths, None, 5)] == [4, 2]
    assert largest_truths(truths, 0) == []


def test_objects_to_ignore_are_not_among_the_largest() -> None:
    """A crowd takes no place of an object that counts."""
    crowd = dataclasses.replace(truth(1, 9), ignore=True)

    assert [t.object_id for t in largest_truths([crowd, truth(2, 5)], 1)] == [2]


def test_a_count_of_objects_is_not_negative() -> None:
    """Fewer than no objects are refused."""
    with pytest.raises(InputError, match="max_objects of 0 or more or None, got -1"):
        largest_truths([], -1)


def test_the_last_quarter_by_name_is_held_out() -> None:
    """floor(n * share) images are held out, whatever order they come in."""
    images = [image(name) for name in ("d", "b", "a", "c", "e", "g", "f")]
    train, held_out = held_out_split(images)

    assert [i.name for i in train] == list("abcdef")
    assert [i.name for i in held_out] == ["g"]
    assert [len(held_out_split(images[:n])[1]) for n in (0, 3, 4, 7)] == [0, 0, 1, 1]
    assert [i.name for i in held_out_split(images, 0.5)[1]] == ["e", "f", "g"]
    assert held_out_split(images, 0)[1] == []


def test_what_is_held_out_can_be_stated() -> None:
    """A part stated for it is held out whole, and all the rest is learnt from."""
    images, stated = [image("b"), image("a")], [image("d"), image("c")]
    train, held_out = held_out_split(images, 0.5, stated)

    assert [i.name for i in train] == ["a", "b"]
    assert [i.name for i in held_out] == ["c", "d"]
    assert held_out_split(images, 0.5, [])[1] == []


def test_a_share_is_a_share() -> None:
    """A share above 1 is refused."""
    with pytest.raises(InputError, match=r"share in \[0, 1\], got 25"):
        held_out_split([], 25)


def test_masks_of_a_video_come_from_its_label_map() -> None:
    """Each object that is there has a mask; void pixels belong to none."""
    labels = np.where(LABELS == 7, -1, LABELS)
    video = LabelledVideo("v", (Path("0.jpg"),), (0,), {1: 0}, partial(give, labels))
    masks = pickle.loads(pickle.dumps(video)).masks(0)

    assert {i: mask.tolist() for i, mask in masks.items()} == {
        1: (LABELS == 1).tolist(),
        3: (LABELS == 3).tolist(),
    }


def test_overlapping_masks_are_kept_apart() -> None:
    """Where a video reads its masks one by one they may overlap; empty ones are left out."""
    both = {1: LABELS > 0, 2: LABELS == 3, 3: LABELS > 9}
    video = LabelledVideo(
        "v", (Path("0.jpg"),), (0,), {1: 0}, partial(give, LABELS), partial(give, both)
    )

    assert list(video.masks(0)) == [1, 2]
    assert (video.masks(0)[1] & video.masks(0)[2]).any()


def test_a_frame_without_annotation_has_no_masks() -> None:
    """Only annotated frames can be asked for."""
    video = LabelledVideo("v", (Path("0.jpg"),) * 2, (0,), {1: 0}, partial(give, LABELS))

    with pytest.raises(InputError, match="annotated frame of 'v', got frame 1"):
        video.masks(1)


def test_all_pixels_count_unless_told() -> None:
    """An image without a function for ignored pixels has none."""
    assert image("a").ignored() is None
