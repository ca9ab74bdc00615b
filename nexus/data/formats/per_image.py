"""Formats with files for each image: SA-1B's, YOLO's, Pascal VOC's, and plain PNGs."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import write_text, writing
from nexus.core.json_text import dump_json
from nexus.data.formats.dataset import Dataset, DatasetImage, object_labels
from nexus.data.images.loading import write_mask, write_png
from nexus.ops.labels import label_palette
from nexus.ops.polygons import mask_to_polygons
from nexus.ops.rle import decode_rle

_SCORES = ("predicted_iou", "stability_score")
_SA1B_KEYS = ("segmentation", "bbox", "area", *_SCORES)
_YOLO_EPSILON_FACTOR = 0.002
_VOC_MOST = 254
_PNG_COLUMNS = ("image", "number", "file", "x0", "y0", "x1", "y1", "area", *_SCORES, "category")


def write_sa1b(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write NAME.json for each image, to lie beside it.

    Follows the "Dataset format" of https://github.com/facebookresearch/segment-anything#dataset:
    boxes are x, y, width, height; masks are compressed RLE; there are no categories.
    """
    numbers = count(1)
    for image_id, image in enumerate(dataset.images, 1):
        height, width = image.size_hw
        annotations = [
            {
                "id": next(numbers),
                **{key: mask[key] for key in _SA1B_KEYS},
                "crop_box": mask.get("crop_box", [0, 0, width, height]),
                "point_coords": mask.get("point_coords", []),
            }
            for mask in image.masks
        ]
        name = image.source.picture_name
        about = {"image_id": image_id, "width": width, "height": height}
        text = dump_json({"image": {**about, "file_name": name}, "annotations": annotations})
        yield write_text(folder / f"{image.source.name}.json", text)


