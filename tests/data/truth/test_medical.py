from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from nexus.core.errors import InputError, MissingDependencyError
from nexus.data.truth import open_images

DEPTH, HEIGHT, WIDTH = 4, 6, 8


def volume() -> tuple[np.ndarray, np.ndarray]:
    imgs = np.random.default_rng(0).integers(0, 256, (DEPTH, HEIGHT, WIDTH), np.uint8)
    gts = np.zeros_like(imgs)
    gts[1, 1:4, 2:5] = 2
    gts[1, 5, 5:] = 7
    gts[3, :2, :3] = 2
    return imgs, gts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a volume and a picture as MedSAM's preprocessing does."""
    imgs, gts = volume()
    np.savez_compressed(tmp_path / "CT_a.npz", imgs=imgs, gts=gts, spacing=(0.5, 0.7, 5.0))
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    np.savez_compressed(tmp_path / "X_b.npz", imgs=photo, gts=gts[1])
    return tmp_path


def test_a_volume_gives_its_slices_with_objects(root: Path) -> None:
    """Slices without labels are left out; spacing is of rows and columns; the group is the file."""
    imgs, gts = volume()
    images = pickle.loads(pickle.dumps(open_images("medsam_npz", root)))

    assert [i.name for i in images] == ["CT_a/0001", "CT_a/0003", "X_b/0000"]
    assert [i.group for i in images] == ["CT_a", "CT_a", "X_b"]
    assert [i.spacing_hw for i in images] == [(0.7, 0.5), (0.7, 0.5), (1, 1)]
    for image, index in zip(images, (1, 3), strict=False):
        np.testing.assert_array_equal(image.load_image(), np.repeat(imgs[index, :, :, None], 3, 2))
        for truth in image.load_truths():
            np.testing.assert_array_equal(truth.mask, gts[index] == truth.object_id)
    assert [t.object_id for t in images[0].load_truths()] == [2, 7]
    assert images[2].load_image().shape == (HEIGHT, WIDTH, 3)
    assert [t.object_id for t in images[2].load_truths()] == [2, 7]


def test_an_image_may_be_changed(root: Path) -> None:
    """A slice is a copy, so that changing it changes no later one."""
    image = open_images("medsam_npz", root)[0]
    first = image.load_image()
    first[:] = 0

    assert image.load_image().any()


def test_a_volume_written_anew_is_read_anew(root: Path) -> None:
    """What is kept of a file is given up when the file changes."""
    image = open_images("medsam_npz", root)[0]
    assert len(image.load_truths()) == 2
    path = root / "CT_a.npz"
    imgs, gts = volume()
    gts[1] = 9
    np.savez_compressed(path, imgs=imgs, gts=gts)
    os.utime(path, ns=(1, 1))

    assert [t.object_id for t in image.load_truths()] == [9]


