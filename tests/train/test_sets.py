"""Sets and their split."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.data.truth import open_images, open_videos
from nexus.train.config import DataSettings, SetSettings, SetsSettings
from nexus.train.sets import found_sets, split_sets, with_found_sets
from tests.train.moving_square import draw_davis
from tests.train.tiny_run import draw_set, tiny_settings


@pytest.fixture
def data(tmp_path: Path) -> SetsSettings:
    """Settings over two drawn sets of seven and two images."""
    draw_set(tmp_path / "many", images=7)
    draw_set(tmp_path / "few", images=2)
    return SetsSettings((SetSettings("many"), SetSettings("few")), str(tmp_path), held_out=0.3)


def names(*parts: list) -> list[list[str]]:
    return [[item.name for item in part] for part in parts]


def test_the_last_images_by_name_are_held_out(data: SetsSettings) -> None:
    """Of seven images floor(2.1) are held out, of two none."""
    learnt, held_out = split_sets(open_images, data)

    assert names(held_out) == [["many/shape_5.png", "many/shape_6.png"]]
    assert len(learnt) == 7
    assert learnt[-1].name == "few/shape_1.png"


def test_the_last_videos_are_held_out(tmp_path: Path) -> None:
    """Of three videos at a third the last name is held out; a stated split is held out instead."""
    draw_davis(tmp_path / "drawn", ("a", "b", "c"))
    entry = SetSettings("drawn", "davis2017", split="val")
    data = SetsSettings((entry,), str(tmp_path), held_out=0.34)
    stated = SetsSettings((dataclasses.replace(entry, held_out_split="val"),), str(tmp_path))

    assert names(*split_sets(open_videos, data)) == [["drawn/a", "drawn/b"], ["drawn/c"]]
    assert names(*split_sets(open_videos, stated)) == [["drawn/a", "drawn/b", "drawn/c"]] * 2


def test_a_caller_brings_its_own(tmp_path: Path, data: SetsSettings) -> None:
    """They are split as they come, under the title of the first set if there is one."""
    draw_davis(tmp_path / "drawn", ("a", "b"))
    b, a = open_videos("davis2017", tmp_path / "drawn", split="val")[::-1]

    assert names(*split_sets(open_videos, None, ([b], [a]))) == [["given/b"], ["given/a"]]
    assert names(*split_sets(open_videos, data, ([b, a], []))) == [["many/b", "many/a"], []]


def test_a_set_without_images_is_named(data: SetsSettings, tmp_path: Path) -> None:
    """A folder without images is an error that says where; so is nothing at all."""
    (tmp_path / "none" / "images").mkdir(parents=True)
    (tmp_path / "none" / "masks").mkdir()

    with pytest.raises(InputError, match="none"):
        split_sets(open_images, dataclasses.replace(data, sets=(SetSettings("none"),)))
    with pytest.raises(
        InputError, match=r"data.sets of videos, or videos of your own, got neither"
    ):
        split_sets(open_videos, None)


def test_sets_are_found_in_a_folder(data: SetsSettings, tmp_path: Path) -> None:
    """The folder itself, or by name all folders in it that have images and masks."""
    (tmp_path / "notes").mkdir()
    said = io.StringIO()
    settings = with_found_sets(tiny_settings(tmp_path, data=DataSettings(root=str(tmp_path))), said)

    assert said.getvalue() == f"train: 2 sets in {str(tmp_path)!r}: few, many\n"
    assert found_sets(str(tmp_path)) == (SetSettings("few"), SetSettings("many"))
    assert found_sets(str(tmp_path / "few")) == (SetSettings(".", name="few"),)
    assert settings.data.sets == found_sets(str(tmp_path))
    assert with_found_sets(settings, said) is settings


def test_a_folder_without_sets_says_what_it_has(tmp_path: Path) -> None:
    """Folders, pictures, half a set, nothing, or no folder."""
    picture = draw_set(tmp_path / "half") / "images" / "shape_0.png"
    shutil.rmtree(tmp_path / "half" / "masks")
    for name in ("pictures/a.png", "pictures/b.png", "folders/x/a.png", "folders/y/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, tmp_path / name)
    (tmp_path / "empty").mkdir()

    for name, seen in {
        "half": "half' without the folder 'masks'",
        "pictures": "got 2 pictures",
        "folders": "got the folders 'x', 'y'",
        "empty": "got an empty folder",
        "none": "which is no folder",
    }.items():
        with pytest.raises(InputError, match=seen):
            found_sets(str(tmp_path / name))


def test_whole_groups_of_a_set_are_held_out(tmp_path: Path) -> None:
    """No patient is on both sides; the rule of names stays where groups are not asked for."""
    folder = draw_set(tmp_path / "shapes", images=6)
    for part in ("images", "masks"):
        for number, path in enumerate(sorted((folder / part).iterdir())):
            path.rename(path.with_name(f"patient{number // 4}_{number}.png"))
    data = DataSettings((SetSettings("shapes"),), str(tmp_path), held_out=0.25)
    grouped = dataclasses.replace(data, groups="auto")

    assert len(split_sets(open_images, data)[1]) == 1
    assert names(split_sets(open_images, grouped)[1]) == [
        ["shapes/patient1_4.png", "shapes/patient1_5.png"]
    ]


def test_too_few_images(tmp_path: Path) -> None:
    """Where nothing can be held out although some is to be, that is said; with 0 it may be."""
    draw_set(tmp_path / "few", images=2)
    data = DataSettings((SetSettings("few"),), str(tmp_path))

    with pytest.raises(InputError, match="got 2 in all, of which data.held_out 0.25 is none"):
        split_sets(open_images, data)
    assert names(*split_sets(open_images, dataclasses.replace(data, held_out=0)))[1] == []
