"""Volumes of medical images, slice by slice.

MedSAM's `.npz` files hold `imgs` (D, H, W) or one picture (H, W, 3), `gts` of the same height and
width, and `spacing` in mm, x first, as https://github.com/bowang-lab/MedSAM writes them
(`pre_CT_MR.py`). NIfTI volumes lie as in the Medical Segmentation Decathlon,
http://medicaldecathlon.com: `imagesTr`, `labelsTr` and the names of the labels in `dataset.json`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.json_text import read_document
from nexus.core.packages import optional_module
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth, truths_of_labels
from nexus.data.truth.layout import kept, mask_of, present, some

_NPZ_HINT = "the root has .npz files with imgs and gts, as MedSAM's pre_CT_MR.py writes them"
_NIFTI_HINT = "the root has imagesTr and labelsTr with .nii or .nii.gz files of the same names"
_SUFFIXES = (".nii.gz", ".nii")
_FIRST_CHANNEL = "_0000"
_SOFT_TISSUE = (-160.0, 240.0)  # level 40 and width 400, Hounsfield units
_PERCENTILES = (0.5, 99.5)
_DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def open_medsam_npz(root: Path, split: str | None) -> list[LabelledImage]:
    """Return the slices with objects of all `.npz` files, in the order of files and slices.

    The masks are read once to find these slices; images and masks are read again when asked for.
    A slice is called FILE/0007, where FILE is the name without its ending, which is also its group.
    The files may lie in folders of the root; a split is one of these, to be read alone.
    """
    top = present(root if split is None else root / split, _NPZ_HINT)
    images: list[LabelledImage] = []
    for path in some(sorted(top.rglob("*.npz")), ".npz files", top, _NPZ_HINT):
        group = path.relative_to(top).with_suffix("").as_posix()
        _check_npz(path)
        spacing_hw = _npz_spacing_hw(path)
        for index in _labelled_slices(_npz_array(path, "gts")):
            read = partial(_npz_image, path, index), partial(_npz_truths, path, index)
            name = f"{group}/{index:04d}"
            images.append(LabelledImage(name, *read, spacing_hw=spacing_hw, group=group))
    return images


def open_nifti(root: Path, split: str) -> list[LabelledImage]:
    """Return the slices with objects of all labelled NIfTI volumes, in the order of their names.

    Slices are cut along the third axis and stand as stored, rows along the second axis. Values
    become 8 bits as MedSAM makes them: a CT, by the modality of `dataset.json`, from a window of
    soft tissue; all else from between the 0.5th and the 99.5th percentile of the values above 0 of
    the volume, with 0 staying black. Splits are Tr and Ts.

    Raises:
        InputError: The folders are not as published; a volume is damaged, has no labels or other
            than three axes, or labels of another size.
        MissingDependencyError: nibabel is not installed.
    """
    pictures = present(root / f"images{split}", _NIFTI_HINT)
    places = present(root / f"labels{split}", _NIFTI_HINT)
    about = root / "dataset.json"
    document = read_document(about) if about.is_file() else {}
    channels = document.get("modality") or document.get("channel_names")
    is_ct = isinstance(channels, Mapping) and "CT" in map(str, channels.values())
    categories = _label_names(document.get("labels"))
    labels, images = _volumes(places), []
    for stem, path in some(list(_volumes(pictures).items()), "volumes", pictures, _NIFTI_HINT):
        label = mask_of(path, labels, stem, places)
        width, height = map(float, _open_nifti(label).header.get_zooms()[:2])
        for index in _labelled_slices(_nifti_slices(label)):
            name, load = f"{stem}/{index:04d}", partial(_nifti_image, path, index, is_ct)
            truths = partial(_nifti_truths, path, label, index, categories)
            spacing_hw = height, width
            images.append(LabelledImage(name, load, truths, spacing_hw=spacing_hw, group=stem))
    return images


def _slices(labels: NDArray[Any]) -> NDArray[Any]:
    return labels.reshape(-1, *labels.shape[-2:])  # (D, H, W)


def _labelled_slices(labels: NDArray[Any]) -> list[int]:
    return [int(index) for index in np.flatnonzero(_slices(labels).any(axis=(1, 2)))]


@contextmanager
def _whole(what: str, path: Path, damage: Any = _DAMAGE) -> Iterator[None]:
    """Refuse the file that the block reads if it raises a sign of damage."""
    try:
        yield
    except damage as error:
        raise InputError(
            f"expected {what}, got {str(path)!r}: {error}",
            hint="the file is damaged or cut short; fetch it again",
        ) from error


def _check_npz(path: Path) -> None:
    """Refuse a file whose arrays do not fit together, from their headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    with _whole("a whole .npz file", path), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                first = np.lib.format.read_magic(stream) == (1, 0)
                read = getattr(np.lib.format, f"read_array_header_{1 if first else 2}_0")
                shapes[name.removesuffix(".npy")] = read(stream)[0]
    missing = [key for key in ("imgs", "gts") if key not in shapes]
    if missing:
        raise InputError(
            f"expected imgs and gts in {str(path)!r}, got none called {missing[0]}", hint=_NPZ_HINT
        )
    imgs, gts = shapes["imgs"], shapes["gts"]
    if not (len(gts) == 3 and imgs == gts) and not (len(gts) == 2 and imgs == (*gts, 3)):
        raise InputError(
            "expected imgs (D, H, W) with gts (D, H, W), or (H, W, 3) with (H, W), in "
            f"{str(path)!r}, got imgs {imgs} with gts {gts}",
            hint="masks are as high and wide as their images",
        )


