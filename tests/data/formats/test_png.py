from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.writers import write_dataset
from nexus.data.images.loading import read_mask
from nexus.ops.rle import decode_rle


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