def test_the_real_volumes_have_a_lesion_each(shared_data: Path) -> None:
    """Slices with lesions of three CT volumes are those whose labels are not empty."""
    sample = shared_data / "ct_lesion_volumes"
    images = open_images("medsam_npz", sample)
    expected = []
    for path in sorted(sample.glob("*.npz")):
        gts = np.load(path)["gts"]
        expected += [f"{path.stem}/{k:04d}" for k in range(len(gts)) if gts[k].any()]
    first = images[0]

    assert [image.name for image in images] == expected
    assert {image.group for image in images} == {path.stem for path in sample.glob("*.npz")}
    assert first.spacing_hw == pytest.approx((0.314453, 0.314453), abs=1e-6)
    assert first.load_image().shape == (512, 512, 3)
    assert [t.object_id for t in first.load_truths()] == [1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"imgs": np.zeros((2, 4, 4), np.uint8)}, "imgs and gts in .*none called gts"),
        ({"gts": np.ones((2, 4, 4), np.uint8)}, "imgs and gts in .*none called imgs"),
        (
            {"imgs": np.zeros((2, 4, 4), np.uint8), "gts": np.ones((2, 4, 5), np.uint8)},
            r"got imgs \(2, 4, 4\) with gts \(2, 4, 5\)",
        ),
        (
            {"imgs": np.zeros((4, 4), np.uint8), "gts": np.ones((4, 4), np.uint8)},
            r"got imgs \(4, 4\) with gts \(4, 4\)",
        ),
        (
            {
                "imgs": np.zeros((1, 4, 4), np.uint8),
                "gts": np.ones((1, 4, 4), np.uint8),
                "spacing": (0, 1, 1),
            },
            r"spacing of x, y and z above 0 mm .*got \[0, 1, 1\]",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    """Missing arrays, other sizes and an impossible spacing are named with their file."""
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(InputError, match=message):
        open_images("medsam_npz", tmp_path)


def test_a_truncated_npz_is_named(root: Path) -> None:
    """A file cut short, and one that is no archive, are errors that name it."""
    path = root / "CT_a.npz"
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(InputError, match=r"whole .npz file, got '.*CT_a.npz'"):
        open_images("medsam_npz", root)


def test_damaged_pixels_are_named(root: Path) -> None:
    """A file whose data are damaged is an error when they are read."""
    path = root / "CT_a.npz"
    data = bytearray(path.read_bytes())
    start = data.find(b"gts.npy") + 60
    data[start : start + 20] = bytes(20)
    path.write_bytes(bytes(data))

    with pytest.raises(InputError, match=r"whole .npz file, got '.*CT_a.npz'"):
        open_images("medsam_npz", root)


@pytest.fixture
def decathlon(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out the Medical Segmentation Decathlon: images, labels and names, written by nibabel."""
    rng = np.random.default_rng(1)
    values = rng.integers(-1000, 1000, (WIDTH, HEIGHT, DEPTH)).astype(np.int16)
    _, gts = volume()
    for folder, array in (("imagesTr", values), ("labelsTr", gts.transpose(2, 1, 0))):
        (tmp_path / folder).mkdir()
        image = nibabel.Nifti1Image(array, np.diag([0.5, 0.7, 5, 1]))
        nibabel.save(image, tmp_path / folder / "spleen_2.nii.gz")
    about = {"modality": {"0": "CT"}, "labels": {"0": "background", "2": "spleen", "7": "cyst"}}
    write.document(tmp_path / "dataset.json", about)
    return tmp_path


def test_nifti_slices_stand_as_rows_and_columns(decathlon: Path) -> None:
    """Slices of the third axis have rows along the second; names and spacing come with them."""
    _, gts = volume()
    images = pickle.loads(pickle.dumps(open_images("nifti", decathlon)))
    truths = images[0].load_truths()

    assert [i.name for i in images] == ["spleen_2/0001", "spleen_2/0003"]
    assert [i.group for i in images] == ["spleen_2"] * 2
    assert images[0].spacing_hw == pytest.approx((0.7, 0.5))
    assert [(t.object_id, t.category) for t in truths] == [(2, "spleen"), (7, "cyst")]
    for truth in truths:
        np.testing.assert_array_equal(truth.mask, gts[1] == truth.object_id)


def test_a_ct_is_seen_through_a_window(decathlon: Path) -> None:
    """Values from -160 to 240 become 0 to 255 where the modality is CT."""
    values = np.asanyarray(nibabel.load(decathlon / "imagesTr" / "spleen_2.nii.gz").dataobj)
    expected = ((values[:, :, 1].T.clip(-160, 240) + 160.0) / 400 * 255).astype(np.uint8)
    image = open_images("nifti", decathlon)[0].load_image()

    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[:, :, 0], expected)


def test_other_volumes_are_stretched(decathlon: Path) -> None:
    """Without CT the percentiles of all values above 0 become black and white; 0 stays black."""
    (decathlon / "dataset.json").unlink()
    path = decathlon / "imagesTr" / "spleen_2.nii.gz"
    values = np.abs(np.asanyarray(nibabel.load(path).dataobj)).astype(np.int16)
    values[0] = 0
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    low, high = np.percentile(values[values > 0], (0.5, 99.5))
    cut = values[:, :, 1].T
    expected = np.where(cut > 0, (cut.clip(low, high) - low) / (high - low) * 255, 0)
    images = open_images("nifti", decathlon)

    np.testing.assert_array_equal(images[0].load_image()[:, :, 0], expected.astype(np.uint8))
    assert images[0].load_truths()[0].category is None


def test_a_black_volume_stays_black(decathlon: Path) -> None:
    """A volume without a value above 0 is black."""
    (decathlon / "dataset.json").unlink()
    black = nibabel.Nifti1Image(np.zeros((WIDTH, HEIGHT, DEPTH), np.int16), np.eye(4))
    nibabel.save(black, decathlon / "imagesTr" / "spleen_2.nii.gz")

    assert not open_images("nifti", decathlon)[0].load_image().any()


def test_a_first_channel_is_the_volume(decathlon: Path, write: SimpleNamespace) -> None:
    """nnU-Net's NAME_0000 belongs to the label NAME, and its labels map names to numbers."""
    path = decathlon / "imagesTr" / "spleen_2.nii.gz"
    path.rename(path.with_name("spleen_2_0000.nii.gz"))
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 2}}
    write.document(decathlon / "dataset.json", about)
    image = open_images("nifti", decathlon)[0]

    assert image.name == "spleen_2/0001"
    assert [t.category for t in image.load_truths()] == ["spleen", None]


def test_a_volume_without_labels_is_named(decathlon: Path) -> None:
    """Each volume needs its labels."""
    (decathlon / "labelsTr" / "spleen_2.nii.gz").unlink()

    with pytest.raises(InputError, match=r"mask for '.*spleen_2.nii.gz' in '.*labelsTr'"):
        open_images("nifti", decathlon)


def test_labels_of_another_volume_are_refused(decathlon: Path) -> None:
    """Labels of another size are named when they are read."""
    other = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    nibabel.save(other, decathlon / "labelsTr" / "spleen_2.nii.gz")
    image = open_images("nifti", decathlon)[0]

    with pytest.raises(InputError, match=r"labels of \(8, 6, 4\) for .*, got \(3, 3, 3\) in"):
        image.load_truths()


def test_four_axes_are_refused(decathlon: Path) -> None:
    """Of several channels none is guessed."""
    many = nibabel.Nifti1Image(np.zeros((8, 6, 4, 2), np.uint8), np.eye(4))
    nibabel.save(many, decathlon / "imagesTr" / "spleen_2.nii.gz")

    with pytest.raises(InputError, match=r"three axes, got \(8, 6, 4, 2\) in .*\nhint: .*_0000"):
        open_images("nifti", decathlon)[0].load_image()


def test_a_damaged_nifti_is_named(decathlon: Path) -> None:
    """A volume cut short, and a file that is none, are errors that name it."""
    path = decathlon / "labelsTr" / "spleen_2.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"NIfTI volume, got '.*spleen_2.nii.gz'"):
        open_images("nifti", decathlon)
    path.write_bytes(b"text")

    with pytest.raises(InputError, match=r"NIfTI volume, got '.*spleen_2.nii.gz'"):
        open_images("nifti", decathlon)


def test_nibabel_is_asked_for(decathlon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nibabel the error names it and the extra."""
    monkeypatch.setitem(sys.modules, "nibabel", None)

    with pytest.raises(MissingDependencyError, match=r"'nibabel'.*\nhint: .*\[eval\]"):
        open_images("nifti", decathlon)
