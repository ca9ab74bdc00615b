"""A flat JSON list: one record for each mask, as programs like to read it.

Keys: `image_id` (the image's name), `mask_id` (from 0 in each image), `bbox`, `area`,
`segmentation` (compressed COCO RLE), `predicted_iou`, `stability_score`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nexus.core.files import writing
from nexus.core.json_text import write_array
from nexus.data.formats.dataset import Dataset

_KEYS = ("bbox", "area", "segmentation", "predicted_iou", "stability_score")


def flat_records(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yield the record of each mask of each image, in order."""
    for image in dataset.images:
        for number, mask in enumerate(image.masks):
            record = {key: mask[key] for key in _KEYS}
            if len(dataset.categories) > 1:
                record["category"] = dataset.categories[mask["category_id"] - 1]
            yield {"image_id": image.source.name, "mask_id": number, **record}


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `annotations.json`."""
    target = folder / "annotations.json"
    with writing(target) as stream:
        write_array(stream, flat_records(dataset))
    yield target
