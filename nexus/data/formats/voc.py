"""Pascal VOC: boxes in XML and masks in palette PNGs.

Follows the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/: boxes
count pixels from 1 and include their last; `SegmentationClass` and `SegmentationObject` are indexed
PNGs with the kit's colour map, 0 background. One PNG cannot show two masks on one pixel, so smaller
masks are painted over larger ones; the numbers of `SegmentationObject` are the order of the objects
in the XML file. 255 means "void" there, so an image can have at most 254 objects.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import write_text
from nexus.data.formats.dataset import Dataset, DatasetImage, object_labels
from nexus.data.images.loading import write_png
from nexus.ops.labels import label_palette

_MOST = 254


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write Annotations/, SegmentationClass/, SegmentationObject/ and ImageSets/.

    Raises:
        InputError: More than 254 categories.
    """
    if len(dataset.categories) > _MOST:
        raise InputError(
            f"expected at most {_MOST} categories for VOC, got {len(dataset.categories)}",
            hint="write coco or cvat instead",
        )
    names = []
    for image in dataset.images:
        name, masks = image.source.name, _at_most(image)
        names.append(name)
        text = _xml(image, masks, dataset.categories)
        yield write_text(folder / "Annotations" / f"{name}.xml", text)
        objects = object_labels(masks, image.size_hw)
        classes = np.array([0, *(mask["category_id"] for mask in masks)])[objects]
        for kind, labels in (("Class", classes), ("Object", objects)):
            target = folder / f"Segmentation{kind}" / f"{name}.png"
            yield write_png(target, labels.astype(np.uint8), label_palette())
    for kind in ("Main", "Segmentation"):
        target = folder / "ImageSets" / kind / "default.txt"
        yield write_text(target, "".join(f"{name}\n" for name in names))


def _at_most(image: DatasetImage) -> Sequence[Mapping[str, Any]]:
    """Return an image's masks, the best 254 if there are more."""
    if len(image.masks) <= _MOST:
        return image.masks
    warnings.warn(
        f"{image.source.file_name!r} has {len(image.masks)} masks, and VOC holds {_MOST}; those "
        "with the lowest predicted IoU are left out",
        NexusWarning,
        stacklevel=2,
    )
    order = sorted(range(len(image.masks)), key=lambda i: -image.masks[i]["predicted_iou"])
    return [image.masks[index] for index in sorted(order[:_MOST])]


def _xml(image: DatasetImage, masks: Sequence[Mapping[str, Any]], categories: Sequence[str]) -> str:
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
    text: str = ElementTree.tostring(root, encoding="unicode")
    return text + "\n"


def _add(parent: ElementTree.Element, **values: object) -> None:
    for tag, value in values.items():
        ElementTree.SubElement(parent, tag).text = str(value)
