from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nexus.core.errors import ImageError, ImageNotFoundError, InputError
from nexus.data.truth.layout import (
    check_size,
    image_size_hw,
    inside,
    only_split,
    pictures_in,
    present,
    read_names,
)


def test_what_is_missing_is_named_with_a_hint(tmp_path: Path) -> None:
    """A missing folder or file is named, and the hint says how the root should be."""
    with pytest.raises(InputError, match="folder '.*gone', got no such folder\nhint: has gone"):
        present(tmp_path / "gone", "has gone")
    with pytest.raises(InputError, match="file '.*gone', got no such file\nhint: has gone"):
        present(tmp_path / "gone", "has gone", "file")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/x.png", "", None, 3])
def test_a_name_never_leads_out_of_the_root(tmp_path: Path, name: object) -> None:
    """Names with .., absolute ones and what is no name are refused, naming the file they are in."""
    with pytest.raises(InputError, match=r"list.txt' to name files below (.|\n)*never lead out"):
        inside(tmp_path, name, tmp_path / "list.txt")


def test_a_name_inside_is_joined(tmp_path: Path) -> None:
    """A name with folders is taken below the root."""
    assert inside(tmp_path, "a/b.png", tmp_path) == tmp_path / "a" / "b.png"


def test_names_are_read_once_each(tmp_path: Path) -> None:
    """A list keeps its order, without blank lines and doubles; an empty one is refused."""
    path = tmp_path / "val.txt"
    path.write_text("b\na\n\nb\r\n", "utf-8")
    (tmp_path / "empty.txt").write_text("\n", "utf-8")

    assert read_names(path, "") == ["b", "a"]
    with pytest.raises(InputError, match="names in '.*empty.txt', got an empty file"):
        read_names(tmp_path / "empty.txt", "")


def test_two_pictures_of_one_name_are_refused(tmp_path: Path, write: SimpleNamespace) -> None:
    """Which of two files of one stem is meant is not guessed; other files are passed over."""
    write.picture(tmp_path / "b.png")
    write.picture(tmp_path / "a.jpg")
    (tmp_path / "Thumbs.db").write_bytes(b"")
    (tmp_path / ".a.png").write_bytes(b"")

    assert list(pictures_in(tmp_path)) == ["a", "b"]
    write.picture(tmp_path / "b.jpg")
    with pytest.raises(InputError, match="one file named 'b' in .*, got 'b.jpg' and 'b.png'"):
        pictures_in(tmp_path)


def test_the_size_of_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    """Height and width are those after EXIF rotation, as images are read."""
    image = Image.new("RGB", (16, 12))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    image.save(tmp_path / "b.jpg")

    assert image_size_hw(tmp_path / "a.jpg") == (16, 12)
    assert image_size_hw(tmp_path / "b.jpg") == (12, 16)


def test_what_is_no_image_has_no_size(tmp_path: Path) -> None:
    """A missing image and a file that is none are told apart."""
    (tmp_path / "a.jpg").write_bytes(b"text")

    with pytest.raises(ImageNotFoundError, match="'.*gone.jpg', which does not exist"):
        image_size_hw(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"expected an image file, got '.*a.jpg'"):
        image_size_hw(tmp_path / "a.jpg")


def test_a_mask_has_the_size_of_its_image(tmp_path: Path, write: SimpleNamespace) -> None:
    """Both files and both sizes are named."""
    image = write.picture(tmp_path / "a.png", (12, 16))
    check_size(np.zeros((12, 16)).shape, image, tmp_path / "m.png")

    with pytest.raises(InputError, match=r"12 x 16 pixels for .*a.png', got 16 x 12 in .*m.png'"):
        check_size((16, 12), image, tmp_path / "m.png")


def test_one_split_is_taken_and_several_are_listed(tmp_path: Path) -> None:
    """Without a split the only one is taken; among several none is guessed."""
    assert only_split(["val", "val"], tmp_path, "") == "val"
    with pytest.raises(InputError, match="train, val\nhint: .*`split='train'` or `split='val'`"):
        only_split(["val", "train"], tmp_path, "")
    with pytest.raises(InputError, match="got none\nhint: has splits"):
        only_split([], tmp_path, "has splits")
