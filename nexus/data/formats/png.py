"""Plain PNGs: for each image a label map of all its masks, and each mask on its own.

`instances/NAME.png` holds 0 for background and N for the N-th mask, 8 bits if there are at most 255
masks, else 16; where masks overlap the smaller one is seen. `masks/NAME.N.png` is the N-th mask,
whole, as 0 and 255. `masks.csv` says for each mask what its file is, its box (x0, y0, x1, y1 in
pixels, right and bottom edge exclusive), area, scores and category.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nexus.core.files import writing
from nexus.data.formats.dataset import Dataset, DatasetImage, object_labels
from nexus.data.images.loading import write_mask
from nexus.ops.rle import decode_rle

_COLUMNS = ("image", "number", "file", "x0", "y0", "x1", "y1", "area")
_SCORES = ("predicted_iou", "stability_score")


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write instances/, masks/ and masks.csv."""
    for image in dataset.images:
        target = folder / "instances" / f"{image.source.name}.png"
        yield write_mask(target, object_labels(image.masks, image.size_hw))
        for number, mask in enumerate(image.masks, 1):
            target = folder / "masks" / _file(image, number)
            yield write_mask(target, decode_rle(mask["segmentation"]))
    target = folder / "masks.csv"
    with writing(target) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow([*_COLUMNS, *_SCORES, "category"])
        rows.writerows(_rows(dataset))
    yield target


def _file(image: DatasetImage, number: int) -> str:
    return f"{image.source.name}.{number}.png"


def _rows(dataset: Dataset) -> Iterator[list[Any]]:
    for image in dataset.images:
        for number, mask in enumerate(image.masks, 1):
            yield [
                image.source.file_name,
                number,
                f"masks/{_file(image, number)}",
                *mask["box_xyxy"],
                mask["area"],
                *(mask[score] for score in _SCORES),
                dataset.categories[mask["category_id"] - 1],
            ]
