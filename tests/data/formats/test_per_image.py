from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from nexus.core.errors import InputError, NexusWarning
from nexus.data.formats.dataset import Dataset, DatasetImage, InputFile, mask_record
from nexus.data.formats.per_image import join_rings
from nexus.data.formats.writers import write_dataset
from nexus.data.images.loading import read_mask
from nexus.ops.polygons import polygons_to_mask
from nexus.ops.rle import decode_rle

# Keys and types as the dataset's own description lists them.
IMAGE = {"image_id": int, "width": int, "height": int, "file_name": str}
ANNOTATION = {
    "id": int,
    "segmentation": dict,
    "bbox": list,
    "area": int,
    "predicted_iou": float,
    "stability_score": float,
    "crop_box": list,
    "point_coords": list,
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_each_image_has_a_file_of_the_documented_keys(dataset: Dataset, tmp_path: Path) -> None:
    """Beside each image is a JSON file with exactly SA-1B's keys; pycocotools decodes it."""
    out = tmp_path / "out"
    write_dataset(dataset, out, "sa1b")
    ids = []
    for image in dataset.images:
        document = json.loads((out / f"{image.source.name}.json").read_text("utf-8"))
        with Image.open(out / document["image"]["file_name"]) as picture:
            size = picture.size

        assert {k: type(v) for k, v in document["image"].items()} == IMAGE
        assert (document["image"]["width"], document["image"]["height"]) == size
        assert len(document["annotations"]) == len(image.masks)
        for annotation, mask in zip(document["annotations"], image.masks, strict=True):
            ids.append(annotation["id"])
            decoded = coco_mask.decode(annotation["segmentation"]).astype(bool)
            assert {k: type(v) for k, v in annotation.items()} == ANNOTATION
            np.testing.assert_array_equal(decoded, decode_rle(mask["segmentation"]))
            assert annotation["area"] == decoded.sum()
            assert annotation["bbox"] == mask["bbox"]
            assert annotation["point_coords"] == mask["point_coords"]
    assert ids == list(range(1, 10))


def read_labels(data: Path) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Read a dataset as the documentation of YOLO segmentation says a reader does.

    The yaml's folder is the root, the labels of an image are found by replacing the last
    `/images/` of its path with `/labels/`, a line is a class and at least three corners in [0, 1].
    """
    root, document = data.parent, yaml.safe_load(data.read_text("utf-8"))
    found = {}
    for image in sorted((root / document["train"]).iterdir()):
        before, after = str(image).rsplit("/images/", 1)
        labels = Path(f"{before}/labels/{after}").with_suffix(".txt")
        rows = [line.split() for line in labels.read_text("utf-8").splitlines()]
        objects = []
        for row in rows:
            corners = np.array(row[1:], np.float64).reshape(-1, 2)
            if len(corners) < 3 or corners.min() < 0 or corners.max() > 1:
                raise ValueError(f"{labels}: {row}")
            if int(row[0]) not in document["names"]:
                raise ValueError(f"{labels}: class {row[0]}")
            objects.append((int(row[0]), corners))
        found[image.stem] = objects
    return found


def test_a_documented_reader_gets_every_mask_back(dataset: Dataset, tmp_path: Path) -> None:
    """Drawn by the even-odd rule each polygon is its mask, holes and parts included."""
    (data,) = write_dataset(dataset, tmp_path / "out", "yolo")
    found = read_labels(data)

    assert yaml.safe_load(data.read_text("utf-8"))["names"] == dict(enumerate(dataset.categories))
    assert found["empty"] == []
    for image in dataset.images:
        height, width = image.size_hw
        objects = found[image.source.name]
        assert len(objects) == len(image.masks)
        for (category, corners), mask in zip(objects, image.masks, strict=True):
            drawn = polygons_to_mask([corners * (width, height)], height, width)
            truth = decode_rle(mask["segmentation"])
            iou = (drawn & truth).sum() / (drawn | truth).sum()
            assert category == mask["category_id"] - 1
            assert iou >= 0.98


def test_opencv_fills_the_polygon_as_training_does(tmp_path: Path) -> None:
    """OpenCV's fillPoly, with which trainers draw masks, keeps the hole of a large ring."""
    rows, columns = np.mgrid[:400, :500]
    away = np.hypot(rows - 200, columns - 250)
    truth = (away < 150) & (away > 70)
    truth[10:60, 10:90] = True
    record = mask_record(
        {"segmentation": truth, "bbox": [0, 0, 1, 1], "predicted_iou": 1, "stability_score": 1},
        truth.shape,
    )
    path = tmp_path / "ring.png"
    cv2.imwrite(str(path), truth.astype(np.uint8) * 255)
    image = DatasetImage(
        InputFile(path, "ring.png", "ring"), truth.shape, [{**record, "category_id": 1}]
    )
    (data,) = write_dataset(Dataset([image]), tmp_path / "out", "yolo")
    ((_, corners),) = read_labels(data)["ring"]
    canvas = np.zeros(truth.shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(corners * (500, 400)).astype(np.int32)], 1)
    drawn = canvas.astype(bool)

    assert not drawn[200, 250]
    assert drawn[30, 50]
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.96


