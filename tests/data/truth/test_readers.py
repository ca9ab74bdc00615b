from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nexus.core.errors import InputError
from nexus.data.truth import READERS, open_images, open_videos

NAMES = {
    *("coco", "lvis", "ade20k", "cityscapes", "sa1b", "folder", "medsam_npz", "nifti"),
    *("grabcut", "berkeley", "davis_interactive"),
    *("davis2016", "davis2017", "youtube_vos", "mose", "sa_v"),
}


def test_every_dataset_is_listed() -> None:
    """Sixteen datasets; all but our own folders name the page of their layout."""
    assert set(READERS) == NAMES
    assert [name for name, reader in READERS.items() if not reader.page] == ["folder"]
    assert {name for name, reader in READERS.items() if reader.kind == "videos"} == {
        *("davis2016", "davis2017", "youtube_vos", "mose", "sa_v")
    }


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("split", [None, "nowhere"])
def test_a_folder_that_is_not_as_published_is_refused(
    tmp_path: Path, name: str, split: str | None
) -> None:
    """Every reader refuses an empty folder and a missing one, with a hint."""
    read = open_images if READERS[name].kind == "images" else open_videos

    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="expected .*\nhint: "):
            read(name, root, split=split)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """The names there are stand in the message, and one like it in the hint."""
    with pytest.raises(InputError, match="among folder, coco, .*got 'cocoo'\nhint: .* 'coco'"):
        open_images("cocoo", tmp_path)


def test_images_and_videos_are_not_mixed_up(tmp_path: Path) -> None:
    """A dataset of the other kind is refused, with the function that opens it."""
    with pytest.raises(InputError, match="dataset of images, got 'mose'.*\nhint: open_videos"):
        open_images("mose", tmp_path)
    with pytest.raises(InputError, match="dataset of videos, got 'coco'.*\nhint: open_images"):
        open_videos("coco", tmp_path)


def test_a_root_may_be_text(tmp_path: Path, write: SimpleNamespace) -> None:
    """The root is a path or its text."""
    write.picture(tmp_path / "images" / "a.jpg")
    write.label_map(tmp_path / "masks" / "a.png", write.labels((1, 0, 0, 2, 2)))

    assert [image.name for image in open_images("folder", str(tmp_path))] == ["a.jpg"]
