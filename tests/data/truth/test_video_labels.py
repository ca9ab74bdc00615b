from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import ImageError, InputError
from nexus.data.truth import open_videos

BOTH = ((1, 1, 1, 5, 6), (2, 6, 2, 12, 9))


@pytest.fixture
def davis(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out DAVIS 2017: two sequences of three frames, palette masks, lists of both years."""
    for name in ("bear", "ants"):
        for number in range(3):
            write.picture(tmp_path / "JPEGImages" / "480p" / name / f"{number:05d}.jpg")
            drawn = write.labels(*BOTH, (3, 0, 10, number, 12), (255, 14, 0, 16, 2))
            write.label_map(
                tmp_path / "Annotations" / "480p" / name / f"{number:05d}.png", drawn, palette=True
            )
    for year, names in (("2017", "bear\nants\n"), ("2016", "ants\n")):
        listed = tmp_path / "ImageSets" / year / "val.txt"
        listed.parent.mkdir(parents=True)
        listed.write_text(names, "utf-8")
    return tmp_path


def test_davis2017_gives_the_objects_of_the_first_mask(davis: Path, write: SimpleNamespace) -> None:
    """Sequences keep the list's order; an object that appears later is not given; 255 is void."""
    videos = pickle.loads(pickle.dumps(open_videos("davis2017", davis)))
    labels = videos[0].load_labels(2)

    assert [video.name for video in videos] == ["bear", "ants"]
    assert [path.name for path in videos[0].frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert videos[0].annotated == (0, 1, 2)
    assert videos[0].first_frames == {1: 0, 2: 0}
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [-1, 0, 1, 2, 3]
    np.testing.assert_array_equal(videos[0].masks(0)[2], write.labels(*BOTH) == 2)


def test_test_dev_has_a_mask_of_its_first_frame_alone(davis: Path) -> None:
    """Frames without a mask are not annotated."""
    for number in (1, 2):
        (davis / "Annotations" / "480p" / "bear" / f"{number:05d}.png").unlink()

    assert open_videos("davis2017", davis)[0].annotated == (0,)


def test_davis2016_reads_pairs(davis: Path, write: SimpleNamespace) -> None:
    """The lists of 2016 name frame and mask, a slash first; all that is not black is object 1."""
    values = np.zeros((12, 16, 3), np.uint8)
    values[2:5, 3:9] = (255, 255, 255)
    write.colours(davis / "Annotations" / "480p" / "bear" / "00001.png", values)
    lines = [
        f"/JPEGImages/480p/bear/{n:05d}.jpg /Annotations/480p/bear/{n:05d}.png" for n in (0, 1)
    ]
    listed = davis / "ImageSets" / "480p" / "val.txt"
    listed.parent.mkdir()
    listed.write_text("\n".join(lines) + "\n", "utf-8")
    (video,) = pickle.loads(pickle.dumps(open_videos("davis2016", davis)))

    assert (video.name, video.annotated, video.first_frames) == ("bear", (0, 1), {1: 0})
    assert list(video.masks(0)) == [1]
    np.testing.assert_array_equal(video.masks(0)[1], write.labels(*BOTH, (1, 14, 0, 16, 2)) > 0)
    np.testing.assert_array_equal(video.masks(1)[1], values[:, :, 0] > 0)


def test_davis2016_is_in_the_package_of_2017(davis: Path) -> None:
    """Without ImageSets/480p the names of ImageSets/2016 are read, objects taken as one."""
    (video,) = open_videos("davis2016", davis)

    assert (video.name, video.annotated) == ("ants", (0, 1, 2))
    assert np.unique(video.load_labels(0)).tolist() == [0, 1]


def test_the_real_sequences_are_read(shared_data: Path, tmp_path: Path) -> None:
    """The swan and the car, laid out as published, give every mask of 854 x 480."""
    sample = shared_data / "davis16_video"
    lines = []
    for name in ("blackswan", "car-shadow"):
        for kind, own in (("JPEGImages", "images"), ("Annotations", "masks")):
            (tmp_path / kind / "480p").mkdir(parents=True, exist_ok=True)
            (tmp_path / kind / "480p" / name).symlink_to(sample / name / own)
        lines += [
            f"/JPEGImages/480p/{name}/{p.stem}.jpg /Annotations/480p/{name}/{p.name}"
            for p in sorted((sample / name / "masks").glob("*.png"))
        ]
    listed = tmp_path / "ImageSets" / "480p" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(lines), "utf-8")
    videos = open_videos("davis2016", tmp_path)

    assert [(v.name, len(v.frames), len(v.annotated)) for v in videos] == [
        ("blackswan", 50, 50),
        ("car-shadow", 40, 40),
    ]
    for video in videos:
        (mask,) = video.masks(video.annotated[-1]).values()
        assert mask.shape == (480, 854)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/JPEGImages/480p/bear/00000.jpg\n", "a frame and a mask on each line of .*val.txt"),
        ("/../a.jpg /b.png\n", "to name files below .*, got '../a.jpg'"),
        ("/JPEGImages/480p/bear/00000.jpg /no.png\n", "file '.*no.png', got no such file"),
        ("\n", "frames in '.*val.txt', got none"),
    ],
)
def test_a_damaged_list_of_pairs_is_named(davis: Path, text: str, message: str) -> None:
    """Lines of one column, paths that leave the root or lead nowhere, and nothing."""
    listed = davis / "ImageSets" / "480p" / "val.txt"
    listed.parent.mkdir()
    listed.write_text(text, "utf-8")

    with pytest.raises(InputError, match=message):
        open_videos("davis2016", davis)


