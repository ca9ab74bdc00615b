"""COCO instances: one JSON file of images, annotations and categories.

Follows https://cocodataset.org/#format-data: ids count from 1, `bbox` is x, y, width, height of the
mask's tight box as pycocotools' `toBbox` gives it, `segmentation` is compressed RLE, `iscrowd` 0.
`predicted_iou` and `stability_score` are further keys, and `score` is the former.

Streamed image by image, where `coco_document.write_coco` holds one run's annotations in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from nexus.core.files import replacing
from nexus.data.formats.dataset import Dataset
from nexus.data.formats.json_stream import dump_line, write_array


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `instances.json`."""
    target = folder / "instances.json"
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(f'{{"info": {dump_line({"description": dataset.description})},\n')
        stream.write('"licenses": [],\n"categories": ')
        write_array(stream, _categories(dataset))
        stream.write(',\n"images": ')
        write_array(stream, _images(dataset))
        stream.write(',\n"annotations": ')
        write_array(stream, _annotations(dataset))
        stream.write("}\n")
    yield target


def _categories(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for number, name in enumerate(dataset.categories, 1):
        yield {"id": number, "name": name, "supercategory": ""}


def _images(dataset: Dataset) -> Iterator[dict[str, Any]]:
    for number, image in enumerate(dataset.images, 1):
        height, width = image.size_hw
        yield {
            "id": number,
            "file_name": image.source.file_name,
            "height": height,
            "width": width,
        }


def _annotations(dataset: Dataset) -> Iterator[dict[str, Any]]:
    numbers = count(1)
    for image_id, image in enumerate(dataset.images, 1):
        for mask in image.masks:
            x0, y0, x1, y1 = mask["box_xyxy"]
            yield {
                "id": next(numbers),
                "image_id": image_id,
                "category_id": mask["category_id"],
                "segmentation": mask["segmentation"],
                "area": mask["area"],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "score": mask["predicted_iou"],
                "predicted_iou": mask["predicted_iou"],
                "stability_score": mask["stability_score"],
            }
