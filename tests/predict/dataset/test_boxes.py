"""Datasets of the masks that boxes have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError, NexusWarning, PromptError
from nexus.core.types import Prompt
from nexus.data.formats.dataset import find_images
from nexus.data.formats.writers import FORMATS
from nexus.data.images.loading import load_image
from nexus.data.prompt_files import ImagePrompt, PromptsOfImage
from nexus.models.cv import SAMAutomaticMaskGenerator
from nexus.models.policy import LITE_MEDSAM_POLICY, SAM_POLICY
from nexus.ops.rle import decode_rle
from nexus.predict.dataset.boxes import (
    BoxesLike,
    boxes_of_images,
    categories_with,
    check_prompted,
    records_of_boxes,
)
from nexus.predict.dataset.run import DatasetOptions, generate_dataset
from tests.models.tiny import tiny_sam
from tests.predict.painter import Painter, draw_images, tree

# Two of them alike, two nearly so: none may cost another its mask.
BOXES = {
    "0000.png": [[2, 3, 20, 30], [2, 3, 20, 30], [2, 3, 21, 30]],
    "0001.png": [[8, 8, 40, 30]],
}


def table(path: Path, categories: tuple[str, ...] = ("cell", "", "cell", "spot")) -> Path:
    """Write BOXES as a CSV table."""
    rows = [(name, *box) for name, boxes in BOXES.items() for box in boxes]
    lines = [",".join(map(str, (*row, c))) for row, c in zip(rows, categories, strict=True)]
    path.write_text("\n".join(["image,x0,y0,x1,y1,category", *lines]) + "\n")
    return path


def test_each_box_has_the_mask_that_predict_gives(tmp_path: Path) -> None:
    """In the order of the file, with its category, whatever its score and its neighbours."""
    draw_images(tmp_path / "in", 2)
    model, boxes = tiny_sam(), table(tmp_path / "boxes.csv")
    found = generate_dataset(tmp_path / "in", tmp_path / "out", model, boxes=boxes)
    image = load_image(tmp_path / "in" / "0000.png")

    assert [record["image_id"] for record in found] == ["0000"] * 3 + ["0001"]
    assert [record["category"] for record in found] == ["cell", "object", "cell", "spot"]
    for record, box in zip(found, BOXES["0000.png"], strict=False):
        assert (
            decode_rle(record["segmentation"]) == model.predict(image, Prompt(box=box)).best
        ).all()


@pytest.mark.parametrize("format", FORMATS)
def test_workers_and_resumed_runs_give_the_same_bytes(format: str, tmp_path: Path) -> None:
    """Two processes, and a run that is started again, come to what one comes to."""
    draw_images(tmp_path / "in", 2)
    options: dict[str, Any] = {"options": DatasetOptions(format=format, quality=False)}
    options["boxes"] = table(tmp_path / "boxes.csv")
    one = generate_dataset(tmp_path / "in", tmp_path / "1", tiny_sam(), **options)
    first = tree(tmp_path / "1")
    again = generate_dataset(tmp_path / "in", tmp_path / "1", tiny_sam(), **options)

    assert one == again
    assert tree(tmp_path / "1") == first
    if format == "coco":  # what is generated does not depend on the format
        two = generate_dataset(tmp_path / "in", tmp_path / "2", tiny_sam(), **options, workers=2)
        assert two == one
        assert tree(tmp_path / "2") == first


def test_other_boxes_are_other_settings(tmp_path: Path) -> None:
    """A folder begun with other boxes is refused; the same in another file are the same."""
    draw_images(tmp_path / "in", 2)
    out, boxes = tmp_path / "out", table(tmp_path / "boxes.csv", ("", "", "", ""))
    generate_dataset(tmp_path / "in", out, tiny_sam(), boxes=boxes)
    same = generate_dataset(tmp_path / "in", out, tiny_sam(), boxes=BOXES)
    other: BoxesLike = {**BOXES, "0001.png": [[8, 8, 41, 30]]}

    assert len(same) == 4
    for changed in (other, None):
        with pytest.raises(InputError, match="boxes .* \\(was "):
            generate_dataset(tmp_path / "in", out, tiny_sam(), boxes=changed)


def test_the_settings_of_a_generator_hold(tmp_path: Path) -> None:
    """A generator's thresholds count for boxes too, and what they removed is in the report."""
    draw_images(tmp_path / "in", 2)
    settings = {"pred_iou_thresh": -9.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.5}
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **settings)
    found = generate_dataset(tmp_path / "in", tmp_path / "out", generator, boxes=BOXES)
    report = json.loads((tmp_path / "out" / "report.json").read_text())

    assert [record["image_id"] for record in found] == ["0000", "0001"]
    assert report["left_out"] == {"box_nms_thresh": 2, "candidates": 4}


def test_images_without_boxes_are_left_out(tmp_path: Path) -> None:
    """They and boxes without an image are warned of; an image of a COCO file may have none."""
    draw_images(tmp_path / "in", 3)
    sizes = {"width": 48, "height": 36}
    coco = {
        "images": [
            {"id": 1, "file_name": "0000.png", **sizes},
            {"id": 2, "file_name": "0001.png", **sizes},
            {"id": 3, "file_name": "gone.png", **sizes},
        ],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [2, 3, 18, 27]}],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    with pytest.warns(NexusWarning) as caught:
        generate_dataset(
            *(tmp_path / "in", tmp_path / "out", tiny_sam()),
            boxes=tmp_path / "boxes.json",
            options=DatasetOptions("coco"),
        )
    written = json.loads((tmp_path / "out" / "instances.json").read_text())
    report = json.loads((tmp_path / "out" / "report.json").read_text())

    assert [str(each.message) for each in caught] == [
        "1 image without boxes left out: '0002.png'",
        "1 image of the boxes not among those given: 'gone.png'",
    ]
    assert [image["file_name"] for image in written["images"]] == ["0000.png", "0001.png"]
    assert [each["name"] for each in written["categories"]] == ["cell"]
    assert len(written["annotations"]) == 1
    assert report["images_without_boxes"] == ["0002.png"]
    assert report["boxes_without_image"] == ["gone.png"]


