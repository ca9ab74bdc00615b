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
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import replacing
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.data.formats.painting import paint_labels
from nexus.data.formats.writers import picture_name

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
        annotation = folder / "Annotations" / f"{name}.xml"
        with replacing(annotation) as temporary:
            temporary.write_bytes(_xml(image, masks, dataset.categories))
        yield annotation
        objects = paint_labels(masks, image.size_hw)
        classes = np.array([0, *(mask["category_id"] for mask in masks)])[objects]
        for kind, labels in (("Class", classes), ("Object", objects)):
            yield _write_palette(folder / f"Segmentation{kind}" / f"{name}.png", labels)
    for kind in ("Main", "Segmentation"):
        target = folder / "ImageSets" / kind / "default.txt"
        with replacing(target) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        yield target


def voc_palette() -> list[int]:
    """Return the kit's 256 colours as R, G, B, R, G, B, ...; 0 is black and 1 dark red."""
    colors = np.zeros((256, 3), np.uint8)
    numbers = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return [int(value) for value in colors.ravel()]


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


def _xml(
    image: DatasetImage, masks: Sequence[Mapping[str, Any]], categories: Sequence[str]
) -> bytes:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", picture_name(image.source))
    size = ElementTree.SubElement(root, "size")
    for side, pixels in (("width", image.size_hw[1]), ("height", image.size_hw[0]), ("depth", 3)):
        _add(size, side, pixels)
    _add(root, "segmented", 1)
    for mask in masks:
        one = ElementTree.SubElement(root, "object")
        _add(one, "name", categories[mask["category_id"] - 1])
        _add(one, "pose", "Unspecified")
        _add(one, "truncated", 0)
        _add(one, "difficult", 0)
        x0, y0, x1, y1 = mask["box_xyxy"]
        box = ElementTree.SubElement(one, "bndbox")
        for edge, place in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(box, edge, place)
    ElementTree.indent(root, "  ")
    text: str = ElementTree.tostring(root, encoding="unicode")
    return text.encode("utf-8") + b"\n"


def _add(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)


def _write_palette(target: Path, labels: NDArray[Any]) -> Path:
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(voc_palette())
    with replacing(target) as temporary:
        picture.save(temporary, format="PNG")
    return target
