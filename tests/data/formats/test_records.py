from __future__ import annotations

import json
from pathlib import Path

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.records import flat_records
from nexus.data.formats.writers import write_dataset

KEYS = {"image_id", "mask_id", "bbox", "area", "segmentation", "predicted_iou", "stability_score"}


def test_the_file_is_the_flat_list(dataset: Dataset, tmp_path: Path) -> None:
    """annotations.json holds one record a mask, numbered from 0 in each image."""
    (path,) = write_dataset(dataset, tmp_path / "out", "records")
    found = json.loads(path.read_text("utf-8"))

    assert found == list(flat_records(dataset))
    assert [(r["image_id"], r["mask_id"]) for r in found] == [
        *(("a", number) for number in range(7)),
        ("b", 0),
        ("b", 1),
    ]
    assert all(set(record) == KEYS | {"category"} for record in found)


def test_one_category_goes_without_saying(dataset: Dataset) -> None:
    """With a single category the keys are those of the specification, and no more."""
    images = [image for image in dataset.images if image.source.name == "b"]

    assert all(set(record) == KEYS for record in flat_records(Dataset(images)))
