from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nexus.cli.track_prompts import check_prompts, parse_prompts, read_object_mask
from nexus.core.errors import ImageNotFoundError, InputError, PromptError
from nexus.data.video.opening import FrameIndexError, open_video

CLIP = np.zeros((3, 20, 30, 3), np.uint8)


def picture(path: Path, values: list[int]) -> Path:
    """Write a label map of the clip's size with a column of each value."""
    labels = np.zeros(CLIP.shape[1:3], np.uint8)
    for column, value in enumerate(values):
        labels[:, column] = value
    Image.fromarray(labels).save(path)
    return path


def test_prompts_are_put_together_by_frame_and_object() -> None:
    """Points join the box of their object on their frame; the order is that of frames, then ids."""
    prompts = parse_prompts(
        ["2:1,2,3,4@1", "1:1,2,3,4"], ["2:5,6@1", "2:7,8,0@1", "2:9,9,1"], ["3:a:b@c.png@10"]
    )

    assert [prompt.as_json() for prompt in prompts] == [
        {"frame": 0, "object": 1, "box": [1, 2, 3, 4]},
        {"frame": 0, "object": 2, "points": [[9, 9]], "labels": [1]},
        {
            "frame": 1,
            "object": 2,
            "points": [[5, 6], [7, 8]],
            "labels": [1, 0],
            "box": [1, 2, 3, 4],
        },
        {"frame": 10, "object": 3, "mask": "a:b@c.png"},
    ]
    assert prompts[0].arguments() == {"frame_index": 0, "object_id": 1, "box": [1, 2, 3, 4]}


@pytest.mark.parametrize("text", ["1,2,3,4", "x:1,2,3,4", "0:1,2,3,4", "-1:1,2,3,4", "1:", "1:@3"])
def test_a_prompt_without_an_objects_number_is_refused(text: str) -> None:
    """The message has the form that was expected, and the hint says what ID is."""
    with pytest.raises(InputError, match=r"expected --box ID:x0,y0,x1,y1 (?s:.)*hint: ID is your"):
        parse_prompts([text], [], [])


@pytest.mark.parametrize(
    ("boxes", "points"),
    [(["1:1,2,3"], []), (["1:1,2,3,4@x"], []), ([], ["1:1"]), ([], ["1:1 2"])],
)
def test_numbers_that_are_none_are_refused(boxes: list[str], points: list[str]) -> None:
    """The message shows the whole prompt."""
    with pytest.raises(InputError, match=r"expected --(box|point) ID:.*got '1:.*'(?s:.)*commas"):
        parse_prompts(boxes, points, [])


def test_prompts_that_exclude_each_other_are_refused() -> None:
    """Two boxes, and a mask with anything else, cannot be one prompt."""
    with pytest.raises(InputError, match="expected one --box for object 1 on frame 2, got two"):
        parse_prompts(["1:1,2,3,4@2", "1:1,2,3,5@2"], [], [])
    with pytest.raises(InputError, match="expected --mask alone for object 1 on frame 0"):
        parse_prompts([], ["1:1,2"], ["1:a.png"])
    with pytest.raises(InputError, match="expected at least one --box, --point or --mask"):
        parse_prompts([], [], [])


def test_a_mask_is_any_value_or_the_objects_number(tmp_path: Path) -> None:
    """With one value it is the object's whatever the value; with several it is a label map."""
    binary = read_object_mask(picture(tmp_path / "a.png", [0, 255]), 7)
    labels = read_object_mask(picture(tmp_path / "b.png", [1, 7, 7, 9]), 7)

    assert np.flatnonzero(binary[0]).tolist() == [1]
    assert np.flatnonzero(labels[0]).tolist() == [1, 2]
    assert binary.dtype == labels.dtype == np.bool_


def test_a_mask_without_the_object_is_refused(tmp_path: Path) -> None:
    """A label map with other objects, an empty picture and a missing one each say what is there."""
    with pytest.raises(PromptError, match="with object 3, got .*b.png' with objects 1, 7"):
        read_object_mask(picture(tmp_path / "b.png", [1, 7]), 3)
    with pytest.raises(PromptError, match="with pixels above 0, got .*c.png' with none"):
        read_object_mask(picture(tmp_path / "c.png", []), 3)
    with pytest.raises(ImageNotFoundError, match=r"no\.png"):
        read_object_mask(tmp_path / "no.png", 3)


def test_prompts_must_fit_the_clip(tmp_path: Path) -> None:
    """A frame past the end, a point outside and a mask of another size are refused."""
    small = tmp_path / "small.png"
    Image.fromarray(np.ones((10, 30), np.uint8)).save(small)

    with open_video(CLIP) as clip:
        check_prompts(parse_prompts(["1:1,2,3,4@2"], ["1:5,6"], []), clip)
        with pytest.raises(FrameIndexError, match=r"in 0\.\.2 .*, got 3"):
            check_prompts(parse_prompts(["1:1,2,3,4@3"], [], []), clip)
        with pytest.raises(PromptError, match="points inside the image"):
            check_prompts(parse_prompts([], ["1:30.5,6"], []), clip)
        with pytest.raises(
            PromptError, match="a mask of 30 x 20 pixels as the clip has, got .*30 x 10"
        ):
            check_prompts(parse_prompts([], [], [f"1:{small}"]), clip)
