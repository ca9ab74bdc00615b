from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.writers import write_dataset
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
