from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nexus.core.errors import InputError, NexusWarning
from nexus.eval.detections import (
    Detection,
    detection_records,
    read_detections,
    score_detections,
)
from nexus.eval.efficiency import Stopwatch
from nexus.eval.protocols import Scene
from nexus.eval.run import evaluate
from nexus.eval.settings import EvaluationSettings
from nexus.ops.rle import decode_rle, encode_rle
from tests.eval.scenes import BOXES, Draughtsman, images, labels, picture

BOX = {"image_id": 5, "category_id": 1, "bbox": [4, 6, 20, 20], "score": 0.9}


def annotations() -> dict[str, Any]:
    """Return the drawn image as a COCO document, beside one without objects."""
    return {
        "images": [
            {"id": 5, "file_name": "0.png", "height": 48, "width": 64},
            {"id": 6, "file_name": "sub/1.png", "height": 48, "width": 64},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {
                "id": k,
                "image_id": 5,
                "category_id": k,
                "segmentation": encode_rle(labels() == k),
                "area": int((labels() == k).sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
            for k, (x0, y0, x1, y1) in BOXES.items()
        ],
    }


def written(folder: Path, document: Any, results: Any) -> tuple[Path, Path]:
    """Write both files; return the results' path, then that of the annotations."""
    paths = folder / "results.json", folder / "annotations.json"
    for path, value in zip(paths, (results, document), strict=True):
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return paths


def second() -> dict[str, Any]:
    """Return a box on the second object."""
    x0, y0, x1, y1 = BOXES[2]
    return {**BOX, "category_id": 2, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.8}


def test_boxes_are_found_by_the_images_name(tmp_path: Path) -> None:
    """Boxes are XYXY, in the order of the file, and an image is found with or without folders."""
    found = read_detections(*written(tmp_path, annotations(), [second(), BOX]))

    assert found.of("0.png")[1][1] == Detection((4.0, 6.0, 24.0, 26.0), 1, 0.9)
    assert [each.category_id for each in found.of("val2017/0.png")[1]] == [2, 1]
    assert found.of("sub/1.png") == (6, ())


def test_lvis_images_are_found_by_their_address(tmp_path: Path) -> None:
    """LVIS names no file; the end of `coco_url` is the name."""
    document = annotations()
    document["images"][0] = {"id": 5, "coco_url": "http://images.org/val2017/0007.jpg"}
    found = read_detections(*written(tmp_path, document, [BOX]))

    assert len(found.of("val2017/0007.jpg")[1]) == 1


@pytest.mark.parametrize(
    ("document", "results", "message"),
    [
        ("{", [], "expected a COCO annotation file, got"),
        ([], [], "expected a COCO annotation file at"),
        ({}, [], "expected images with file_name and id"),
        (annotations(), {}, "expected a COCO results file at"),
        (annotations(), [{"image_id": 5}], "expected image_id, category_id, bbox and score in"),
        (annotations(), [BOX, {**BOX, "bbox": [1, 2]}], "in entry 1 of"),
        (annotations(), [{**BOX, "score": float("nan")}], "expected finite numbers in entry 0"),
        (annotations(), [{**BOX, "image_id": 7}], "got image_id 7 in entry 0"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, document: Any, results: Any, message: str) -> None:
    """What is wrong is said with the file, and the entry where it is one."""
    with pytest.raises(InputError, match=re.escape(message)):
        read_detections(*written(tmp_path, document, results))


def test_an_image_the_annotations_lack_is_named(tmp_path: Path) -> None:
    """Detections of another split end with the name of the image."""
    found = read_detections(*written(tmp_path, annotations(), [BOX]))

    with pytest.raises(InputError, match=r"expected an image of .*, got '9.png'"):
        found.of("9.png")


def test_each_box_becomes_a_mask() -> None:
    """A mask has the box's category and score; a box without area has an empty one."""
    model = Draughtsman()
    scene = Scene(
        "set/0.png",
        model,
        model.encode_image(picture()),
        [],
        None,
        (1.0, 1.0),
        EvaluationSettings(("detections",)),
        Stopwatch(torch.device("cpu")),
    )
    flat, outside = (3.0, 3.0, 3.0, 9.0), (70.0, 0.0, 80.0, 9.0)
    boxes = [Detection(box, 2, 0.5) for box in (flat, BOXES[1], outside)]
    records = detection_records(scene, 5, boxes)
    masks = [decode_rle(record["segmentation"]) for record in records]

    assert [mask.sum() for mask in masks] == [0, 400, 0]
    assert (masks[1] == (labels() == 1)).all()
    assert {(r["image_id"], r["category_id"], r["score"]) for r in records} == {(5, 2, 0.5)}
    assert detection_records(scene, 5, []) == []


def test_perfect_boxes_have_an_ap_of_1(tmp_path: Path) -> None:
    """A run scores its masks; objects nobody found lower it, as pycocotools has it."""
    paths = written(tmp_path, annotations(), [BOX, second()])
    both = read_detections(*paths)
    one = read_detections(*written(tmp_path, annotations(), [BOX]))
    results = [
        evaluate(Draughtsman(), images(1), "detections", detections=found) for found in (both, one)
    ]
    figures = [result.summary["results"]["detections"] for result in results]

    assert figures[0]["ap"] == pytest.approx(1.0)
    assert figures[1]["ap"] == pytest.approx(0.5)
    assert figures[0]["ap_large"] is None
    assert len(results[0].detections) == 2
    assert results[0].rows == []


def test_images_that_were_not_evaluated_do_not_count(tmp_path: Path) -> None:
    """Only annotations of the images given are scored against."""
    document = annotations()
    missed = copy.deepcopy(document["annotations"][0])
    document["annotations"].append({**missed, "id": 9, "image_id": 6})
    found = read_detections(*written(tmp_path, document, [BOX, second()]))
    result = evaluate(Draughtsman(), images(1), "detections", detections=found)

    assert result.summary["results"]["detections"]["ap"] == pytest.approx(1.0)
    assert score_detections(found, [5, 6], result.detections)["ar100"] == pytest.approx(0.75)


def test_lvis_has_no_ap_and_a_warning(tmp_path: Path) -> None:
    """Federated annotations are not scored by COCO's rules."""
    document = annotations()
    document["images"][0]["neg_category_ids"] = []
    found = read_detections(*written(tmp_path, document, [BOX]))

    with pytest.warns(NexusWarning, match="the annotations are those of LVIS"):
        figures = score_detections(found, [5], [])

    assert figures == {}
