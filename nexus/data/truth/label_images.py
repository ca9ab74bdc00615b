"""Folders of images and label images: plain ones, one object an image, ADE20K and Cityscapes.

`folder` has `images` and `masks`, label maps whose values are object ids, or masks of one object.
The sets interactive
segmentation is measured on have one object an image, as published with
https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets: GrabCut (`data_GT`,
`boundary_GT`) and Berkeley (`images`, `masks`) with 255 for the object and 128 for a border that
does not count, and 345 frames of DAVIS (`img`, `gt`), where whatever is not black is the object.

ADE20K whole: https://github.com/CSAILVision/ADE20K (`*_seg.png` with class and instance in its
colours, `*.json` with the names). Its scene parsing benchmark of 150 classes:
https://github.com/CSAILVision/sceneparsing. Cityscapes, its folders and class numbers:
https://github.com/mcordts/cityscapesScripts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.json_text import read_document, require
from nexus.data.images.decoding import is_lossy
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth, truths_of_labels
from nexus.data.truth.layout import (
    labels_of,
    mask_of,
    paired_images,
    pictures_in,
    present,
    some,
    truths_at,
)
from nexus.data.truth.pairs import pairs_of
from nexus.ops.boxes import tight_box

_ADE_HINT = (
    "the root has images/ADE/SPLIT (all of ADE20K) or images/SPLIT and annotations/SPLIT "
    "(scene parsing); SPLIT is training or validation"
)
_CITY_HINT = (
    "the root has leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/"
    "*_gtFine_instanceIds.png; SPLIT is train, val or test"
)

# Numbers as in Cityscapes' table of labels; the classes that are counted have instances.
_CITY_COUNTED = {
    **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan"},
    **{30: "trailer", 31: "train", 32: "motorcycle", 33: "bicycle"},
}
_CITY_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255)
_CITY_FIRST_INSTANCE = 1000  # instances are class * 1000 + number; below it a whole class

_BORDER = 128
_Read: TypeAlias = Callable[[Path, Path], NDArray[np.int32]]


def open_folder(root: Path, split: str | None) -> list[LabelledImage]:
    """Return the images of `images`, in the order of their names; they may lie in folders there.

    A split is a folder in the root that holds `images` and `masks` instead. Images without a mask
    and masks without an image are left out, which is told in a warning and in `unpaired`.
    """
    top = root if split is None else root / split
    hint = "the root has images and masks, with the same names; a mask is a PNG label map"
    pairs, unpaired = pairs_of(present(top / "images", hint), present(top / "masks", hint))
    return [
        LabelledImage(
            source.file_name,
            partial(load_image, source.path),
            partial(truths_at, source.path, mask),
            unpaired=unpaired,
        )
        for source, mask in pairs
    ]


def open_interactive(
    folders: tuple[str, str], read: _Read, root: Path, split: str | None
) -> list[LabelledImage]:
    """Return the images of a set of one object an image, which has no splits.

    `folders` names those of the images and the masks; `read` gives, of an image and its mask, 1 for
    the object, 0 for the background and -1 for what does not count.
    """
    if split is not None:
        raise InputError(f"expected no split, got {split!r}", hint="this set has none")
    hint = f"the root has {folders[0]} and {folders[1]}, with the same names"
    places = root / folders[0], root / folders[1]
    return paired_images(*places, hint, partial(_object, read), partial(_border, read))


def bordered_object(image: Path, mask: Path) -> NDArray[np.int32]:
    """Read 1 for the object, 0 for the background and -1 for the border, of a grey mask."""
    values = labels_of(image, mask, load_image)[:, :, 0]
    border = abs(values - _BORDER) <= (_BORDER // 2 if is_lossy(mask) else 0)
    return np.where(border, -1, values > _BORDER).astype(np.int32)


def _object(read: _Read, image: Path, mask: Path) -> list[Truth]:
    return truths_of_labels(read(image, mask))


def _border(read: _Read, image: Path, mask: Path) -> NDArray[np.bool_] | None:
    ignored: NDArray[np.bool_] = read(image, mask) < 0
    return ignored if ignored.any() else None


def open_ade20k(root: Path, split: str) -> list[LabelledImage]:
    """Return the images of ADE20K, in the order of their names.

    Of the whole set the objects are the visible parts of its instances, with the id
    256 * class + instance, without parts of objects. Of scene parsing they are the classes, one
    mask for each that is there; its pixels of other objects (0) count for nothing. Splits are
    training and validation.
    """
    if (root / "annotations").is_dir():
        names = root / "objectInfo150.txt"
        categories = _scene_classes(names) if names.is_file() else {}
        reads = partial(truths_at, categories=categories), partial(_pixels_of, values=(0,))
        folders = root / "images" / split, root / "annotations" / split
        return paired_images(*folders, _ADE_HINT, *reads, f"{split}/")
    pictures = present(root / "images", _ADE_HINT)
    pictures = pictures / "ADE" if (pictures / "ADE").is_dir() else pictures
    top = present(pictures / split, _ADE_HINT)
    images = []
    for image in sorted(top.rglob("ADE_*.jpg")):
        mask = image.with_name(f"{image.stem}_seg.png")
        mask = mask_of(image, {image.stem: mask} if mask.is_file() else {}, image.stem, mask.parent)
        name = image.relative_to(pictures).as_posix()
        truths = partial(_ade_truths, image, mask, image.with_suffix(".json"))
        images.append(LabelledImage(name, partial(load_image, image), truths))
    return some(images, "images", top, _ADE_HINT)


def open_cityscapes(root: Path, split: str) -> list[LabelledImage]:
    """Return the images of Cityscapes with their fine instances, in the order of cities and names.

    Objects are the instances. A group too close to be told apart, and the classes without
    evaluation, caravan and trailer, are to be ignored. Void pixels count for nothing. Classes
    without instances, such as road, are left out. Splits are train and val.
    """
    pictures = present(root / "leftImg8bit" / split, _CITY_HINT)
    places = present(root / "gtFine" / split, _CITY_HINT)
    images = []
    for city in sorted(path for path in pictures.iterdir() if path.is_dir()):
        place = places / city.name
        masks = pictures_in(place)
        for image in sorted(city.glob("*_leftImg8bit.png")):
            stem = image.stem.removesuffix("_leftImg8bit")
            instances = mask_of(image, masks, f"{stem}_gtFine_instanceIds", place)
            classes = mask_of(image, masks, f"{stem}_gtFine_labelIds", place)
            name, void = (
                f"{city.name}/{image.name}",
                partial(_pixels_of, image, classes, _CITY_VOID),
            )
            load, truths = partial(load_image, image), partial(_city_truths, image, instances)
            images.append(LabelledImage(name, load, truths, void, group=city.name))
    return some(images, "images", pictures, _CITY_HINT)


def _scene_classes(path: Path) -> dict[int, str]:
    """Read the names of the classes: a table with tabs, the number first and the name last."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()[1:] if line.strip()]
    if not all(len(row) > 1 and row[0].strip().isdigit() for row in rows):
        raise InputError(
            f"expected a table of numbers and names divided by tabs, got {str(path)!r}",
            hint="objectInfo150.txt comes with the scene parsing data",
        )
    return {int(row[0]): row[-1].strip() for row in rows}