def test_a_sequence_that_is_not_there_is_named(davis: Path) -> None:
    """A listed sequence without folder, one outside the root, and a list that is not there."""
    listed = davis / "ImageSets" / "2017" / "val.txt"
    listed.write_text("wolf\n", "utf-8")
    with pytest.raises(InputError, match="folder '.*wolf', got no such folder"):
        open_videos("davis2017", davis)
    listed.write_text("../480p/bear\n", "utf-8")
    with pytest.raises(InputError, match="to name files below .*, got '../480p/bear'"):
        open_videos("davis2017", davis)
    with pytest.raises(InputError, match=r"test.txt', got no such file\nhint: the root has JPEG"):
        open_videos("davis2017", davis, split="test")


def test_masks_belong_to_frames(davis: Path, write: SimpleNamespace) -> None:
    """A mask without frame, frames without any mask, and a folder without frames are refused."""
    masks, frames = (davis / k / "480p" / "bear" for k in ("Annotations", "JPEGImages"))
    stray = write.label_map(masks / "00009.png", write.labels(*BOTH))
    with pytest.raises(InputError, match="for frames of .*, got '00009.png', which has none"):
        open_videos("davis2017", davis)
    for path in [stray, *masks.glob("*.png")]:
        path.unlink(missing_ok=True)
    with pytest.raises(InputError, match="masks in '.*bear' for frames of .*, got none"):
        open_videos("davis2017", davis)
    for path in frames.glob("*.jpg"):
        path.unlink()

    with pytest.raises(InputError, match="frames in '.*bear', got none"):
        open_videos("davis2017", davis)


def test_a_mask_of_another_size_is_refused(davis: Path, write: SimpleNamespace) -> None:
    """A mask of another size than its frame, and one cut short, are errors when they are read."""
    masks = davis / "Annotations" / "480p" / "bear"
    write.label_map(masks / "00002.png", np.ones((4, 4), int))
    (masks / "00001.png").write_bytes((masks / "00001.png").read_bytes()[:50])
    video = open_videos("davis2017", davis)[0]

    with pytest.raises(InputError, match="12 x 16 pixels for .*00002.jpg', got 4 x 4 in"):
        video.masks(2)
    with pytest.raises(ImageError, match=r"00001.png"):
        video.masks(1)


