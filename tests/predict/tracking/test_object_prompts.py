from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nexus.core.errors import ImageNotFoundError, InputError, NexusWarning, PromptError
from nexus.data.video import FrameIndexError, open_video
from nexus.predict.tracking.object_prompts import (
    ObjectPrompt,
    join_prompts,
    prompts_of_clips,
    read_object_mask,
    read_prompts,
)

CLIP = np.zeros((3, 20, 30, 3), np.uint8)
BOX = [1, 2, 3, 4]


def picture(path: Path, values: list[int]) -> Path:
    """Write a label map of the clip's size with a column of each value."""
    labels = np.zeros(CLIP.shape[1:3], np.uint8)
    for column, value in enumerate(values):
        labels[:, column] = value
    Image.fromarray(labels).save(path)
    return path


def test_prompts_that_exclude_each_other_are_refused() -> None:
    """Two boxes, and a mask with anything else, cannot be one prompt."""
    box, point = ObjectPrompt(2, 1, box=BOX), ObjectPrompt(2, 1, [[1, 2]], [1])
    mask = ObjectPrompt(2, 1, mask_file=Path("a.png"))

    assert join_prompts([point, box, point]) == [
        ObjectPrompt(2, 1, [[1, 2], [1, 2]], [1, 1], box=BOX)
    ]
    with pytest.raises(InputError, match="expected one box for object 1 on frame 2, got two"):
        join_prompts([box, box])
    for pair in ([point, mask], [mask, box], [mask, mask]):
        with pytest.raises(InputError, match="expected a mask alone for object 1 on frame 2"):
            join_prompts(pair)


def test_numbers_come_in_any_form_and_are_kept_plain() -> None:
    """Arrays and tuples are as lists, which JSON gives back; points without labels are all on."""
    prompt = ObjectPrompt(0, 1, np.array([[1.5, 2]]), box=(1, 2, 3, 4))

    assert prompt == ObjectPrompt(0, 1, [[1.5, 2]], [1], [1, 2, 3, 4])
    assert ObjectPrompt.from_json(json.loads(json.dumps(prompt.as_json()))) == prompt
    with pytest.raises(PromptError, match=r"expected points as numbers in rows, got \[\[1, 2\]"):
        ObjectPrompt(0, 1, [[1, 2], [3]])


def test_a_jpeg_mask_is_one_object_with_a_warning(tmp_path: Path) -> None:
    """Its grey levels are cut, whatever the number of the object."""
    drawn = np.zeros((64, 64), np.uint8)
    drawn[13:50, 10:45] = 255
    Image.fromarray(drawn).save(tmp_path / "a.jpg", quality=40)

    with pytest.warns(NexusWarning, match=r"a.jpg': grey levels cut half-way"):
        mask = read_object_mask(tmp_path / "a.jpg", 7)

    np.testing.assert_array_equal(mask, drawn > 0)


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
        ObjectPrompt(2, 1, [[5, 6]], [1], BOX).check(clip)
        with pytest.raises(FrameIndexError, match=r"in 0\.\.2 .*, got 3"):
            ObjectPrompt(3, 1, box=BOX).check(clip)
        with pytest.raises(PromptError, match="points inside the image"):
            ObjectPrompt(0, 1, [[30.5, 6]], [1]).check(clip)
        with pytest.raises(
            PromptError, match="a mask of 30 x 20 pixels as the clip has, got .*30 x 10"
        ):
            ObjectPrompt(0, 1, mask_file=small).check(clip)


RECORDS: list[dict[str, Any]] = [
    {"frame": 0, "object": 1, "box": BOX},
    {"frame": 4, "object": 2, "points": [[5, 6]], "labels": [0]},
    {"frame": 0, "object": 3, "mask": "cup.png"},
]
PROMPTS = [
    ObjectPrompt(0, 1, box=BOX),
    ObjectPrompt(4, 2, [[5, 6]], [0]),
    ObjectPrompt(0, 3, mask_file=Path("cup.png")),
]
TABLE = "object,frame,x0,y0,x1,y1,x,y,label,mask\n1,,1,2,3,4\n2,4,,,,,5,6,0\n3,0,,,,,,,,cup.png\n"


