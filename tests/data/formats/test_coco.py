from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from nexus.data.formats.dataset import Dataset
from nexus.data.formats.writers import write_dataset
from nexus.ops.rle import decode_rle


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_every_mask_back(dataset: Dataset, tmp_path: Path) -> None:
    """The reference reader opens the file and decodes each mask, its box, area and category."""
    (path,) = write_dataset(dataset, tmp_path / "out", "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    wanted = [(i, mask) for i, image in enumerate(dataset.images, 1) for mask in image.masks]
    found = coco.loadAnns(coco.getAnnIds())

    assert coco.getImgIds() == [1, 2, 3]
    assert [coco.imgs[i]["file_name"] for i in (1, 2, 3)] == [
        image.source.file_name for image in dataset.images
    ]
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == dict(
        enumerate(dataset.categories, 1)
    )
    assert [a["id"] for a in found] == list(range(1, 10))
    for annotation, (image_id, mask) in zip(found, wanted, strict=True):
        rle = coco.annToRLE(annotation)
        np.testing.assert_array_equal(
            coco.annToMask(annotation).astype(bool), decode_rle(mask["segmentation"])
        )
        assert annotation["image_id"] == image_id
        assert annotation["category_id"] == mask["category_id"]
        assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()
        assert annotation["area"] == coco_mask.area(rle)
        assert annotation["score"] == mask["predicted_iou"]


def test_no_images_is_a_file_too(tmp_path: Path) -> None:
    """A dataset without images is a COCO file without images."""
    (path,) = write_dataset(Dataset([]), tmp_path, "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))

    assert coco.getImgIds() == coco.getAnnIds() == []
