from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import ImageNotFoundError, InputError
from nexus.data.formats.dataset import find_images, mask_record, object_labels, with_category
from nexus.ops.rle import decode_rle, encode_rle

MASK = np.array([[0, 1, 1], [0, 0, 1]], bool)


def touch(folder: Path, *names: str) -> None:
    """Make files."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def record(**changes: Any) -> dict[str, Any]:
    """Return a classic record of MASK with changes."""
    classic = {
        "segmentation": MASK,
        "bbox": [1, 0, 1, 1],
        "predicted_iou": np.float32(0.5),
        "stability_score": 1,
        "point_coords": [[1.0, 0.5]],
        "crop_box": [0, 0, 3, 2],
    }
    return {**classic, **changes}


def test_a_folder_is_searched_in_the_order_of_names(tmp_path: Path) -> None:
    """Images of a folder come before those of its folders; what is hidden or no image is not."""
    touch(
        tmp_path, "b.PNG", "a.jpg", "c/d.tif", "notes.txt", ".hidden.png", ".git/x.png", "B/e.bmp"
    )
    found = find_images(tmp_path)

    assert [image.file_name for image in found] == ["a.jpg", "b.PNG", "B/e.bmp", "c/d.tif"]
    assert [image.name for image in found] == ["a", "b", "e", "d"]
    assert found[2].path == tmp_path / "B" / "e.bmp"


def test_the_output_folder_is_left_out(tmp_path: Path) -> None:
    """An output folder below the input is not searched, or each run would find the last one."""
    touch(tmp_path, "a.png", "out/images/a.png")

    assert len(find_images(tmp_path, leave_out=tmp_path / "out")) == 1


def test_equal_stems_get_names_of_their_own(tmp_path: Path) -> None:
    """Where stems are alike, in case too, the folders are put before them, then a number."""
    touch(tmp_path, "a.png", "a.jpg", "x/b.png", "y/B.png", "c.png", "x-b.png")
    found = find_images(tmp_path)
    names = {image.file_name: image.name for image in found}

    assert names == {
        "a.jpg": "a-1",
        "a.png": "a-2",
        "c.png": "c",
        "x-b.png": "x-b-1",
        "x/b.png": "x-b-2",
        "y/B.png": "y-B",
    }


def test_several_files_are_named_below_what_they_have_in_common(tmp_path: Path) -> None:
    """Of several sources the names begin below the common folder, and no file comes twice."""
    touch(tmp_path, "in/a.png", "in/deep/b.data")
    found = find_images([tmp_path / "in" / "deep" / "b.data", tmp_path / "in", tmp_path / "in"])

    assert [image.file_name for image in found] == ["deep/b.data", "a.png"]


def test_a_path_without_a_file(tmp_path: Path) -> None:
    """A source that is not there is an error before anything is done."""
    with pytest.raises(ImageNotFoundError, match=r"'.*nothing.png', which does not exist"):
        find_images([tmp_path / "nothing.png"])


def test_a_folder_without_images(tmp_path: Path) -> None:
    """An empty folder is an error that says what counts as an image."""
    with pytest.raises(InputError, match="expected a folder with images in it") as caught:
        find_images(tmp_path)
    assert "PNG" in str(caught.value.hint)


def test_no_sources_at_all() -> None:
    """An empty list is an error."""
    with pytest.raises(InputError, match="at least one image or folder of images, got none"):
        find_images([])


@pytest.mark.parametrize(
    "segmentation",
    [MASK, encode_rle(MASK), {"size": [2, 3], "counts": [2, 1, 1, 2]}],
    ids=["array", "compressed", "plain"],
)
def test_every_output_mode_gives_the_same_record(segmentation: Any) -> None:
    """A record of bools or of either RLE becomes the same plain JSON values."""
    plain = mask_record(record(segmentation=segmentation), (2, 3))

    np.testing.assert_array_equal(decode_rle(plain["segmentation"]), MASK)
    assert plain == {
        "segmentation": encode_rle(MASK),
        "area": 3,
        "bbox": [1, 0, 1, 1],
        "predicted_iou": 0.5,
        "stability_score": 1.0,
        "point_coords": [[1.0, 0.5]],
        "crop_box": [0.0, 0.0, 3.0, 2.0],
        "box_xyxy": [1, 0, 3, 2],
    }


def test_a_mask_from_a_box_has_no_point() -> None:
    """Empty point_coords, as box prompts give them, stay empty."""
    assert mask_record(record(point_coords=[]), (2, 3))["point_coords"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation": np.ones((3, 2), bool)}, r"masks of the image's size \(2, 3\), got \(3,"),
        ({"predicted_iou": float("nan")}, "finite numbers as predicted_iou"),
        ({"bbox": [0, 0, float("inf"), 1]}, "finite numbers as bbox"),
    ],
)
def test_a_wrong_record_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    """A mask of another size and numbers that are none are refused."""
    with pytest.raises(InputError, match=message):
        mask_record(record(**changes), (2, 3))


def test_a_record_without_scores() -> None:
    """Missing keys are listed, and who makes whole records."""
    with pytest.raises(InputError, match="got one without predicted_iou, stab") as caught:
        mask_record({"segmentation": MASK, "bbox": [0, 0, 1, 1]}, (2, 3))
    assert "SAMAutomaticMaskGenerator" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("mask", "number"), [({}, 1), ({"category": "b"}, 2), ({"category_id": 2}, 2)]
)
def test_the_category_of_a_mask(mask: dict[str, Any], number: int) -> None:
    """By name, by number, or the first."""
    assert with_category(mask, ("a", "b")) == {"category_id": number}


@pytest.mark.parametrize("mask", [{"category": "z"}, {"category_id": 3}, {"category_id": "a"}])
def test_a_category_there_is_not(mask: dict[str, Any]) -> None:
    """An unknown name or number is refused with the names there are."""
    with pytest.raises(InputError, match="expected a category among a, b or a number from 1 to 2"):
        with_category(mask, ("a", "b"))


def test_of_equal_masks_the_later_is_seen() -> None:
    """The order of painting is by area, then by place, so it is the same every time."""
    mask = np.ones((2, 3), bool)
    painted = {"segmentation": encode_rle(mask), "area": 6}

    assert (object_labels([painted, painted], (2, 3)) == 2).all()


def test_more_masks_than_a_byte_counts() -> None:
    """Labels above 255 keep their number."""
    masks = [np.arange(300).reshape(15, 20) == index for index in range(300)]
    labels = object_labels([{"segmentation": encode_rle(m), "area": 1} for m in masks], (15, 20))

    np.testing.assert_array_equal(labels.ravel(), np.arange(1, 301))