def in_folder(folder: Path) -> list[ObjectPrompt]:
    """Return the prompts with the path of the mask from a folder."""
    return [*PROMPTS[:2], ObjectPrompt(0, 3, mask_file=folder / "cup.png")]


def test_a_file_holds_prompts_for_all_clips_or_for_each(tmp_path: Path) -> None:
    """A list and a table are for all; an object and a table with a column `clip` for each."""
    (tmp_path / "all.json").write_text(json.dumps(RECORDS))
    (tmp_path / "each.json").write_text(json.dumps({"a.mp4": RECORDS[:1], "b": RECORDS}))
    (tmp_path / "all.csv").write_text(TABLE)
    rows = [f"a.mp4, {row}" for row in TABLE.splitlines()[1:]]
    (tmp_path / "each.csv").write_text("\n".join(["clip," + TABLE.splitlines()[0], *rows]))

    assert read_prompts(tmp_path / "all.json") == in_folder(tmp_path)
    assert read_prompts(tmp_path / "all.csv") == in_folder(tmp_path)
    assert read_prompts(tmp_path / "each.json") == {
        "a.mp4": PROMPTS[:1],
        "b": in_folder(tmp_path),
    }
    assert read_prompts(tmp_path / "each.csv") == {"a.mp4": in_folder(tmp_path)}
    assert [prompt.as_json() for prompt in PROMPTS] == RECORDS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no.json", None, "expected a JSON or CSV file of prompts, got '.*no.json'"),
        ("a.json", "{", "expected a JSON or CSV file of prompts"),
        ("a.json", "3", "expected a JSON or CSV file of prompts"),
        ("a.json", "[3]", "expected a JSON or CSV file of prompts"),
        ("a.json", '[{"object": 1}]', "a.json': expected a prompt with object (.*) and a box"),
        ("a.json", '[{"object": 0, "box": [1, 2, 3, 4]}]', "got {'object': 0"),
        ("a.json", '[{"object": 1, "bbox": [1, 2, 3, 4]}]', "(?s:.)*hint: the keys are frame, obj"),
        ("a.csv", "x,y\n1,2\n", "a.csv': expected a table with the column object, .* got x, y"),
        ("a.csv", "object,z\n1,2\n", "expected a table with the column object"),
        ("a.csv", "object,x,y\n1,2\n", "expected a row of numbers in line 2, got {'object'"),
        ("a.csv", "object,x,y\n1,2,b\n", "expected a row of numbers in line 2"),
        ("a.csv", "clip,object,x,y\n,1,2,3\n", "expected a clip in every row"),
    ],
)
def test_a_file_of_something_else_is_refused(
    name: str, text: str | None, message: str, tmp_path: Path
) -> None:
    """The message names the file and what is wrong with it."""
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / name)


def test_a_clip_has_its_prompts_by_either_name(tmp_path: Path) -> None:
    """With the ending or without; one list is for every clip; a clip without any is named."""
    first, second = PROMPTS[:2]
    clips = [("set/a.mp4", "a"), ("b.mp4", "b")]
    (tmp_path / "a.json").write_text(json.dumps({"set/a.mp4": RECORDS[:1], "b": RECORDS[1:2]}))

    assert prompts_of_clips(tmp_path / "a.json", clips) == [[first], [second]]
    assert prompts_of_clips({"a": [first], "b.mp4": [second], "c": []}, clips) == [
        [first],
        [second],
    ]
    assert prompts_of_clips([second, first], clips) == [[first, second]] * 2
    with pytest.raises(InputError, match=r"got none for 'b\.mp4'\nhint: .* prompts for 'a', 'B'"):
        prompts_of_clips({"a": [first], "B": [second]}, clips)
    with pytest.raises(InputError, match=r"at least one prompt for every clip, got none"):
        prompts_of_clips([], clips)
