from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.truth import open_videos
from nexus.ops.rle import encode_rle

PERSON, HAND = (1, 1, 1, 12, 10), (1, 8, 2, 11, 5)


@pytest.fixture
def val(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out SA-V val: nine frames, a PNG of each object at every fourth; the hand comes later."""
    for number in range(9):
        write.picture(tmp_path / "JPEGImages_24fps" / "sav_1" / f"{number:05d}.jpg")
    for number in (0, 4, 8):
        folder = tmp_path / "Annotations_6fps" / "sav_1"
        hand = write.labels(HAND) * (number > 0)
        write.label_map(folder / "000" / f"{number:05d}.png", write.labels(PERSON) * 255)
        write.label_map(folder / "001" / f"{number:05d}.png", hand * 255)
        write.label_map(folder / "002" / f"{number:05d}.png", write.labels())
    (tmp_path / "sav_val.txt").write_text("sav_1\n", "utf-8")
    return tmp_path


def test_objects_overlap_and_come_when_seen(val: Path, write: SimpleNamespace) -> None:
    """Object 000 is 1; each begins where it is first seen, one never seen is left out."""
    (video,) = pickle.loads(pickle.dumps(open_videos("sa_v", val)))
    masks = video.masks(4)

    assert (video.name, len(video.frames), video.annotated) == ("sav_1", 9, (0, 4, 8))
    assert video.first_frames == {1: 0, 2: 4}
    assert [list(video.masks(i)) for i in video.annotated] == [[1], [1, 2], [1, 2]]
    np.testing.assert_array_equal(masks[1], write.labels(PERSON) > 0)
    np.testing.assert_array_equal(masks[2], write.labels(HAND) > 0)
    assert (masks[1] & masks[2]).any()


def test_the_label_map_shows_the_smaller_on_top(val: Path, write: SimpleNamespace) -> None:
    """Where objects overlap the label map has the smaller one."""
    (video,) = open_videos("sa_v", val)
    expected = np.where(write.labels(HAND) > 0, 2, write.labels(PERSON))

    np.testing.assert_array_equal(video.load_labels(4), expected)
    assert video.load_labels(4).dtype == np.int32


def test_the_folder_of_the_split_may_be_inside(
    val: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The root may be the folder that holds sav_val."""
    outer = tmp_path_factory.mktemp("outer")
    (outer / "sav_val").symlink_to(val)

    assert [v.name for v in open_videos("sa_v", outer)] == ["sav_1"]


def test_an_unknown_split_is_refused(val: Path) -> None:
    """The splits there are stand in the message."""
    with pytest.raises(InputError, match="among val, test, train and train_auto, got 'dev'"):
        open_videos("sa_v", val, split="dev")


def test_a_video_without_objects_is_named(val: Path) -> None:
    """A folder of annotations without folders of objects is refused."""
    folder = val / "Annotations_6fps" / "sav_1"
    folder.rename(val / "away")
    folder.mkdir()

    with pytest.raises(InputError, match="objects in '.*sav_1', got none"):
        open_videos("sa_v", val)


def test_a_mask_of_another_size_is_refused(val: Path, write: SimpleNamespace) -> None:
    """A PNG of another size than its frame is an error when it is read."""
    write.label_map(val / "Annotations_6fps" / "sav_1" / "001" / "00008.png", np.ones((4, 4), int))
    (video,) = open_videos("sa_v", val)

    with pytest.raises(InputError, match="12 x 16 pixels for .*00008.jpg', got 4 x 4 in"):
        video.masks(8)


@pytest.fixture
def train(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out SA-V train: JSON of RLE a frame and object, frames taken from the video."""
    folder = tmp_path / "sav_train" / "sav_000"
    for number in range(9):
        write.picture(folder / "JPEGImages_24fps" / "sav_000001" / f"{number:05d}.jpg")
    nothing, person, hand = (
        encode_rle(mask > 0) for mask in (write.labels(), write.labels(PERSON), write.labels(HAND))
    )
    about = {
        **{"video_id": "sav_000001", "video_frame_count": 9.0, "masklet_id": [0, 1]},
        "masklet": [[person, nothing], [person, hand], [person, None]],
    }
    write.document(folder / "sav_000001_manual.json", about)
    write.document(folder / "sav_000001_auto.json", {**about, "masklet": [[hand]]})
    return tmp_path


def test_train_rows_are_every_fourth_frame(train: Path, write: SimpleNamespace) -> None:
    """Row k of the masks is of frame 4 k; manual and automatic masks are splits of their own."""
    (video,) = pickle.loads(pickle.dumps(open_videos("sa_v", train, split="train")))
    (automatic,) = open_videos("sa_v", train, split="train_auto")

    assert (video.name, video.annotated) == ("sav_000001", (0, 4, 8))
    assert video.first_frames == {1: 0, 2: 4}
    assert [list(video.masks(i)) for i in video.annotated] == [[1], [1, 2], [1]]
    np.testing.assert_array_equal(video.masks(4)[2], write.labels(HAND) > 0)
    assert (automatic.annotated, automatic.first_frames) == ((0,), {1: 0})


def test_train_frames_may_be_the_annotated_alone(train: Path) -> None:
    """Frames extracted at 6 a second keep their numbers, and their masks."""
    for path in train.rglob("*.jpg"):
        if int(path.stem) % 4:
            path.unlink()
    (video,) = open_videos("sa_v", train, split="train")

    assert video.annotated == (0, 1, 2)
    assert list(video.masks(1)) == [1, 2]


def test_train_needs_frames(train: Path) -> None:
    """Without extracted frames the hint says how to get them; other numbers do not match."""
    (folder,) = train.rglob("sav_000001")
    for path in folder.glob("*.jpg"):
        path.rename(path.with_name(f"1{path.name[-7:]}"))
    with pytest.raises(InputError, match="frames of the numbers 0, 4, 8, .* got none"):
        open_videos("sa_v", train, split="train")
    folder.rename(folder.with_name("else"))

    with pytest.raises(InputError, match="folder '.*sav_000001', got .*\nhint: .*ffmpeg -i"):
        open_videos("sa_v", train, split="train")


def test_a_damaged_train_file_is_named(train: Path, write: SimpleNamespace) -> None:
    """A JSON file cut short, and one whose masklet holds no rows, are errors that name it."""
    (path,) = train.rglob("*_manual.json")
    text = path.read_text("utf-8")
    path.write_text(text[:-9], "utf-8")
    with pytest.raises(InputError, match=r"whole JSON document, got '.*_manual.json'"):
        open_videos("sa_v", train, split="train")
    write.document(path, {**json.loads(text), "masklet": [3]})

    with pytest.raises(InputError, match=r"masklet of '.*_manual.json' to be a list of frames"):
        open_videos("sa_v", train, split="train")
