"""COCO and LVIS: instances in one JSON file.

COCO's format: https://cocodataset.org/#format-data (`annotations/instances_val2017.json` with the
images in `val2017`). LVIS: https://www.lvisdataset.org/dataset (`lvis_v1_val.json`; its images are
COCO's, of the folder that `coco_url` names). It has no crowds, and tells of each image which
classes are known to be absent and which are not annotated in full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, MissingDependencyError
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth, tight_box
from nexus.data.truth.layout import (
    check_size,
    file_at,
    folder_at,
    inside,
    only_split,
    read_document,
    require,
)
from nexus.ops.rle import decode_rle

_COCO_HINT = (
    "COCO has annotations/instances_SPLIT.json and the images in SPLIT; "
    "annotations.json or instances.json beside images is read too"
)
_LVIS_HINT = "LVIS has lvis_v1_SPLIT.json, and COCO's images in train2017 and val2017"
_SINGLE_FILES = ("annotations.json", "instances.json")
_CORNERS = 3


def open_coco(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the images of a COCO instances file, in its order.

    Objects are the annotations, in the order of their ids; crowds, and objects too small to cover
    a pixel, are to be ignored. Boxes are as annotated.

    Args:
        root: The folder of `annotations`, or of `annotations.json`.
        split: Such as val2017; None for the only one there is.

    Raises:
        InputError: The folder or file is not as published, or the split not there.
    """
    path, split = _coco_file(folder_at(root, _COCO_HINT), split)
    folders = [root / "images", root]
    if split is not None:
        folders = [root / split, root / "images" / split, *folders]
    return _open(path, _by_file_name(folders))


def open_lvis(root: Path, split: str | None = None) -> list[LabelledImage]:
    """Return the images of an LVIS file, in its order.

    Args:
        root: The folder of the JSON file (or of `annotations` with it) and of the images.
        split: Such as val; None for the only one there is.

    Raises:
        InputError: The folder or file is not as published, or the split not there.
    """
    places = [folder_at(root, _LVIS_HINT), root / "annotations"]
    found = {
        path.stem.rpartition("_")[2]: path
        for place in reversed(places)
        for path in sorted(place.glob("lvis_v*_*.json"))
    }
    chosen = only_split(found, root, _LVIS_HINT) if split is None else split
    path = found.get(chosen) or file_at(root / f"lvis_v1_{chosen}.json", _LVIS_HINT)
    folders = [root, root / "images", root / f"{chosen}2017"]
    return _open(path, _by_url(folders))


