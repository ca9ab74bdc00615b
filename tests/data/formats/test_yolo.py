from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import yaml

from nexus.data.formats.dataset import Dataset, DatasetImage, InputImage, mask_record
from nexus.data.formats.writers import write_dataset
from nexus.data.formats.yolo import join_rings
from nexus.ops.polygons import polygons_to_mask
from nexus.ops.rle import decode_rle


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
        InputImage(path, "ring.png", "ring"), truth.shape, [{**record, "category_id": 1}]
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