def test_rings_are_joined_at_their_nearest_corners() -> None:
    """The way to the second ring and back encloses nothing."""
    first = [[0, 0], [4, 0], [4, 4], [0, 4]]
    second = [[9, 4], [6, 4], [6, 8], [9, 8]]
    joined = join_rings([first, second])

    assert joined.tolist() == [
        *[[0, 0], [4, 0], [4, 4]],
        *[[6, 4], [6, 8], [9, 8], [9, 4], [6, 4]],
        *[[4, 4], [0, 4]],
    ]


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
    source = InputFile(folder / "many.png", "many.png", "many")
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


def test_every_mask_is_a_png_of_its_own(dataset: Dataset, tmp_path: Path) -> None:
    """masks.csv leads to a PNG of 0 and 255 for each mask, with its box and scores."""
    out = tmp_path / "out"
    write_dataset(dataset, out, "png")
    with (out / "masks.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    masks = [(image, mask) for image in dataset.images for mask in image.masks]

    assert len(rows) == len(masks) == 9
    for row, (image, mask) in zip(rows, masks, strict=True):
        stored = read_mask(out / row["file"])
        np.testing.assert_array_equal(stored == 255, decode_rle(mask["segmentation"]))
        assert set(np.unique(stored)) <= {0, 255}
        assert row["image"] == image.source.file_name
        assert [int(row[edge]) for edge in ("x0", "y0", "x1", "y1")] == mask["box_xyxy"]
        assert float(row["predicted_iou"]) == mask["predicted_iou"]
        assert row["category"] == dataset.categories[mask["category_id"] - 1]


def test_the_label_map_shows_the_smaller_mask(dataset: Dataset, tmp_path: Path) -> None:
    """Where masks overlap the label map has the number of the smaller one."""
    write_dataset(dataset, tmp_path / "out", "png")
    labels = read_mask(tmp_path / "out" / "instances" / "a.png")
    image = next(iter(dataset.images))
    inside = np.stack([decode_rle(mask["segmentation"]) for mask in image.masks])
    areas = np.where(inside, inside.sum((1, 2))[:, None, None], np.inf)

    assert (labels == 4).any()
    np.testing.assert_array_equal(labels, areas.argmin(0) + 1)


def test_an_image_without_masks_has_an_empty_map(dataset: Dataset, tmp_path: Path) -> None:
    """No masks is a label map of zeros, and no mask file."""
    write_dataset(dataset, tmp_path / "out", "png")

    assert not read_mask(tmp_path / "out" / "instances" / "empty.png").any()
    assert list((tmp_path / "out" / "masks").glob("empty.*")) == []
