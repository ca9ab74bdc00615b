"""ADE20K and Cityscapes: label images that name a class at each pixel.

ADE20K whole: https://github.com/CSAILVision/ADE20K (`*_seg.png` with class and instance in its
colours, `*.json` with the names). Its scene parsing benchmark of 150 classes:
https://github.com/CSAILVision/sceneparsing. Cityscapes, its folders and class numbers:
https://github.com/mcordts/cityscapesScripts.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.json_text import read_document, require
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


def open_ade20k(root: Path, split: str) -> list[LabelledImage]:
    """Return the images of ADE20K, in the order of their names.

    Of the whole set the objects are the visible parts of its instances, with the id
    256 * class + instance, without parts of objects. Of scene parsing they are the classes, one
    mask for each that is there; its pixels of other objects (0) count for nothing. Splits are
    training and validation.
    """
    if (root / "annotations").is_dir():
        return _open_scene_parsing(root, split)
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
            images.append(
                LabelledImage(
                    f"{city.name}/{image.name}",
                    partial(load_image, image),
                    partial(_city_truths, image, instances),
                    partial(_pixels_of, image, classes, _CITY_VOID),
                    group=city.name,
                )
            )
    return some(images, "images", pictures, _CITY_HINT)


def _open_scene_parsing(root: Path, split: str) -> list[LabelledImage]:
    names = root / "objectInfo150.txt"
    categories = _scene_classes(names) if names.is_file() else {}
    truths, ignored = partial(truths_at, categories=categories), partial(_pixels_of, values=(0,))
    folders = root / "images" / split, root / "annotations" / split
    return paired_images(*folders, _ADE_HINT, truths, ignored, f"{split}/")


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
