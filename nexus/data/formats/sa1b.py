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

from nexus.core.files import write_text
from nexus.core.json_text import dump_json
from nexus.data.formats.dataset import Dataset, DatasetImage

_KEYS = ("segmentation", "bbox", "area", "predicted_iou", "stability_score")


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write NAME.json for each image."""
    numbers = count(1)
    for image_id, image in enumerate(dataset.images, 1):
        target = folder / f"{image.source.name}.json"
        yield write_text(target, dump_json(_document(image, image_id, numbers)))


def _document(image: DatasetImage, image_id: int, numbers: Iterator[int]) -> dict[str, Any]:
    height, width = image.size_hw
    return {
        "image": {
            "image_id": image_id,
            "width": width,
            "height": height,
            "file_name": image.source.picture_name,
        },
        "annotations": [
            {
                "id": next(numbers),
                **{key: mask[key] for key in _KEYS},
                "crop_box": mask.get("crop_box", [0, 0, width, height]),
                "point_coords": mask.get("point_coords", []),
            }
            for mask in image.masks
        ],
    }
