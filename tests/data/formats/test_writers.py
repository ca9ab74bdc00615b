from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.data.formats.dataset import Dataset
from nexus.data.formats.writers import FORMATS, write_dataset


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a folder, its state apart."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".nexus" not in path.parts
    }


@pytest.mark.parametrize("name", FORMATS)
def test_equal_datasets_give_equal_bytes(name: str, dataset: Dataset, tmp_path: Path) -> None:
    """Written twice, and written over itself, a dataset has the same files with the same bytes."""
    shown = write_dataset(dataset, tmp_path / "one", name)
    write_dataset(dataset, tmp_path / "two", name)
    first = files(tmp_path / "one")
    write_dataset(dataset, tmp_path / "one", name)

    assert all(path.exists() for path in shown)
    assert first == files(tmp_path / "two") == files(tmp_path / "one")
    assert first


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_longer_in_the_dataset_goes(name: str, dataset: Dataset, tmp_path: Path) -> None:
    """Written again with fewer images, nothing of the others stays; a stranger's file does."""
    out = tmp_path / "out"
    fewer = dataclasses.replace(dataset, images=list(dataset.images)[1:])
    write_dataset(dataset, out, name)
    (out / "mine.txt").write_text("mine")
    write_dataset(fewer, out, name)
    write_dataset(fewer, tmp_path / "fresh", name)

    assert files(out) == {**files(tmp_path / "fresh"), "mine.txt": b"mine"}


@pytest.mark.parametrize("how", ["copy", "link", "none"])
def test_the_images_are_brought_as_asked(how: str, dataset: Dataset, tmp_path: Path) -> None:
    """The images of a YOLO dataset are copies, hard links, or not there."""
    write_dataset(dataset, tmp_path / "out", "yolo", pictures=how)
    source = next(iter(dataset.images)).source.path
    target = tmp_path / "out" / "images" / "a.png"

    assert target.exists() == (how != "none")
    if how != "none":
        assert target.read_bytes() == source.read_bytes()
        assert target.samefile(source) == (how == "link")


def test_a_link_that_cannot_be_made_is_a_copy(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system has no hard links the images are copied."""

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    write_dataset(dataset, tmp_path / "out", "yolo", pictures="link")
    source = next(iter(dataset.images)).source.path

    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == source.read_bytes()


def test_an_unknown_format_names_the_near_one(dataset: Dataset, tmp_path: Path) -> None:
    """A slip of the pen is answered with the format it is nearest to."""
    with pytest.raises(InputError, match="expected a format among records, coco") as caught:
        write_dataset(dataset, tmp_path, "labelstudo")
    assert caught.value.hint == "did you mean 'labelstudio'?"


def test_an_unknown_way_with_pictures(dataset: Dataset, tmp_path: Path) -> None:
    """Pictures are copied, linked or left; anything else is refused."""
    with pytest.raises(InputError, match="copy, link, none, got 'move'"):
        write_dataset(dataset, tmp_path, "yolo", pictures="move")