def _pixels_of(image: Path, mask: Path, values: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read which pixels have one of several labels."""
    return np.isin(labels_of(image, mask), values)


def _ade_truths(image: Path, mask: Path, info: Path) -> list[Truth]:
    red, green, blue = np.moveaxis(labels_of(image, mask, load_image), 2, 0)
    classes = red // 10 * 256 + green
    labels = np.where(classes > 0, classes * 256 + blue, 0)
    names = _ade_names(info) if info.is_file() else {}
    categories = {int(v): names[v // 256] for v in np.unique(labels) if v // 256 in names}
    return truths_of_labels(labels, categories)


def _ade_names(path: Path) -> dict[int, str]:
    document = read_document(path, annotation=dict)
    require(document["annotation"], path, object=(list, dict))
    given = document["annotation"]["object"]
    objects = [given] if isinstance(given, dict) else given  # one object alone is no list
    for each in objects:
        require(each, path, name_ndx=int, name=str)
    return {each["name_ndx"]: each["name"] for each in objects}


def _city_truths(image: Path, mask: Path) -> list[Truth]:
    labels = labels_of(image, mask)
    truths = []
    for value in np.unique(labels).tolist():
        alone = value >= _CITY_FIRST_INSTANCE
        number = value // _CITY_FIRST_INSTANCE if alone else value
        if number not in _CITY_COUNTED:
            continue
        own = labels == value
        ignore = not alone or number in _CITY_VOID
        truths.append(Truth(value, own, tight_box(own), _CITY_COUNTED[number], ignore))
    return truths
