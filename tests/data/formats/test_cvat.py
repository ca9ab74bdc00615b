from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.writers import write_dataset
from nexus.ops.rle import decode_rle

# The attributes CVAT's documentation of the XML format gives a mask and an image.
MASK = {"label", "source", "occluded", "rle", "left", "top", "width", "height", "z_order"}
IMAGE = {"id", "name", "width", "height"}


def decode(mask: ElementTree.Element, size_hw: tuple[int, int]) -> np.ndarray:
    """Decode a mask run by run as the documentation describes it."""
    left, top = int(mask.attrib["left"]), int(mask.attrib["top"])
    width, height = int(mask.attrib["width"]), int(mask.attrib["height"])
    cells: list[bool] = []
    value = False
    for run in mask.attrib["rle"].split(","):
        cells += [value] * int(run)
        value = not value
    if len(cells) != width * height:
        raise ValueError(f"{len(cells)} cells, box of {width} x {height}")
    canvas = np.zeros(size_hw, bool)
    canvas[top : top + height, left : left + width] = np.reshape(cells, (height, width))
    return canvas


def test_the_documented_decoding_gives_every_mask_back(dataset: Dataset, tmp_path: Path) -> None:
    """Run lengths inside the box, row by row, give back each mask, with its label and order."""
    (path,) = write_dataset(dataset, tmp_path / "out", "cvat")
    root = ElementTree.parse(path).getroot()
    images = root.findall("image")
    labels = [label.text for label in root.findall("meta/task/labels/label/name")]

    assert root.findtext("version") == "1.1"
    assert labels == list(dataset.categories)
    assert root.findtext("meta/task/size") == "3"
    assert [image.attrib["name"] for image in images] == [
        image.source.file_name for image in dataset.images
    ]
    for element, image in zip(images, dataset.images, strict=True):
        masks = element.findall("mask")
        assert set(element.attrib) == IMAGE
        assert (int(element.attrib["height"]), int(element.attrib["width"])) == image.size_hw
        assert [int(mask.attrib["z_order"]) for mask in masks] == list(range(len(image.masks)))
        for found, mask in zip(masks, image.masks, strict=True):
            assert set(found.attrib) == MASK
            assert found.attrib["label"] == dataset.categories[mask["category_id"] - 1]
            np.testing.assert_array_equal(
                decode(found, image.size_hw), decode_rle(mask["segmentation"])
            )
