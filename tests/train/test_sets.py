"""Sets and their split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.data.truth import open_images, open_videos
from nexus.train.config import SetSettings, SetsSettings
from nexus.train.sets import split_sets
from tests.train.moving_square import draw_davis
from tests.train.tiny_run import draw_set


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
