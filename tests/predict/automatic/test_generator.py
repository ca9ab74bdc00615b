"""Automatic masks against the plain way, and what the generator refuses."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nexus
from nexus.core.errors import EmbeddingError, ImageError, InputError, NexusWarning, PromptError
from nexus.core.types import Prompt
from nexus.models import cv
from nexus.models.promptable import PromptableModel
from nexus.ops.rle import decode_rle
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2
from tests.predict.plain_generator import generate

OPEN: dict[str, Any] = {
    "points_per_side": 3,
    "pred_iou_thresh": -9.0,
    "stability_score_thresh": 0.0,
    "stability_score_offset": 0.02,
    "box_nms_thresh": 1.0,
    "crop_nms_thresh": 1.0,
}
CASES: dict[str, dict[str, Any]] = {
    "everything": {},
    "filtered": {"stability_score_thresh": 0.8, "box_nms_thresh": 1.0},
    "crops": {"crop_n_layers": 1, "crop_overlap_ratio": 0.5, "crop_n_points_downscale_factor": 2},
    "cleaned": {"min_mask_region_area": 30, "crop_n_layers": 1},
    "one mask": {"multimask_output": False},
    "mask to mask": {"use_m2m": True},
    "own cut and grid": {
        "mask_threshold": 0.1,
        "points_per_side": None,
        "point_grids": [np.array([[0.2, 0.9], [0.5, 0.1]])],
    },
}


def image(seed: int = 0, size_hw: tuple[int, int] = (75, 110)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def middle_score(model: PromptableModel) -> float:
    """A predicted IoU that about half of the candidates have."""
    records = SAMAutomaticMaskGenerator(model, **OPEN).generate(image())
    scores = sorted({round(record["predicted_iou"], 4) for record in records})
    middle = len(scores) // 2
    return (scores[middle - 1] + scores[middle]) / 2


@pytest.mark.parametrize("family", [tiny_sam, tiny_sam2])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_plain_way(family: Any, case: str) -> None:
    """Masks, scores, boxes, points and crops, in the same order up to equal scores."""
    model = family()
    settings = {**OPEN, **CASES[case]}
    if case == "filtered":
        if family is tiny_sam:  # scores above 0, as trained weights give
            model.mask_decoder.iou_prediction_head.layers[-1].bias.data += 1
        settings["pred_iou_thresh"] = middle_score(model)
    generator = SAMAutomaticMaskGenerator(model, **settings)
    records = generator.generate(image())
    expected = generate(model, image(), generator.settings)
    key = lambda record: (  # noqa: E731
        record["crop_box"],
        record["point_coords"],
        round(record["predicted_iou"], 4),
    )

    assert len(records) == len(expected) > 0
    for ours, plain in zip(sorted(records, key=key), sorted(expected, key=key), strict=True):
        mask = ours["segmentation"]
        x0, y0, x1, y1 = plain["box"]
        assert (mask != plain["segmentation"]).mean() < 2e-3
        assert ours["area"] == mask.sum()
        assert np.abs(np.subtract(ours["bbox"], [x0, y0, x1 - x0, y1 - y0])).max() <= 1
        assert ours["point_coords"] == plain["point_coords"]
        assert ours["crop_box"] == plain["crop_box"]
        assert ours["predicted_iou"] == pytest.approx(plain["predicted_iou"], abs=1e-4)
        assert ours["stability_score"] == pytest.approx(plain["stability_score"], abs=5e-3)


def test_best_come_first() -> None:
    """Without crops and clean-up records are in the order of their predicted IoU."""
    records = SAMAutomaticMaskGenerator(tiny_sam(), **OPEN).generate(image())
    scores = [record["predicted_iou"] for record in records]

    assert scores == sorted(scores, reverse=True)


def test_the_output_modes_hold_the_same_masks() -> None:
    """Arrays, run lengths and compressed run lengths of equal masks."""
    of = {
        mode: SAMAutomaticMaskGenerator(tiny_sam(), **OPEN, output_mode=mode).generate(image())
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    }

    assert isinstance(of["uncompressed_rle"][0]["segmentation"]["counts"], list)
    assert isinstance(of["coco_rle"][0]["segmentation"]["counts"], str)
    for array, plain, packed in zip(*of.values(), strict=True):
        assert array["segmentation"].dtype == bool
        for rle in (plain["segmentation"], packed["segmentation"]):
            assert np.array_equal(decode_rle(rle), array["segmentation"])


def test_the_batch_size_changes_nothing() -> None:
    """One prompt at a time gives what sixteen together give."""
    one, many = (
        SAMAutomaticMaskGenerator(tiny_sam(), **OPEN, points_per_batch=n).generate(image())
        for n in (1, 16)
    )

    assert len(one) == len(many)
    for a, b in zip(one, many, strict=True):
        assert (a["segmentation"] != b["segmentation"]).mean() < 1e-3


def test_masks_below_the_threshold_are_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder upscales nothing for a prompt none of whose masks has the score."""
    model = tiny_sam()
    generator = SAMAutomaticMaskGenerator(model, **{**OPEN, "pred_iou_thresh": 0.999})

    def refuse(*_: Any) -> None:
        raise RuntimeError("drawn")

    monkeypatch.setattr(model.mask_decoder, "draw_some", refuse)

    assert generator.generate(image()) == []


