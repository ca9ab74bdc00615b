from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from nexus.core.errors import InputError
from nexus.core.types.masks import Masks
from nexus.data.formats.coco import CocoImage, write_coco
from nexus.data.formats.dataset import Dataset
from nexus.data.formats.writers import write_dataset
from nexus.ops.rle import decode_rle

MASKS = np.zeros((2, 6, 8), bool)
MASKS[0, 1:4, 2:7] = True
MASKS[1, 5, 7] = True
RESULT = Masks(MASKS, np.array([0.5, 0.25], np.float32), np.zeros((2, 4, 4), np.float32))
WHOLE = RESULT.to_coco()[0]


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


# pycocotools' own decoding hands NumPy an object without the newer `copy` keyword.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_file_is_read_by_pycocotools(tmp_path: Path) -> None:
    """Names, sizes, categories, boxes and masks come back, with ids that are unique."""
    images = [
        CocoImage("a/x.png", (6, 8), RESULT.to_coco()),
        CocoImage("b/x.png", (6, 8), RESULT.to_coco(image_id=9, category_id=2)),
        CocoImage("empty.png", (3, 4)),
    ]
    path = write_coco(tmp_path / "new" / "annotations.json", images, categories=["cell", "vessel"])
    coco = COCO(str(path))

    assert [coco.imgs[i]["file_name"] for i in (1, 2, 3)] == ["a/x.png", "b/x.png", "empty.png"]
    assert (coco.imgs[3]["height"], coco.imgs[3]["width"]) == (3, 4)
    assert coco.getAnnIds(imgIds=[1]) == [1, 2]
    assert coco.getAnnIds(imgIds=[2]) == [3, 4]
    assert coco.getAnnIds(imgIds=[3]) == []
    assert coco.getCatIds(catNms=["vessel"]) == [2]
    assert [coco.anns[i]["category_id"] for i in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert coco.anns[1]["bbox"] == [2, 1, 5, 3]
    assert coco.anns[1]["iscrowd"] == 0
    assert coco.anns[1]["score"] == 0.5
    for index in (1, 2):
        np.testing.assert_array_equal(coco.annToMask(coco.anns[index]), MASKS[index - 1])


def test_results_can_be_scored_against_the_file(tmp_path: Path) -> None:
    """The annotations of a file load as detections for it, as pycocotools scores them."""
    path = write_coco(tmp_path / "a.json", [CocoImage("x.png", (6, 8), RESULT.to_coco())])
    coco = COCO(str(path))
    detections = coco.loadRes(json.loads(path.read_text())["annotations"])

    assert len(detections.anns) == 2


def test_no_images_make_a_valid_file(tmp_path: Path) -> None:
    """An empty run writes a file with every section."""
    document = json.loads(write_coco(tmp_path / "a.json", [], description="none").read_text())

    assert document["images"] == document["annotations"] == []
    assert document["categories"] == [{"id": 1, "name": "object", "supercategory": ""}]
    assert document["info"]["description"] == "none"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"bbox": [0, 0, 1, 1]}, r"'x.png' to have segmentation, area, bbox, got one without segm"),
        ({**WHOLE, "category_id": 2}, r"category_id from 1 to 1, got 2 .*\nhint: pass categories"),
        ({**WHOLE, "score": np.float32(1)}, r"plain finite JSON values.*float32"),
        ({**WHOLE, "score": float("nan")}, r"plain finite JSON values"),
    ],
)
def test_annotations_that_make_no_valid_file_are_refused(
    annotation: dict[str, object], message: str, tmp_path: Path
) -> None:
    """A missing key, an unknown category and values JSON has not are errors without a file."""
    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(InputError, match=message):
        write_coco(path, [CocoImage("x.png", (6, 8), [annotation])])

    assert path.read_text() == "before"


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    """A file name must tell which image is meant."""
    with pytest.raises(InputError, match=r"different names, got 'x.png' more than once"):
        write_coco(tmp_path / "a.json", [CocoImage("x.png", (1, 1)), CocoImage("x.png", (2, 2))])