def write_yolo(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write labels/ with a text file per image and one polygon a line, and data.yaml.

    Follows https://docs.ultralytics.com/datasets/segment/: a line is the class, counted from 0, and
    x y of each corner as shares of the image's width and height. The labels of `images/NAME.jpg`
    are in `labels/NAME.txt`; an image without masks has an empty one. The format has room for one
    ring a mask, so further parts and holes are joined to it by a line there and back, which
    encloses nothing; readers fill by the even-odd rule. `train` and `val` of `data.yaml` both name
    all images.
    """
    for image in dataset.images:
        target = folder / "labels" / f"{image.source.name}.txt"
        yield write_text(target, "".join(_yolo_lines(image)))
    names = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(dataset.categories))
    yield write_text(folder / "data.yaml", f"train: images\nval: images\nnames:\n{names}")


def _yolo_lines(image: DatasetImage) -> Iterator[str]:
    height, width = image.size_hw
    for mask in image.masks:
        rings = mask_to_polygons(decode_rle(mask["segmentation"]), _YOLO_EPSILON_FACTOR)
        shares = join_rings(rings) / (width, height)
        numbers = " ".join(f"{share:.6f}" for share in shares.ravel())
        yield f"{mask['category_id'] - 1} {numbers}\n"


def join_rings(rings: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Join rings, at least one, each to the nearest corner of those before it.

    Returns:
        (n, 2) x, y with the corners of all rings, and twice those where they are joined.
    """
    joined = np.asarray(rings[0], np.float64)
    for ring in rings[1:]:
        other = np.asarray(ring, np.float64)
        away = ((joined[:, None] - other[None]) ** 2).sum(2)  # (joined, other)
        here, there = np.unravel_index(int(np.argmin(away)), away.shape)
        turned = np.roll(other, -int(there), axis=0)
        joined = np.concatenate((joined[: here + 1], turned, turned[:1], joined[here:]))
    return joined


def write_voc(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write boxes in Annotations/, masks in SegmentationClass/ and ...Object/, and ImageSets/.

    Follows the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/:
    boxes count pixels from 1 and include their last; masks are indexed PNGs with the kit's colour
    map, 0 background. One PNG cannot show two masks on one pixel, so smaller masks are painted over
    larger ones; the numbers of `SegmentationObject` are the order of the objects in the XML file.
    255 means "void" there, so an image can have at most 254 objects.

    Raises:
        InputError: More than 254 categories.
    """
    if len(dataset.categories) > _VOC_MOST:
        raise InputError(
            f"expected at most {_VOC_MOST} categories for VOC, got {len(dataset.categories)}",
            hint="write coco or cvat instead",
        )
    names = []
    for image in dataset.images:
        name, masks = image.source.name, _voc_masks(image)
        names.append(name)
        text = _voc_xml(image, masks, dataset.categories)
        yield write_text(folder / "Annotations" / f"{name}.xml", text)
        objects = object_labels(masks, image.size_hw)
        classes = np.array([0, *(mask["category_id"] for mask in masks)])[objects]
        for kind, labels in (("Class", classes), ("Object", objects)):
            target = folder / f"Segmentation{kind}" / f"{name}.png"
            yield write_png(target, labels.astype(np.uint8), label_palette())
    for kind in ("Main", "Segmentation"):
        target = folder / "ImageSets" / kind / "default.txt"
        yield write_text(target, "".join(f"{name}\n" for name in names))


def _voc_masks(image: DatasetImage) -> Sequence[Mapping[str, Any]]:
    """Return an image's masks, the best 254 if there are more."""
    if len(image.masks) <= _VOC_MOST:
        return image.masks
    warnings.warn(
        f"{image.source.file_name!r} has {len(image.masks)} masks, and VOC holds {_VOC_MOST}; "
        "those with the lowest predicted IoU are left out",
        NexusWarning,
        stacklevel=2,
    )
    order = sorted(range(len(image.masks)), key=lambda i: -image.masks[i]["predicted_iou"])
    return [image.masks[index] for index in sorted(order[:_VOC_MOST])]


def _voc_xml(
    image: DatasetImage, masks: Sequence[Mapping[str, Any]], categories: Sequence[str]
) -> str:
    root = ElementTree.Element("annotation")
    _add(root, folder="JPEGImages", filename=image.source.picture_name)
    size = ElementTree.SubElement(root, "size")
    _add(size, width=image.size_hw[1], height=image.size_hw[0], depth=3)
    _add(root, segmented=1)
    for mask in masks:
        element = ElementTree.SubElement(root, "object")
        name = categories[mask["category_id"] - 1]
        _add(element, name=name, pose="Unspecified", truncated=0, difficult=0)
        x0, y0, x1, y1 = mask["box_xyxy"]
        box = ElementTree.SubElement(element, "bndbox")
        _add(box, xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    ElementTree.indent(root, "  ")
    return str(ElementTree.tostring(root, encoding="unicode")) + "\n"


def _add(parent: ElementTree.Element, **values: object) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = str(value)


def write_pngs(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write a label map of each image in instances/, each mask alone in masks/, and masks.csv.

    `instances/NAME.png` holds 0 for background and N for the N-th mask, 8 bits if there are at most
    255 masks, else 16; where masks overlap the smaller one is seen. `masks/NAME.N.png` is the N-th
    mask, whole, as 0 and 255. `masks.csv` says for each mask what its file is, its box (x0, y0, x1,
    y1 in pixels, right and bottom edge exclusive), area, scores and category.
    """
    with writing(folder / "masks.csv") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(_PNG_COLUMNS)
        for image in dataset.images:
            target = folder / "instances" / f"{image.source.name}.png"
            yield write_mask(target, object_labels(image.masks, image.size_hw))
            for number, mask in enumerate(image.masks, 1):
                file = f"masks/{image.source.name}.{number}.png"
                yield write_mask(folder / file, decode_rle(mask["segmentation"]))
                numbers = (*mask["box_xyxy"], mask["area"], *(mask[score] for score in _SCORES))
                category = dataset.categories[mask["category_id"] - 1]
                rows.writerow([image.source.file_name, number, file, *numbers, category])
    yield folder / "masks.csv"