def test_boxes_that_do_not_fit_are_of_one_image(tmp_path: Path) -> None:
    """A box beside its image, or of an image of another size, fails that image alone."""
    draw_images(tmp_path / "in", 3)
    rows = ["0000.png,90,90,99,99,,", "0001.png,2,3,20,30,96,72", "0002.png,2,3,20,30,48,36"]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(["image,x0,y0,x1,y1,width,height", *rows]) + "\n")
    with pytest.warns(NexusWarning, match="2 of 3 images could not be used"):
        found = generate_dataset(tmp_path / "in", tmp_path / "out", tiny_sam(), boxes=boxes)
    skipped = json.loads((tmp_path / "out" / "report.json").read_text())["skipped"]

    assert [record["image_id"] for record in found] == ["0002"]
    assert "a box that overlaps the image" in skipped[0]["message"]
    assert "expected an image of 96 x 72 pixels" in skipped[1]["message"]


def test_what_cannot_be_boxes(tmp_path: Path) -> None:
    """A generator that takes none, another shape, points, and no box at all are refused."""
    draw_images(tmp_path / "in", 1)
    images = find_images(tmp_path / "in")
    (tmp_path / "points.csv").write_text("image,x,y\n0000.png,3,4\n")

    with pytest.raises(InputError, match="whose generate takes boxes_xyxy, got Painter"):
        generate_dataset(tmp_path / "in", tmp_path / "out", Painter(), boxes=BOXES)
    with pytest.raises(PromptError, match=r"boxes of shape \(K, 4\) for '0000.png', got shape"):
        boxes_of_images({"0000.png": [[1, 2, 3]]}, images)
    with pytest.raises(PromptError, match="expected boxes alone for '0000.png'"):
        boxes_of_images(tmp_path / "points.csv", images)
    with pytest.raises(InputError, match="boxes of at least one image, got none"):
        boxes_of_images({}, images)
    assert not (tmp_path / "out").exists()


def test_records_have_to_name_their_boxes() -> None:
    """A generator whose records do not say which box they are of is refused."""
    prompts = PromptsOfImage("a.png", (ImagePrompt(1, Prompt(box=[1, 2, 3, 4])),))
    image = np.zeros((8, 8, 3), np.uint8)

    for record in ({}, {"box_prompt": [1, 2, 3, 5]}):
        with pytest.raises(InputError, match=r"name a box of 'a\.png' as box_prompt"):
            records_of_boxes(lambda *_, record=record, **__: [record], image, prompts)
    assert records_of_boxes(lambda *_, **__: [], image, PromptsOfImage("b.png", ())) == []


@pytest.mark.parametrize(
    ("named", "wanted", "categories"),
    [
        (("cell", "", "cell", "spot"), ("object",), ("object", "cell", "spot")),
        (("cell", "", "cell", "spot"), ("thing",), ("thing", "cell", "spot")),
        (("cell", "", "cell", "spot"), ("spot",), ("spot", "cell")),
        (("cell", "cell", "cell", "spot"), ("object",), ("cell", "spot")),
        (("cell", "cell", "cell", "spot"), ("x", "spot", "cell"), ("x", "spot", "cell")),
        (("", "", "", ""), ("thing",), ("thing",)),
    ],
)
def test_categories_of_boxes(
    named: tuple[str, ...], wanted: tuple[str, ...], categories: tuple[str, ...], tmp_path: Path
) -> None:
    """Boxes keep the category they have; those without get the one name that is wanted."""
    draw_images(tmp_path / "in", 2)
    boxes = boxes_of_images(table(tmp_path / "b.csv", named), find_images(tmp_path / "in"))

    assert categories_with(boxes, wanted) == categories


def test_a_category_that_is_not_wanted(tmp_path: Path) -> None:
    """One that is missing among several, or one name where all have another, is an error."""
    draw_images(tmp_path / "in", 2)
    boxes = boxes_of_images(table(tmp_path / "b.csv", ("a",) * 4), find_images(tmp_path / "in"))

    for wanted in (("b",), ("b", "c")):
        with pytest.raises(InputError, match="expected the categories of the boxes, a, got b"):
            categories_with(boxes, wanted)


def test_a_model_that_knows_boxes_alone_is_refused_without(tmp_path: Path) -> None:
    """Before the first image; one that answers points, and boxes, pass."""
    draw_images(tmp_path / "in", 1)
    model = tiny_sam()
    model.policy = LITE_MEDSAM_POLICY
    with pytest.raises(InputError, match="expected boxes, or a model that answers points"):
        generate_dataset(tmp_path / "in", tmp_path / "out", SAMAutomaticMaskGenerator(model))

    check_prompted(LITE_MEDSAM_POLICY, "lite_medsam", True, "")
    check_prompted(SAM_POLICY, "sam_vit_b", False, "")
    check_prompted(None, "the model", False, "")
    assert not (tmp_path / "out").exists()
