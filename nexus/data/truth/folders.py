"""Folders of images and masks of the same names.

`folder` is a plain one: `images` and `masks`, label maps whose values are object ids. The others
are the sets interactive segmentation is measured on, one object an image, as published with
https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets: GrabCut (`data_GT`,
`boundary_GT`) and Berkeley (`images`, `masks`) with 255 for the object and 128 for a border that
does not count, and 345 frames of DAVIS (`img`, `gt`), where whatever is not black is the object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.data.formats.dataset import find_images
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth, truths_of_labels
from nexus.data.truth.layout import colours_of, folder_at, labels_of, mask_of, pictures_in

_BORDER = 128
_Read: TypeAlias = Callable[[Path, Path], NDArray[np.int32]]


def open_folder(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the images of `images`, in the order of their names; they may lie in folders there.

    Args:
        root: The folder of `images` and `masks`.
        split: A folder in the root that holds these two instead.

    Raises:
        InputError: A folder is missing, there are no images, or one has no mask.
    """
    top = root if split is None else root / split
    hint = "the root has images and masks, with the same names; a mask is a PNG label map"
    pictures, masks = folder_at(top / "images", hint), folder_at(top / "masks", hint)
    known: dict[Path, dict[str, Path]] = {}
    images = []
    for source in find_images(pictures):
        place = masks / Path(source.file_name).parent
        if place not in known:
            known[place] = pictures_in(place) if place.is_dir() else {}
        mask = mask_of(source.path, known[place], source.path.stem, place)
        load = partial(load_image, source.path)
        images.append(LabelledImage(source.file_name, load, partial(_truths, source.path, mask)))
    return images


def open_grabcut(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the images of GrabCut; they have no splits.

    Raises:
        InputError: A folder is missing, an image has no mask, or a split is asked for.
    """
    return _open_interactive(root, split, ("data_GT", "boundary_GT"), _first_channel)


def open_berkeley(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the images of Berkeley; they have no splits.

    Raises:
        InputError: A folder is missing, an image has no mask, or a split is asked for.
    """
    return _open_interactive(root, split, ("images", "masks"), _first_channel)


def open_davis_interactive(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the 345 frames of DAVIS; they have no splits.

    Raises:
        InputError: A folder is missing, an image has no mask, or a split is asked for.
    """
    return _open_interactive(root, split, ("img", "gt"), _any_channel)


def _open_interactive(
    root: Path, split: str | None, folders: tuple[str, str], read: _Read
) -> list[LabelledImage]:
    if split is not None:
        raise InputError(f"expected no split, got {split!r}", hint="this set has none")
    hint = f"the root has {folders[0]} and {folders[1]}, with the same names"
    pictures, places = (folder_at(root / name, hint) for name in folders)
    masks = pictures_in(places)
    images = []
    for stem, image in pictures_in(pictures).items():
        mask = mask_of(image, masks, stem, places)
        images.append(
            LabelledImage(
                image.name,
                partial(load_image, image),
                partial(_object, read, image, mask),
                partial(_border, read, image, mask),
            )
        )
    if not images:
        raise InputError(f"expected images in {str(pictures)!r}, got none", hint=hint)
    return images


def _truths(image: Path, mask: Path) -> list[Truth]:
    return truths_of_labels(labels_of(image, mask))


def _object(read: _Read, image: Path, mask: Path) -> list[Truth]:
    return truths_of_labels((read(image, mask) == 1).astype(np.int32))


def _border(read: _Read, image: Path, mask: Path) -> NDArray[np.bool_] | None:
    ignored: NDArray[np.bool_] = read(image, mask) < 0
    return ignored if ignored.any() else None


def _first_channel(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read 1 for the object, 0 for the background and -1 for the border."""
    values = colours_of(image, mask)[:, :, 0]
    return np.where(values == _BORDER, -1, values > _BORDER).astype(np.int32)


def _any_channel(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read 1 for the object and 0 for the background."""
    touched: NDArray[np.bool_] = colours_of(image, mask).max(axis=2) > 0
    return touched.astype(np.int32)