def test_what_went_is_counted_by_setting() -> None:
    """Candidates and those that each threshold removed add up to the masks that are left."""
    settings = {**OPEN, "stability_score_thresh": 0.8, "box_nms_thresh": 0.5, "crop_n_layers": 1}
    tally: Counter[str] = Counter()
    records = SAMAutomaticMaskGenerator(tiny_sam(), **settings).generate(image(), tally=tally)
    went = {name: count for name, count in tally.items() if name != "candidates"}

    assert went["stability_score_thresh"] > 0
    assert went["box_nms_thresh"] > 0
    assert len(records) > 0
    assert tally["candidates"] - sum(went.values()) == len(records)


def test_boxes_can_stand_in_for_the_grid() -> None:
    """Each box gives the mask `predict` gives for it, with the box on the record."""
    model = tiny_sam()
    boxes = np.array([[10, 10, 60, 50], [30, 5, 100, 70], [-5, -5, 20, 20]], np.float32)
    generator = SAMAutomaticMaskGenerator(model, **OPEN, crop_n_layers=1)
    records = generator.generate(image(), boxes_xyxy=boxes)
    expected = {tuple(box): model.predict(image(), Prompt(box=box)) for box in boxes.tolist()}

    assert len(records) == 3
    for record in records:
        masks = expected[tuple(record["box_prompt"])]
        assert (record["segmentation"] != masks.best).mean() < 2e-3
        assert record["predicted_iou"] == pytest.approx(masks.best_score, abs=1e-4)
        assert record["point_coords"] == []
    assert generator.generate(image(), boxes_xyxy=[]) == []


def test_wrong_boxes_are_refused() -> None:
    """Shape, order and place of a box are checked, and which box it is."""
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **OPEN)
    with pytest.raises(PromptError, match=r"boxes of shape \(K, 4\), got shape \(2,\)"):
        generator.generate(image(), boxes_xyxy=[1, 2])
    with pytest.raises(PromptError, match="box 1: expected a box with x0 < x1"):
        generator.generate(image(), boxes_xyxy=[[0, 0, 9, 9], [9, 9, 0, 0]])
    with pytest.raises(PromptError, match="box 0: expected a box that overlaps"):
        generator.generate(image(), boxes_xyxy=[[500, 500, 600, 600]])


def test_a_batch_equals_one_by_one(tmp_path: Path) -> None:
    """Images of different sizes and kinds, encoded two at a time."""
    Image.fromarray(image(1, (40, 90))).save(tmp_path / "a.png")
    images = [image(), tmp_path / "a.png", image(2, (64, 64))]
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **OPEN)
    batch = generator.generate_batch(iter(images), encoder_batch=2)

    assert len(batch) == 3
    for records, one in zip(batch, images, strict=True):
        alone = generator.generate(one)
        assert len(records) == len(alone)
        for a, b in zip(records, alone, strict=True):
            assert (a["segmentation"] != b["segmentation"]).mean() < 2e-3
    with pytest.raises(InputError, match="at least 1, got 0"):
        generator.generate_batch(images, encoder_batch=0)
    with pytest.raises(InputError, match="expected a list of images, got str"):
        generator.generate_batch(str(tmp_path / "a.png"))


def test_a_given_embedding_must_fit() -> None:
    """It saves the encoding; another image's size or another model's is refused."""
    model = tiny_sam()
    generator = SAMAutomaticMaskGenerator(model, **OPEN)
    embedding = model.encode_image(image())

    assert len(generator.generate(image(), image_embedding=embedding)) == len(
        generator.generate(image())
    )
    with pytest.raises(InputError, match="this image, 64 x 64, got one of 75 x 110"):
        generator.generate(image(0, (64, 64)), image_embedding=embedding)
    with pytest.raises(EmbeddingError, match="other encoder weights"):
        generator.generate(image(), image_embedding=tiny_sam(1).encode_image(image()))


def test_large_images_are_refused_before_they_are_decoded() -> None:
    """`max_pixels` is that of `load_image`."""
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **OPEN)
    with pytest.raises(ImageError, match="pixels"):
        generator.generate(image(), max_pixels=100)


def test_a_model_trained_on_boxes_warns_once_about_points() -> None:
    """The warning names the model and boxes_xyxy; the generator keeps the note."""
    model = tiny_sam()
    model.policy = dataclasses.replace(model.policy, box_only=True)
    generator = SAMAutomaticMaskGenerator(model, **OPEN)
    with pytest.warns(NexusWarning, match=r"tiny was trained on box prompts(.|\n)*boxes_xyxy"):
        generator.generate(image())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator.generate(image())
        other = SAMAutomaticMaskGenerator(model, **OPEN)
        other.generate(image(), boxes_xyxy=[[5, 5, 50, 50]])

    assert len(generator.notes) == 1
    assert other.notes == ()


def test_a_name_is_no_model() -> None:
    """The message says how to load one."""
    with pytest.raises(InputError, match=r"a loaded model, got str\nhint: model = load_model"):
        SAMAutomaticMaskGenerator("sam_vit_b")  # type: ignore[arg-type]


def test_the_name_is_where_the_models_are() -> None:
    """`nexus` and `nexus.models.cv` hand the class on; another name is an error."""
    assert cv.SAMAutomaticMaskGenerator is SAMAutomaticMaskGenerator
    assert nexus.SAMAutomaticMaskGenerator is SAMAutomaticMaskGenerator
    with pytest.raises(AttributeError, match="no attribute 'SAMAutomatic'"):
        _ = cv.SAMAutomatic


def test_a_batch_tells_how_far_it_is() -> None:
    """`progress` is told of each image."""
    told: list[tuple[int, int]] = []
    images = [np.zeros((30, 40, 3), np.uint8)] * 3
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **OPEN)
    generator.generate_batch(images, progress=lambda *seen: told.append(seen))

    assert told == [(1, 3), (2, 3), (3, 3)]