@pytest.fixture
def youtube(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out YouTube-VOS valid: frames of every fifth number, masks where an object appears."""
    top = tmp_path / "valid"
    for number in (0, 5, 10, 15):
        write.picture(top / "JPEGImages" / "003234408d" / f"{number:05d}.jpg")
    masks = top / "Annotations" / "003234408d"
    write.label_map(masks / "00000.png", write.labels(BOTH[0]), palette=True)
    write.label_map(masks / "00010.png", write.labels(BOTH[1]), palette=True)
    write.document(top / "meta.json", youtube_meta())
    return tmp_path


def youtube_meta(**objects: Any) -> dict[str, Any]:
    first = {"category": "penguin", "frames": ["00000", "00005", "00010", "00015"]}
    later = {"category": "penguin", "frames": ["00010", "00015"]}
    return {"videos": {"003234408d": {"objects": objects or {"1": first, "2": later}}}}


def test_youtube_vos_objects_begin_where_meta_says(youtube: Path) -> None:
    """Objects are given on their first frame, which need not be the video's."""
    (video,) = pickle.loads(pickle.dumps(open_videos("youtube_vos", youtube)))

    assert video.name == "003234408d"
    assert video.first_frames == {1: 0, 2: 2}
    assert video.annotated == (0, 2)
    assert [list(video.masks(i)) for i in video.annotated] == [[1], [2]]
    assert [v.name for v in open_videos("youtube_vos", youtube / "valid")] == ["003234408d"]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"1": {"frames": ["00005"]}}, "mask for object '1' of '003234408d', got '00005' first"),
        ({"1": {"frames": []}}, "mask for object '1' of '003234408d', got '' first"),
        ({"a": {"frames": ["00000"]}}, "mask for object 'a'"),
        ({"1": {"category": "x"}}, "'frames' as list, got none"),
    ],
)
def test_meta_that_does_not_fit_is_refused(
    youtube: Path, write: SimpleNamespace, objects: dict[str, Any], message: str
) -> None:
    """An object whose first frame has no mask, or that has no frames or number, is named."""
    write.document(youtube / "valid" / "meta.json", youtube_meta(**objects))

    with pytest.raises(InputError, match=message):
        open_videos("youtube_vos", youtube)


def test_youtube_vos_needs_its_meta(youtube: Path) -> None:
    """meta.json that is missing or cut short is an error that names it."""
    path = youtube / "valid" / "meta.json"
    path.write_text(path.read_text("utf-8")[:40], "utf-8")
    with pytest.raises(InputError, match=r"whole JSON document, got '.*meta.json'"):
        open_videos("youtube_vos", youtube)
    path.unlink()

    with pytest.raises(InputError, match=r"meta.json', got no such file\nhint: the root has"):
        open_videos("youtube_vos", youtube)


def test_mose_has_masks_of_the_first_frame(tmp_path: Path, write: SimpleNamespace) -> None:
    """Videos of valid have one mask, whose objects are tracked; a mask of 255 is an object."""
    for name in ("b2", "a1"):
        for number in range(2):
            write.picture(tmp_path / "valid" / "JPEGImages" / name / f"{number:05d}.jpg")
        drawn = write.labels(BOTH[0], (255, 8, 8, 10, 10))
        write.label_map(tmp_path / "valid" / "Annotations" / name / "00000.png", drawn)
    videos = pickle.loads(pickle.dumps(open_videos("mose", tmp_path)))

    assert [(v.name, v.annotated, v.first_frames) for v in videos] == [
        ("a1", (0,), {1: 0, 255: 0}),
        ("b2", (0,), {1: 0, 255: 0}),
    ]
    assert len(open_videos("mose", tmp_path / "valid")) == 2


def test_mose_without_videos_is_refused(tmp_path: Path, write: SimpleNamespace) -> None:
    """An empty folder of videos, and a video without masks, are refused."""
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(InputError, match="videos in '.*JPEGImages', got none"):
        open_videos("mose", tmp_path)
    write.picture(tmp_path / "JPEGImages" / "a1" / "00000.jpg")

    with pytest.raises(InputError, match="folder '.*a1', got no such folder"):
        open_videos("mose", tmp_path)
