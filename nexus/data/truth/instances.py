"""COCO, LVIS and SA-1B: instances in JSON files.

COCO's format: https://cocodataset.org/#format-data (`annotations/instances_val2017.json` with the
images in `val2017`). LVIS: https://www.lvisdataset.org/dataset (`lvis_v1_val.json`; its images are
COCO's, of the folder that `coco_url` names). It has no crowds, and tells of each image which
classes are known to be absent and which are not annotated in full. SA-1B has a file beside each
image: https://github.com/facebookresearch/segment-anything#dataset (`sa_1.jpg` and `sa_1.json`,
with `image` and `annotations` whose masks are COCO RLE; no classes).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.json_text import read_document, require
from nexus.core.packages import optional_module
from nexus.data.images.loading import load_image
from nexus.data.truth.labelled import LabelledImage, Truth
from nexus.data.truth.layout import check_size, inside, only_split, pictures_in, present, some
from nexus.ops.boxes import tight_box
from nexus.ops.rle import decode_rle

_COCO_HINT = (
    "COCO has annotations/instances_SPLIT.json and the images in SPLIT; "
    "annotations.json or instances.json beside images is read too"
)
_LVIS_HINT = "LVIS has lvis_v1_SPLIT.json, and COCO's images in train2017 and val2017"
_SA1B_HINT = (
    "SA-1B has sa_1.jpg and sa_1.json side by side, in one folder or in folders sa_000000, ..."
)
_SINGLE_FILES = ("annotations.json", "instances.json")


def open_coco(root: Path, split: str | None) -> list[LabelledImage]:
    """Return the images of a COCO instances file, in its order.

    Objects are the annotations, in the order of their ids; crowds, and objects too small to cover
    a pixel, are to be ignored. Boxes are as annotated. The root is the folder of `annotations`, or
    of `annotations.json`; a split is such as val2017, None the only one there is.
    """
    present(root, _COCO_HINT)
    single = (root / name for name in _SINGLE_FILES if (root / name).is_file())
    path = next(single, None) if split is None else None
    folders = [root / "images", root]
    if path is None:
        found = (path.stem for path in (root / "annotations").glob("instances_*.json"))
        if split is None:
            split = only_split((stem.partition("_")[2] for stem in found), root, _COCO_HINT)
        path = present(root / "annotations" / f"instances_{split}.json", _COCO_HINT, "file")
        folders = [root / split, root / "images" / split, *folders]
    return _open(path, folders, use_url=False)


def open_lvis(root: Path, split: str | None) -> list[LabelledImage]:
    """Return the images of an LVIS file, in its order.

    The root is the folder of the JSON file (or of `annotations` with it) and of the images; a split
    is such as val, None the only one there is.
    """
    found = {
        path.stem.rpartition("_")[2]: path
        for place in (root / "annotations", present(root, _LVIS_HINT))
        for path in sorted(place.glob("lvis_v*_*.json"))
    }
    chosen = only_split(found, root, _LVIS_HINT) if split is None else split
    path = found.get(chosen) or present(root / f"lvis_v1_{chosen}.json", _LVIS_HINT, "file")
    folders = [root, root / "images", root / f"{chosen}2017"]
    return _open(path, folders, use_url=True)


def open_sa1b(root: Path, split: str | None) -> list[LabelledImage]:
    """Return the images that have a JSON file beside them, in the order of their names.

    Boxes are tight around the masks: the `bbox` of the file counts from inclusive pixels, and is a
    pixel short at the right and bottom. The root is the folder of the files, or of folders of
    files; a split is one of these, None all.
    """
    top = present(root if split is None else root / split, _SA1B_HINT)
    images = []
    for folder in [top, *sorted(path for path in top.iterdir() if path.is_dir())]:
        pictures = pictures_in(folder)
        for path in sorted(folder.glob("*.json")):
            image = pictures.get(path.stem)
            if image is None:
                raise InputError(
                    f"expected an image beside {str(path)!r}, got none named {path.stem!r}",
                    hint=_SA1B_HINT,
                )
            name = image.relative_to(root).as_posix()
            truths = partial(_truths_beside, path, image)
            images.append(LabelledImage(name, partial(load_image, image), truths))
    return some(images, "JSON files", top, _SA1B_HINT)


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
    coco_mask = optional_module(
        "pycocotools.mask", "to draw COCO polygons", "'nexus-segmentation[eval]'"
    )
    for polygon in polygons:
        if (
            not isinstance(polygon, list)
            or len(polygon) % 2
            or not all(isinstance(number, (int, float)) for number in polygon)
        ):
            raise InputError(
                f"expected polygons as flat lists x0, y0, x1, y1, ..., got {polygon!r:.80}"
            )
    drawn = [polygon for polygon in polygons if len(polygon) >= 6]
    if not drawn:
        return np.zeros(size_hw, np.bool_)
    return decode_rle(coco_mask.merge(coco_mask.frPyObjects(drawn, *size_hw)))


def _open(path: Path, folders: list[Path], *, use_url: bool) -> list[LabelledImage]:
    document = read_document(path, images=list, annotations=list, categories=list)
    for category in document["categories"]:
        require(category, path, id=int, name=str)
    categories = {category["id"]: category["name"] for category in document["categories"]}
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
        name = image.get("file_name")
        if use_url and isinstance(image.get("coco_url"), str):
            name = "/".join(image["coco_url"].split("/")[-2:])
        files = [inside(folder, name, path) for folder in folders]
        file = next((file for file in files if file.is_file()), files[0])
        own = sorted(annotations.pop(image["id"], []), key=lambda annotation: annotation["id"])
        truths = partial(_truths, own, (image["height"], image["width"]), categories, file, path)
        absent, not_exhaustive = (
            tuple(categories[number] for number in image.get(key, ()) if number in categories)
            for key in ("neg_category_ids", "not_exhaustive_category_ids")
        )
        load = partial(load_image, file)
        images.append(
            LabelledImage(name, load, truths, absent=absent, not_exhaustive=not_exhaustive)
        )
    if annotations:
        raise InputError(
            f"expected image_id of an image of {str(path)!r}, got {min(annotations)}",
            hint="the file was cut down without its annotations",
        )
    return images


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
    box: tuple[float, float, float, float] = tight_box(mask)
    if isinstance(annotation.get("bbox"), list) and len(annotation["bbox"]) == 4:
        x, y, width, height = map(float, annotation["bbox"])
        box = (x, y, x + width, y + height)
    ignore = bool(annotation.get("iscrowd", 0)) or not mask.any()
    return Truth(annotation["id"], mask, box, categories[annotation["category_id"]], ignore)


def _truths_beside(path: Path, image: Path) -> list[Truth]:
    document = read_document(path, image=dict, annotations=list)
    truths = []
    for annotation in document["annotations"]:
        require(annotation, path, id=int, segmentation=dict)
        mask = decode_rle(annotation["segmentation"])
        check_size(mask.shape, image, path)
        if mask.any():
            truths.append(Truth(annotation["id"], mask, tight_box(mask)))
    return sorted(truths, key=lambda truth: truth.object_id)
