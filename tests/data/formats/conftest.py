"""A small dataset with every kind of mask that has ever broken an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nexus.data.formats.dataset import Dataset, DatasetImage, InputFile, mask_record, with_category

CATEGORIES = ("cell", 'odd & <"name">')


def make_masks(height: int, width: int) -> list[np.ndarray]:
    """Return a ring, two parts, a corner, everything, one pixel, a checkerboard, noise."""
    masks = [np.zeros((height, width), bool) for _ in range(7)]
    masks[0][4:18, 5:21] = True
    masks[0][8:13, 9:15] = False
    masks[1][2:7, 2:9] = True
    masks[1][height - 8 : height - 1, width - 9 : width] = True
    masks[2][: height // 3, : width // 2] = True
    masks[3][:] = True
    masks[4][height - 1, width - 1] = True
    masks[5][10:16:2, 10:16:2] = masks[5][11:16:2, 11:16:2] = True
    masks[6] = np.random.default_rng(3).random((height, width)) > 0.5
    return masks


def make_image(
    folder: Path, file_name: str, name: str, masks: list[np.ndarray], size_hw: tuple[int, int]
) -> DatasetImage:
    """Write a picture and give it masks; the second half of them are of the second category."""
    path = folder / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_hw[::-1], "gray").save(path)
    records: list[dict[str, Any]] = []
    for number, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x0, y0 = int(columns[0]), int(rows[0])
        record = mask_record(
            {
                "segmentation": mask,
                "bbox": [x0, y0, int(columns[-1]) - x0, int(rows[-1]) - y0],
                "predicted_iou": 0.99 - number / 64,
                "stability_score": 0.96,
                "point_coords": [[x0 + 0.5, y0 + 0.5]],
                "crop_box": [0, 0, size_hw[1], size_hw[0]],
                "category": CATEGORIES[2 * number // len(masks)],
            },
            size_hw,
        )
        records.append(with_category(record, CATEGORIES))
    return DatasetImage(InputFile(path, file_name, name), size_hw, records)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Return three images: seven masks, none, and two in a folder with an awkward name."""
    folder = tmp_path / "in"
    images = [
        make_image(folder, "a.png", "a", make_masks(30, 40), (30, 40)),
        make_image(folder, "empty.png", "empty", [], (8, 9)),
        make_image(folder, "two words & ü/b.PNG", "b", make_masks(21, 33)[:2], (21, 33)),
    ]
    return Dataset(images, CATEGORIES, "made by a test")