def polygons_mask(polygons: Sequence[Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw the polygons of an annotation as COCO's own tools do.

    `nexus.ops.polygons` decides by the centres of pixels; COCO's areas and scores come from another
    rule, so pycocotools draws here.

    Args:
        polygons: Flat lists x0, y0, x1, y1, ...; those of fewer than 3 corners enclose nothing.
        size_hw: Of the image.

    Returns:
        (H, W) bool, equal to `pycocotools.coco.COCO.annToMask`.

    Raises:
        InputError: Not lists of pairs of numbers.
        MissingDependencyError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask as coco_mask
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package 'pycocotools' to draw COCO polygons, got an ImportError",
            hint="pip install 'nexus-segmentation[eval]'",
        ) from error
    for polygon in polygons:
        if (
            not isinstance(polygon, list)
            or len(polygon) % 2
            or not all(isinstance(number, (int, float)) for number in polygon)
        ):
            raise InputError(
                f"expected polygons as flat lists x0, y0, x1, y1, ..., got {polygon!r:.80}"
            )
    drawn = [polygon for polygon in polygons if len(polygon) >= 2 * _CORNERS]
    if not drawn:
        return np.zeros(size_hw, np.bool_)
    return decode_rle(coco_mask.merge(coco_mask.frPyObjects(drawn, *size_hw)))


def _coco_file(root: Path, split: str | None) -> tuple[Path, str | None]:
    if split is None:
        for name in _SINGLE_FILES:
            if (root / name).is_file():
                return root / name, None
        found = [path.stem for path in (root / "annotations").glob("instances_*.json")]
        split = only_split((stem.partition("_")[2] for stem in found), root, _COCO_HINT)
    return file_at(root / "annotations" / f"instances_{split}.json", _COCO_HINT), split


def _by_file_name(folders: list[Path]) -> Callable[[dict[str, Any], Path], tuple[str, Path]]:
    return partial(_named, folders=folders, use_url=False)


def _by_url(folders: list[Path]) -> Callable[[dict[str, Any], Path], tuple[str, Path]]:
    return partial(_named, folders=folders, use_url=True)


def _named(
    image: dict[str, Any], source: Path, *, folders: list[Path], use_url: bool
) -> tuple[str, Path]:
    """Return what an image is called and its file: in the first folder that has it."""
    name = image.get("file_name")
    if use_url and isinstance(image.get("coco_url"), str):
        name = "/".join(image["coco_url"].split("/")[-2:])
    paths = [inside(folder, name, source) for folder in folders]
    return str(name), next((path for path in paths if path.is_file()), paths[0])


def _open(
    path: Path, locate: Callable[[dict[str, Any], Path], tuple[str, Path]]
) -> list[LabelledImage]:
    document = read_document(path, images=list, annotations=list, categories=list)
    categories: dict[int, str] = {}
    for category in document["categories"]:
        require(category, path, id=int, name=str)
        categories[category["id"]] = category["name"]
    annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in document["annotations"]:
        require(annotation, path, id=int, image_id=int, category_id=int, segmentation=(list, dict))
        if annotation["category_id"] not in categories:
            raise InputError(
                f"expected category_id of a category of {str(path)!r}, got "
                f"{annotation['category_id']} in annotation {annotation['id']}"
            )
        annotations[annotation["image_id"]].append(annotation)
    images = []
    for image in document["images"]:
        require(image, path, id=int, height=int, width=int)
        name, file = locate(image, path)
        own = sorted(annotations.pop(image["id"], []), key=lambda annotation: annotation["id"])
        size_hw = (image["height"], image["width"])
        images.append(
            LabelledImage(
                name,
                partial(load_image, file),
                partial(_truths, own, size_hw, categories, file, path),
                absent=_names(image, "neg_category_ids", categories),
                not_exhaustive=_names(image, "not_exhaustive_category_ids", categories),
            )
        )
    if annotations:
        raise InputError(
            f"expected image_id of an image of {str(path)!r}, got {min(annotations)}",
            hint="the file was cut down without its annotations",
        )
    return images


def _names(image: dict[str, Any], key: str, categories: dict[int, str]) -> tuple[str, ...]:
    return tuple(categories[number] for number in image.get(key, ()) if number in categories)


def _truths(
    annotations: list[dict[str, Any]],
    size_hw: tuple[int, int],
    categories: dict[int, str],
    image: Path,
    source: Path,
) -> list[Truth]:
    if annotations:  # an image without objects need not be there: small samples leave it out
        check_size(size_hw, image, source)
    return [_truth(each, size_hw, categories, source) for each in annotations]


def _truth(
    annotation: dict[str, Any], size_hw: tuple[int, int], categories: dict[int, str], source: Path
) -> Truth:
    given = annotation["segmentation"]
    try:
        mask = polygons_mask(given, size_hw) if isinstance(given, list) else decode_rle(given)
        if mask.shape != size_hw:
            raise InputError(f"expected a mask of {size_hw}, got {mask.shape}")
    except InputError as error:
        raise InputError(
            f"{error.message} (annotation {annotation['id']} of {str(source)!r})", hint=error.hint
        ) from error
    covers = bool(mask.any())
    if isinstance(annotation.get("bbox"), list) and len(annotation["bbox"]) == 4:
        x, y, width, height = map(float, annotation["bbox"])
        box = (x, y, x + width, y + height)
    else:
        box = tight_box(mask) if covers else (0.0, 0.0, 0.0, 0.0)
    ignore = bool(annotation.get("iscrowd", 0)) or not covers
    return Truth(annotation["id"], mask, box, categories[annotation["category_id"]], ignore)
