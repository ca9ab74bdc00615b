from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from nexus.core.errors import InputError
from nexus.data.truth import open_images
from nexus.ops.rle import encode_rle


@pytest.fixture
def root(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out SA-1B: a picture and its JSON with the documented keys."""
    masks = [write.labels((1, 2, 3, 9, 8)) > 0, write.labels((1, 0, 0, 4, 12)) > 0]
    annotations = [
        {
            **{"id": 500 - number, "segmentation": encode_rle(mask), "bbox": [2, 3, 6, 4]},
            **{"area": int(mask.sum()), "predicted_iou": 0.9, "stability_score": 0.97},
            **{"crop_box": [0, 0, 16, 12], "point_coords": [[3.5, 4.5]]},
        }
        for number, mask in enumerate(masks)
    ]
    image = {"image_id": 1, "width": 16, "height": 12, "file_name": "sa_1.jpg"}
    write.picture(tmp_path / "sa_000000" / "sa_1.jpg")
    write.document(
        tmp_path / "sa_000000" / "sa_1.json", {"image": image, "annotations": annotations}
    )
    return tmp_path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_what_pycocotools_decodes(root: Path) -> None:
    """Each annotation is an object with its id; boxes end after the last pixel."""
    (image,) = pickle.loads(pickle.dumps(open_images("sa1b", root)))
    truths = image.load_truths()
    (path,) = root.rglob("*.json")
    given = {each["id"]: each for each in json.loads(path.read_text("utf-8"))["annotations"]}

    assert image.name == "sa_000000/sa_1.jpg"
    assert image.load_image().shape == (12, 16, 3)
    assert [t.object_id for t in truths] == [499, 500]
    assert truths[1].box_xyxy == (2, 3, 9, 8)
    for truth in truths:
        expected = coco_mask.decode(given[truth.object_id]["segmentation"])
        np.testing.assert_array_equal(truth.mask, expected.astype(bool))


def test_one_folder_is_read_alone(root: Path) -> None:
    """A split is one of the folders; names stay relative to the root."""
    assert [i.name for i in open_images("sa1b", root, split="sa_000000")] == ["sa_000000/sa_1.jpg"]


def test_a_json_file_without_image_is_named(root: Path) -> None:
    """Masks need their image beside them."""
    (root / "sa_000000" / "sa_1.jpg").unlink()

    with pytest.raises(InputError, match=r"image beside '.*sa_1.json', got none named 'sa_1'"):
        open_images("sa1b", root)


def test_masks_of_another_image_are_refused(root: Path, write: SimpleNamespace) -> None:
    """RLE of another size than the image is an error when it is read."""
    write.picture(root / "sa_000000" / "sa_1.jpg", (16, 12))

    with pytest.raises(InputError, match="16 x 12 pixels for .*, got 12 x 16 in .*sa_1.json"):
        open_images("sa1b", root)[0].load_truths()


def test_a_truncated_file_is_named(root: Path) -> None:
    """A JSON file cut short is an error when its masks are read."""
    path = root / "sa_000000" / "sa_1.json"
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")

    with pytest.raises(InputError, match=r"whole JSON document, got '.*sa_1.json'"):
        open_images("sa1b", root)[0].load_truths()
