from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.labelstudio import IMAGE_URL, brush_rle
from nexus.data.formats.writers import write_dataset
from nexus.ops.rle import decode_rle

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
