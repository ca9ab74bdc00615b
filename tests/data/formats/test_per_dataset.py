from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.per_dataset import IMAGE_URL, brush_rle, flat_records
from nexus.data.formats.writers import write_dataset
from nexus.ops.rle import decode_rle

KEYS = {"image_id", "mask_id", "bbox", "area", "segmentation", "predicted_iou", "stability_score"}


def test_the_file_is_the_flat_list(dataset: Dataset, tmp_path: Path) -> None:
    """annotations.json holds one record a mask, numbered from 0 in each image."""
    (path,) = write_dataset(dataset, tmp_path / "out", "records")
    found = json.loads(path.read_text("utf-8"))

    assert found == list(flat_records(dataset))
    assert [(r["image_id"], r["mask_id"]) for r in found] == [
        *(("a", number) for number in range(7)),
        ("b", 0),
        ("b", 1),
    ]
    assert all(set(record) == KEYS | {"category"} for record in found)


def test_one_category_goes_without_saying(dataset: Dataset) -> None:
    """With a single category the keys are those of the specification, and no more."""
    images = [image for image in dataset.images if image.source.name == "b"]

    assert all(set(record) == KEYS for record in flat_records(Dataset(images)))


ADVERSARIAL = [
    np.array([[True]]),
    np.array([[False]]),
    np.arange(64).reshape(8, 8) % 2 == 0,
    np.arange(64).reshape(8, 8) % 3 == 0,
    np.ones((200, 300), bool),
    np.arange(200 * 300).reshape(200, 300) > 16384 * 2,
    np.random.default_rng(1).random((37, 53)) > 0.5,
]


def unpack(data: list[int]) -> np.ndarray:
    """Decode rle-pack's bits as its documentation describes them, one by one."""
    bits = np.unpackbits(np.array(data, np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int("".join(map(str, bits[place - count : place])), 2)

    total, value_bits = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeats = read(1)
        length = read(sizes[read(2)]) + 1
        if repeats:
            values += [read(value_bits)] * length
        else:
            values += [read(value_bits) for _ in range(length)]
    if len(bits) - place >= 8 or len(values) != total:
        raise ValueError(f"{len(bits) - place} bits left, {len(values)} of {total} values")
    return np.array(values, np.uint8)


@pytest.mark.parametrize("number", range(len(ADVERSARIAL)))
def test_the_documented_decoder_gives_the_mask_back(number: int) -> None:
    """The bits decode to RGBA rows that are 255 on the mask in all four channels."""
    mask = ADVERSARIAL[number]
    rgba = unpack(brush_rle(mask)).reshape(*mask.shape, 4)

    np.testing.assert_array_equal(rgba, np.repeat(mask[..., None], 4, axis=2) * 255)


@pytest.mark.parametrize("number", range(len(ADVERSARIAL)))
def test_label_studios_own_decoder_gives_the_mask_back(number: int) -> None:
    """The decoder of Label Studio's converter agrees, where it is installed."""
    brush = pytest.importorskip("label_studio_converter.brush")
    mask = ADVERSARIAL[number]
    rgba = brush.decode_rle(brush_rle(mask)).reshape(*mask.shape, 4)

    np.testing.assert_array_equal(rgba[..., 3] == 255, mask)


def test_tasks_have_the_documented_layout(dataset: Dataset, tmp_path: Path) -> None:
    """Each task names its image and has one prediction whose results fit the labelling set-up."""
    tasks_file, config_file = write_dataset(dataset, tmp_path / "out", "labelstudio")
    tasks = json.loads(tasks_file.read_text("utf-8"))
    config = ElementTree.fromstring(config_file.read_text("utf-8"))
    brush, picture = config.find("BrushLabels"), config.find("Image")
    ids = [r["id"] for task in tasks for p in task["predictions"] for r in p["result"]]

    assert brush is not None
    assert picture is not None
    assert picture.attrib["value"] == "$image"
    assert [label.attrib["value"] for label in brush] == list(dataset.categories)
    assert len(set(ids)) == len(ids) == 9
    for task, image in zip(tasks, dataset.images, strict=True):
        url = task["data"]["image"]
        assert unquote(url.removeprefix(IMAGE_URL)) == image.source.file_name
        (prediction,) = task["predictions"]
        assert len(prediction["result"]) == len(image.masks)
        for result, mask in zip(prediction["result"], image.masks, strict=True):
            assert result["type"] == "brushlabels"
            assert result["from_name"] == brush.attrib["name"]
            assert result["to_name"] == brush.attrib["toName"] == picture.attrib["name"]
            size = (result["original_height"], result["original_width"])
            assert size == image.size_hw
            assert result["value"]["format"] == "rle"
            assert result["value"]["brushlabels"] == [dataset.categories[mask["category_id"] - 1]]
            rgba = unpack(result["value"]["rle"]).reshape(*size, 4)
            np.testing.assert_array_equal(rgba[..., 3] > 0, decode_rle(mask["segmentation"]))


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
