"""Large images tile by tile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError, PromptError
from nexus.core.types import Prompt
from nexus.ops.components import components
from nexus.ops.rle import decode_rle, encode_rle
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.tiled import generate_tiled, predict_tiled
from tests.models.tiny import tiny_sam


class Parts:
    """A generator that finds the connected bright parts of what it is shown."""

    def __init__(self, output_mode: str = "coco_rle") -> None:
        self.settings = SimpleNamespace(output_mode=output_mode)
        self.largest = 0

    def generate(self, image: np.ndarray, **_: Any) -> list[dict[str, Any]]:
        self.largest = max(self.largest, *image.shape[:2])
        labels, areas = components(image[..., 0] > 0, 4)
        records = []
        for label in range(1, len(areas)):
            y, x = np.argwhere(labels == label)[0].tolist()
            records.append(
                {
                    "segmentation": encode_rle(labels == label),
                    "predicted_iou": 1 / label,
                    "point_coords": [[x, y]],
                    "stability_score": 1.0,
                }
            )
        return records


def _scene() -> np.ndarray:
    scene = np.zeros((100, 230, 3), np.uint8)
    scene[10:20, 10:20] = 255  # within a tile
    scene[40:60, 30:200] = 255  # across all tiles
    scene[80:95, 70:95] = 255  # where two tiles overlap
    return scene


@pytest.mark.parametrize("output_mode", ["binary_mask", "coco_rle", "uncompressed_rle"])
def test_masks_are_put_together_at_the_seams(output_mode: str) -> None:
    """Tiles of 100 give the three parts of the whole scene, once each, to the last pixel."""
    generator = Parts(output_mode)
    records = generate_tiled(generator, _scene(), tile_side=100, overlap=30)  # type: ignore[arg-type]
    labels, areas = components(_scene()[..., 0] > 0, 4)

    assert generator.largest == 100
    assert len(records) == 3
    found = {}
    for record in records:
        rle = record["segmentation"]
        mask = decode_rle(rle) if isinstance(rle, dict) else rle
        x, y = (int(v) for v in record["point_coords"][0])
        label = int(labels[y, x])
        found[label] = record
        assert np.array_equal(mask, labels == label)
        assert record["area"] == areas[label]
    wide = found[int(labels[50, 100])]
    assert wide["bbox"] == [30, 40, 169, 19]
    assert wide["crop_box"] == [0, 0, 230, 100]
    assert len(wide["point_coords"]) == 3
    assert found[int(labels[15, 15])]["crop_box"] == [0, 0, 100, 100]


def test_masks_that_disagree_stay_apart() -> None:
    """Two masks that merely touch in the overlap are two objects."""

    class Disagreeing(Parts):
        def generate(self, image: np.ndarray, **_: Any) -> list[dict[str, Any]]:
            mask = np.zeros(image.shape[:2], bool)
            # In the first tile the upper half, in the second the lower: one row in common.
            self.largest += 1
            mask[:51] = self.largest == 1
            mask[50:] |= self.largest == 2
            return [{"segmentation": encode_rle(mask), "predicted_iou": 0.5, "point_coords": []}]

    image = np.zeros((100, 170, 3), np.uint8)
    records = generate_tiled(Disagreeing(), image, tile_side=100, overlap=30)  # type: ignore[arg-type]

    assert len(records) == 2


def test_one_tile_is_the_generator() -> None:
    """An image no larger than a tile gives the generator's own records."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    generator = SAMAutomaticMaskGenerator(
        tiny_sam(), points_per_side=2, pred_iou_thresh=-9, stability_score_thresh=0
    )
    whole, tiled = generator.generate(image), generate_tiled(generator, image)

    assert len(whole) == len(tiled) > 0
    for a, b in zip(whole, tiled, strict=True):
        assert np.array_equal(a.pop("segmentation"), b.pop("segmentation"))
        assert a == b


def test_prompts_are_answered_in_their_tile() -> None:
    """The mask is that of the tile alone, put into the image; a large box has its own crop."""
    image = np.random.default_rng(0).integers(0, 256, (100, 230, 3), dtype=np.uint8)
    model = tiny_sam()
    prompts = [(20, 50), Prompt([[120, 40]], [1]), (10, 10, 220, 90)]
    results = predict_tiled(model, image, prompts, tile_side=100, overlap=30)
    second = model.predict(image[:, 65:165], (55, 40))

    assert [result["crop_box"] for result in results] == [
        [0, 0, 100, 100],
        [65, 0, 100, 100],
        [0, 0, 230, 100],
    ]
    mask = decode_rle(results[1]["segmentation"])
    assert np.array_equal(mask[:, 65:165], second.best)
    assert not mask[:, :65].any()
    assert results[1]["area"] == mask.sum()
    assert results[1]["predicted_iou"] == pytest.approx(second.best_score, abs=1e-5)
    x0, y0, width, height = results[1]["bbox"]
    assert mask[y0 : y0 + height, x0 : x0 + width].sum() == mask.sum()


def test_wrong_input_is_refused() -> None:
    """An overlap as large as the tile, a merge_iou of 0, masks as prompts, points outside."""
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(InputError, match="less than the tile side 16, got 16"):
        generate_tiled(Parts(), image, tile_side=16, overlap=16)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"merge_iou in \(0, 1\], got 0"):
        generate_tiled(Parts(), image, merge_iou=0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="points or boxes, got a mask in prompt 0"):
        predict_tiled(tiny_sam(), image, [Prompt([[1, 1]], mask=np.zeros((40, 40), bool))])
    with pytest.raises(PromptError, match="points inside"):
        predict_tiled(tiny_sam(), image, [(99, 1)])


def test_tiles_are_counted() -> None:
    """`progress` is told of each tile, of masks and of prompts."""
    image = np.zeros((40, 100, 3), np.uint8)
    made, asked = list[tuple[int, int]](), list[tuple[int, int]]()
    generator: Any = Parts()
    generate_tiled(
        generator, image, tile_side=40, overlap=10, progress=lambda *seen: made.append(seen)
    )
    predict_tiled(
        tiny_sam(),
        image,
        [(5, 5), (95, 5)],
        tile_side=40,
        overlap=10,
        progress=lambda *seen: asked.append(seen),
    )

    assert made == [(1, 3), (2, 3), (3, 3)]
    assert asked == [(1, 2), (2, 2)]
