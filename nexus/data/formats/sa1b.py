"""SA-1B's layout: beside each image a JSON file of the same name with its masks.

Follows the "Dataset format" of https://github.com/facebookresearch/segment-anything#dataset: the
file holds `image` (image_id, width, height, file_name) and `annotations` (id, segmentation as
compressed RLE, bbox as x, y, width, height, area, predicted_iou, stability_score, crop_box,
point_coords). There are no categories in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from nexus.core.files import replacing
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.data.formats.json_stream import dump_line
from nexus.data.formats.writers import picture_name


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write NAME.json for each image."""
    numbers = count(1)
    for image_id, image in enumerate(dataset.images, 1):
        target = folder / f"{image.source.name}.json"
        with replacing(target) as temporary:
            document = dump_line(_document(image, image_id, numbers))
            temporary.write_text(document, encoding="utf-8")
        yield target


def _document(image: DatasetImage, image_id: int, numbers: Iterator[int]) -> dict[str, Any]:
    height, width = image.size_hw
    return {
        "image": {
            "image_id": image_id,
            "width": width,
            "height": height,
            "file_name": picture_name(image.source),
        },
        "annotations": [
            {
                "id": next(numbers),
                "segmentation": mask["segmentation"],
                "bbox": mask["bbox"],
                "area": mask["area"],
                "predicted_iou": mask["predicted_iou"],
                "stability_score": mask["stability_score"],
                "crop_box": mask.get("crop_box", [0, 0, width, height]),
                "point_coords": mask.get("point_coords", []),
            }
            for mask in image.masks
        ],
    }
