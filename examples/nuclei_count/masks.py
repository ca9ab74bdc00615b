"""Turn seeds of nuclei into masks, with a promptable model and the box of each seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.nuclei_count.seeds import Labels
from nexus.models.promptable import PromptableModel
from nexus.ops.boxes import clip_boxes, mask_to_box_xyxy
from nexus.ops.rle import decode_rle
from nexus.predict.tiled import predict_tiled

# Of a box to each side: a threshold loses the blurred rim of a nucleus.
GROWTH = 0.2
SMALLEST_TILE_PX = 32


def segment(
    model: PromptableModel, image: NDArray[Any], seeds: Labels, widths_per_tile: float
) -> Labels:
    """Return a label map of the model's masks, one for each seed that has any.

    Args:
        model: The model.
        image: (H, W, 3).
        seeds: (H, W).
        widths_per_tile: Side of the tiles the model sees, in usual widths of a seed, so that small
            nuclei are large enough for it; 0 shows it the whole image.
    """
    boxes = np.array([mask_to_box_xyxy(seeds == n) for n in range(1, int(seeds.max()) + 1)])
    if not len(boxes):
        return np.zeros_like(seeds)
    sides = boxes[:, 2:] - boxes[:, :2]
    tile = max(int(widths_per_tile * np.median(sides.max(axis=1))), SMALLEST_TILE_PX)
    tile = tile if widths_per_tile else max(seeds.shape)
    grown = clip_boxes(boxes + GROWTH * np.hstack([-sides, sides]), seeds.shape)
    records = predict_tiled(model, image, list(grown), tile_side=tile, overlap=tile // 4)
    masks = np.zeros_like(seeds)
    # Where masks overlap, the one the model is surer of lies on top.
    for index in np.argsort([record["predicted_iou"] for record in records]):
        masks[decode_rle(records[index]["segmentation"])] = index + 1
    return np.unique(masks, return_inverse=True)[1].reshape(masks.shape)
