"""Folders of images and masks of the same names.

`folder` is a plain one: `images` and `masks`, label maps whose values are object ids. The others
are the sets interactive segmentation is measured on, one object an image, as published with
https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets: GrabCut (`data_GT`,
`boundary_GT`) and Berkeley (`images`, `masks`) with 255 for the object and 128 for a border that
does not count, and 345 frames of DAVIS (`img`, `gt`), where whatever is not black is the object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.data.formats.dataset import find_images
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth, truths_of_labels
from nexus.data.truth.layout import (
    labels_of,
    mask_of,
    paired_images,
    pictures_in,
    present,
    truths_at,
)

_BORDER = 128
_Read: TypeAlias = Callable[[Path, Path], NDArray[np.int32]]


def open_folder(root: Path, split: str | None) -> list[LabelledImage]:
    """Return the images of `images`, in the order of their names; they may lie in folders there.

    A split is a folder in the root that holds `images` and `masks` instead.
    """
    top = root if split is None else root / split
    hint = "the root has images and masks, with the same names; a mask is a PNG label map"
    pictures, masks = present(top / "images", hint), present(top / "masks", hint)
    known, images = cache(pictures_in), []
    for source in find_images(pictures):
        place = masks / Path(source.file_name).parent
        mask = mask_of(source.path, known(place), source.path.stem, place)
        load = partial(load_image, source.path)
        images.append(LabelledImage(source.file_name, load, partial(truths_at, source.path, mask)))
    return images


def open_interactive(
    folders: tuple[str, str], read: _Read, root: Path, split: str | None
) -> list[LabelledImage]:
    """Return the images of a set of one object an image, which has no splits.

    Args:
        folders: Names of those of the images and the masks.
        read: Reads, of an image and its mask, 1 for the object, 0 for the background and -1 for
            what does not count.
        root: The folder of both.
        split: Refused unless None.
    """
    if split is not None:
        raise InputError(f"expected no split, got {split!r}", hint="this set has none")
    hint = f"the root has {folders[0]} and {folders[1]}, with the same names"
    places = root / folders[0], root / folders[1]
    return paired_images(*places, hint, partial(_object, read), partial(_border, read))


def bordered_object(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read 1 for the object, 0 for the background and -1 for the border, of a grey mask."""
    values = labels_of(image, mask, load_image)[:, :, 0]
    return np.where(values == _BORDER, -1, values > _BORDER).astype(np.int32)


def _object(read: _Read, image: Path, mask: Path) -> list[Truth]:
    return truths_of_labels(read(image, mask))


def _border(read: _Read, image: Path, mask: Path) -> NDArray[np.bool_] | None:
    ignored: NDArray[np.bool_] = read(image, mask) < 0
    return ignored if ignored.any() else None
