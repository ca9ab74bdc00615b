from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nexus.core.errors import InputError, NexusWarning
from nexus.data.formats.dataset import Dataset, DatasetImage, InputImage, mask_record
from nexus.data.formats.writers import write_dataset
from nexus.ops.rle import decode_rle


def many(count: int, folder: Path) -> Dataset:
    """Return one image with `count` masks of one pixel, the first the worst."""
    Image.new("RGB", (20, 20)).save(folder / "many.png")
    masks = []
    for index in range(count):
        mask = np.zeros((20, 20), bool)
        mask.flat[index] = True
        record = {"segmentation": mask, "bbox": [0, 0, 0, 0], "stability_score": 1}
        plain = mask_record({**record, "predicted_iou": 0.5 + index / 1000}, (20, 20))
        masks.append({**plain, "category_id": 1})
    source = InputImage(folder / "many.png", "many.png", "many")
    return Dataset([DatasetImage(source, (20, 20), masks)])


def test_boxes_count_from_one_and_include_their_last_pixel(
    dataset: Dataset, tmp_path: Path
) -> None:
    """Read as the kit's boxes are, each bndbox is the box of its mask."""
    out = tmp_path / "out"
    write_dataset(dataset, out, "voc")
    for image in dataset.images:
        root = ElementTree.parse(out / "Annotations" / f"{image.source.name}.xml").getroot()
        size = [int(root.findtext(f"size/{tag}", "")) for tag in ("height", "width", "depth")]
        objects = root.findall("object")

        assert size == [*image.size_hw, 3]
        assert (out / "JPEGImages" / root.findtext("filename", "")).is_file()
        assert len(objects) == len(image.masks)
        for one, mask in zip(objects, image.masks, strict=True):
            edges = (int(one.findtext(f"bndbox/{e}", "")) for e in ("xmin", "ymin", "xmax", "ymax"))
            xmin, ymin, xmax, ymax = edges
            rows, columns = np.nonzero(decode_rle(mask["segmentation"]))
            assert (xmin - 1, xmax - 1) == (columns.min(), columns.max())
            assert (ymin - 1, ymax - 1) == (rows.min(), rows.max())
            assert one.findtext("name") == dataset.categories[mask["category_id"] - 1]


def test_masks_are_palette_images_of_objects_and_classes(dataset: Dataset, tmp_path: Path) -> None:
    """Both PNGs are indexed; an object's pixels are its mask less what smaller masks cover."""
    out = tmp_path / "out"
    write_dataset(dataset, out, "voc")
    for image in dataset.images:
        with Image.open(out / "SegmentationObject" / f"{image.source.name}.png") as picture:
            mode, objects = picture.mode, np.array(picture)
        with Image.open(out / "SegmentationClass" / f"{image.source.name}.png") as picture:
            classes, palette = np.array(picture), picture.getpalette()
        seen = np.zeros(image.size_hw, int)
        for index in sorted(range(len(image.masks)), key=lambda i: -image.masks[i]["area"]):
            seen[decode_rle(image.masks[index]["segmentation"])] = index + 1
        numbers = [0, *(mask["category_id"] for mask in image.masks)]

        assert mode == "P"
        np.testing.assert_array_equal(objects, seen)
        np.testing.assert_array_equal(classes, np.array(numbers)[seen])
        assert palette is not None
        assert palette[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_the_image_sets_name_every_image(dataset: Dataset, tmp_path: Path) -> None:
    """ImageSets lists the names without endings, one a line."""
    write_dataset(dataset, tmp_path / "out", "voc")
    lists = tmp_path / "out" / "ImageSets"

    assert (lists / "Main" / "default.txt").read_text("utf-8") == "a\nempty\nb\n"
    assert (lists / "Segmentation" / "default.txt").read_text("utf-8") == "a\nempty\nb\n"


def test_an_image_with_too_many_masks_warns_and_keeps_the_best(tmp_path: Path) -> None:
    """Of 260 masks the 254 with the highest predicted IoU stay, and a warning says so."""
    with pytest.warns(NexusWarning, match="'many.png' has 260 masks, and VOC holds 254"):
        write_dataset(many(260, tmp_path), tmp_path / "out", "voc")
    with Image.open(tmp_path / "out" / "SegmentationObject" / "many.png") as picture:
        objects = np.array(picture)

    assert objects.max() == 254
    assert (objects.ravel()[:6] == 0).all()
    assert objects.ravel()[6] == 1


def test_more_categories_than_a_palette_has(dataset: Dataset, tmp_path: Path) -> None:
    """255 categories are refused with the formats that hold them."""
    names = tuple(str(number) for number in range(255))

    with pytest.raises(InputError, match="at most 254 categories for VOC, got 255") as caught:
        write_dataset(Dataset(dataset.images, names), tmp_path / "out", "voc")
    assert caught.value.hint == "write coco or cvat instead"