@kept
def _npz_array(path: Path, key: str) -> NDArray[Any]:
    with _whole("a whole .npz file", path), np.load(path, allow_pickle=False) as arrays:
        array: NDArray[Any] = arrays[key] if key in arrays else np.ones(2)
    array.setflags(write=False)
    return array


def _npz_spacing_hw(path: Path) -> tuple[float, float]:
    """Return height and width of a pixel, mm; 1 where the file does not say."""
    spacing = np.ravel(_npz_array(path, "spacing"))  # x, y, z
    if len(spacing) < 2 or not (spacing[:2] > 0).all():
        raise InputError(
            f"expected a spacing of x, y and z above 0 mm in {str(path)!r}, got {spacing.tolist()}"
        )
    return float(spacing[1]), float(spacing[0])


def _npz_image(path: Path, index: int) -> NDArray[Any]:
    array = _npz_array(path, "imgs")
    return load_image((array if _npz_array(path, "gts").ndim == 2 else array[index]).copy())


def _npz_truths(path: Path, index: int) -> list[Truth]:
    return truths_of_labels(_slices(_npz_array(path, "gts"))[index].astype(np.int32))


def _volumes(folder: Path) -> dict[str, Path]:
    """Return the volumes of a folder by name, without the ending of a first channel."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_SUFFIXES) and not path.name.startswith("."):
            stem = path.name.removesuffix(".gz").removesuffix(".nii")
            found[stem.removesuffix(_FIRST_CHANNEL)] = path
    return found


def _label_names(given: Any) -> dict[int, str]:
    """Read the names of labels, which files give by number or number by name."""
    if not isinstance(given, Mapping):
        return {}
    pairs = [(k, v) if str(k).isdigit() else (v, k) for k, v in given.items()]
    return {int(number): str(name) for number, name in pairs if str(number).isdigit()}


def _open_nifti(path: Path) -> Any:
    nibabel = optional_module("nibabel", "to read NIfTI volumes", "'nexus-segmentation[eval]'")
    with _whole("a NIfTI volume", path, (*_DAMAGE, nibabel.filebasedimages.ImageFileError)):
        volume: Any = nibabel.load(path)
    if len(volume.shape) != 3:
        raise InputError(
            f"expected a volume of three axes, got {volume.shape} in {str(path)!r}",
            hint="write one volume a channel, NAME_0000.nii.gz for the one to read",
        )
    return volume


@kept
def _nifti_slices(path: Path) -> NDArray[Any]:
    """Read a volume as its slices (D, H, W)."""
    volume = _open_nifti(path)
    with _whole("a whole NIfTI volume", path):
        slices: NDArray[Any] = np.asanyarray(volume.dataobj).transpose(2, 1, 0)  # (D, H, W)
    return slices


@kept
def _range_of(path: Path) -> tuple[float, float]:
    """Return the values that become black and white, of a volume that is no CT."""
    values = _nifti_slices(path)
    lit = values[values > 0]
    if not len(lit):
        return 0.0, 1.0
    low, high = np.percentile(lit, _PERCENTILES)
    return float(low), float(high)


def _nifti_image(path: Path, index: int, is_ct: bool) -> NDArray[Any]:
    values = _nifti_slices(path)[index].astype(np.float64)
    low, high = _SOFT_TISSUE if is_ct else _range_of(path)
    scaled = (np.clip(values, low, high) - low) / max(high - low, 1e-8) * 255
    return load_image(scaled.astype(np.uint8))


def _nifti_truths(image: Path, path: Path, index: int, categories: dict[int, str]) -> list[Truth]:
    shape, wanted = _open_nifti(path).shape, _open_nifti(image).shape
    if shape != wanted:
        raise InputError(
            f"expected labels of {wanted} for {str(image)!r}, got {shape} in {str(path)!r}",
            hint="are they the labels of another volume?",
        )
    labels = _nifti_slices(path)[index].astype(np.int32)
    return truths_of_labels(labels, categories)
