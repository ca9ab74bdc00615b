from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nexus.core.errors import ImageError, InputError
from nexus.data.truth import open_images
from nexus.data.truth.labelled import largest_truths


@pytest.fixture
def root(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out images with label maps of the same names, one pair in a folder."""
    for name in ("b.jpg", "a.one.png", "sub/c.jpeg"):
        write.picture(tmp_path / "images" / name)
        mask = (tmp_path / "masks" / name).with_suffix(".png")
        write.label_map(mask, write.labels((3, 1, 1, 5, 6), (200, 6, 2, 12, 9)), palette=True)
    return tmp_path


def test_a_folder_gives_its_label_maps(root: Path) -> None:
    """Images come by name; objects are the values of the label map, also of palette images."""
    images = pickle.loads(pickle.dumps(open_images("folder", root)))

    assert [image.name for image in images] == ["a.one.png", "b.jpg", "sub/c.jpeg"]
    for image in images:
        assert image.load_image().shape == (12, 16, 3)
        assert [t.object_id for t in image.load_truths()] == [3, 200]
        assert [t.box_xyxy for t in image.load_truths()] == [(1, 1, 5, 6), (6, 2, 12, 9)]
        assert image.ignored() is None


def test_a_split_is_a_folder_of_its_own(root: Path) -> None:
    """Images and masks may lie in a folder named by the split."""
    (root / "held").mkdir()
    for name in ("images", "masks"):
        (root / name).rename(root / "held" / name)

    assert len(open_images("folder", root, split="held")) == 3


def test_an_image_without_mask_is_named(root: Path) -> None:
    """A missing mask is an error at once, with the name it should have."""
    (root / "masks" / "sub" / "c.png").unlink()

    with pytest.raises(InputError, match=r"mask for '.*c.jpeg' in '.*sub', got none named 'c'"):
        open_images("folder", root)


def test_a_mask_of_another_size_is_named(root: Path, write: SimpleNamespace) -> None:
    """A mask of another size than its image is an error when it is read."""
    write.label_map(root / "masks" / "b.png", np.ones((16, 12), int))
    image = open_images("folder", root)[1]

    with pytest.raises(InputError, match=r"12 x 16 pixels for .*b.jpg', got 16 x 12 in .*b.png'"):
        image.load_truths()


def test_a_truncated_mask_is_named(root: Path) -> None:
    """A mask cut short is an error when it is read."""
    path = root / "masks" / "b.png"
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(ImageError, match=r"b.png"):
        open_images("folder", root)[1].load_truths()


def test_images_alone_are_not_enough(root: Path) -> None:
    """Without masks the root is refused."""
    (root / "masks").rename(root / "labels")

    with pytest.raises(InputError, match=r"folder '.*masks', got no such folder\nhint: the root"):
        open_images("folder", root)


@pytest.mark.parametrize("name", ["acdc_mri", "pennfudan_sample", "kvasir_seg", "cxr_covid"])
def test_real_sets_give_the_recorded_objects(shared_data: Path, name: str) -> None:
    """Boxes and areas of the 20 largest objects from 50 pixels on equal the recorded ones."""
    records = json.loads((shared_data / "lite_medsam_reference.json").read_text("utf-8"))
    expected = {
        (r["image"], r["id"]): (*r["box_xyxy"], r["area"]) for r in records if r["set"] == name
    }
    found = {
        (image.name, t.object_id): (*t.box_xyxy, np.count_nonzero(t.mask))
        for image in open_images("folder", shared_data / name)
        for t in largest_truths(image.load_truths(), 20, 50)
    }

    assert found == expected


@pytest.mark.parametrize(
    ("name", "images", "masks", "ending"),
    [
        ("grabcut", "data_GT", "boundary_GT", ".bmp"),
        ("berkeley", "images", "masks", ".png"),
    ],
)
def test_a_border_does_not_count(
    tmp_path: Path, write: SimpleNamespace, name: str, images: str, masks: str, ending: str
) -> None:
    """255 is the object and 128 a border that counts for nothing, in grey and in colour files."""
    values = write.labels((128, 2, 2, 10, 10), (255, 3, 3, 9, 9))
    for stem in ("banana1", "book"):
        write.picture(tmp_path / images / f"{stem}.jpg")
    write.label_map(tmp_path / masks / f"banana1{ending}", values)
    write.colours(tmp_path / masks / f"book{ending}", np.repeat(values[:, :, None], 3, 2))
    found = pickle.loads(pickle.dumps(open_images(name, tmp_path)))

    assert [image.name for image in found] == ["banana1.jpg", "book.jpg"]
    for image in found:
        (truth,) = image.load_truths()
        assert truth.object_id == 1
        np.testing.assert_array_equal(truth.mask, values == 255)
        np.testing.assert_array_equal(image.ignored(), values == 128)


def test_davis_frames_take_all_that_is_not_black(tmp_path: Path, write: SimpleNamespace) -> None:
    """Objects of any colour are one object; nothing is ignored."""
    coded = np.zeros((12, 16, 3), np.uint8)
    coded[1:4, 1:5] = (128, 0, 0)
    coded[6:9, 6:9] = (0, 128, 0)
    write.picture(tmp_path / "img" / "1.jpg")
    write.colours(tmp_path / "gt" / "1.png", coded)
    (image,) = open_images("davis_interactive", tmp_path)
    (truth,) = image.load_truths()

    np.testing.assert_array_equal(truth.mask, coded.any(2))
    assert image.ignored() is None


def test_the_real_frames_of_davis_are_read(shared_data: Path, tmp_path: Path) -> None:
    """The 30 frames, under the names they are published with, have one object each."""
    sample = shared_data / "davis345_interactive"
    (tmp_path / "img").symlink_to(sample / "images")
    (tmp_path / "gt").symlink_to(sample / "masks")
    found = open_images("davis_interactive", tmp_path)
    plain = open_images("folder", sample)

    assert [i.name for i in found] == [i.name for i in plain]
    assert len(found) == 30
    for image, other in list(zip(found, plain, strict=True))[::6]:
        (truth,), (expected,) = image.load_truths(), other.load_truths()
        np.testing.assert_array_equal(truth.mask, expected.mask)


def test_an_interactive_set_has_no_splits(tmp_path: Path) -> None:
    """A split is refused, since there is none."""
    with pytest.raises(InputError, match="expected no split, got 'val'"):
        open_images("grabcut", tmp_path, split="val")


def test_an_interactive_set_has_masks_and_images(tmp_path: Path, write: SimpleNamespace) -> None:
    """Empty folders and an image without mask are refused."""
    (tmp_path / "img").mkdir()
    (tmp_path / "gt").mkdir()
    with pytest.raises(InputError, match="expected images in '.*img', got none"):
        open_images("davis_interactive", tmp_path)
    write.picture(tmp_path / "img" / "1.jpg")

    with pytest.raises(InputError, match=r"mask for '.*1.jpg'"):
        open_images("davis_interactive", tmp_path)
