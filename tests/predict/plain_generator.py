"""Automatic masks as the papers' code goes about them: everything at full size, one by one.

The oracle of `nexus.predict.automatic`. It knows a model by `encode_image` and
`model(images, prompts)` alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nexus.core.types import Prompt
from nexus.models.frame import logits_to_original
from nexus.models.promptable import PromptableModel
from nexus.ops.components import clean_mask
from nexus.ops.crops import layered_crops, near_crop_edge
from nexus.ops.nms import nms
from nexus.predict.automatic.settings import AutomaticSettings


def generate(
    model: PromptableModel, image: np.ndarray, settings: AutomaticSettings
) -> list[dict[str, Any]]:
    """Classic records with bool masks."""
    size_hw = image.shape[:2]
    crops = layered_crops(size_hw, settings.crop_n_layers, settings.crop_overlap_ratio)
    records: list[dict[str, Any]] = []
    for crop_box, layer in crops:
        x0, y0, x1, y1 = crop_box
        points = settings.grids()[layer] * (x1 - x0, y1 - y0)
        of_crop = [
            record
            for point in points
            for record in _of_point(model, image[y0:y1, x0:x1], point, crop_box, size_hw, settings)
        ]
        records += _suppressed(of_crop, "predicted_iou", settings.box_nms_thresh)
    if len(crops) > 1:
        for record in records:
            record["smallness"] = 1 / (record["crop_box"][2] * record["crop_box"][3])
        records = _suppressed(records, "smallness", settings.crop_nms_thresh)
    if settings.min_mask_region_area:
        for record in records:
            before = record["segmentation"]
            mask, _ = clean_mask(before, settings.min_mask_region_area)
            alike = (mask & before).sum() / max(1, (mask | before).sum())
            record |= {"segmentation": mask, "alike": alike, "box": _box(mask)}
        threshold = max(settings.box_nms_thresh, settings.crop_nms_thresh)
        records = _suppressed(records, "alike", threshold)
    return records


def _of_point(
    model: PromptableModel,
    crop: np.ndarray,
    point: np.ndarray,
    crop_box: tuple[int, int, int, int],
    size_hw: tuple[int, int],
    settings: AutomaticSettings,
) -> list[dict[str, Any]]:
    x0, y0, x1, y1 = crop_box
    embedding = model.encode_image(crop)
    logits, scores = _decoded(model, embedding, Prompt(points=[point]), settings.multimask_output)
    if settings.use_m2m:
        limit = model.policy.logit_limit or np.inf
        again = [
            _decoded(model, embedding, Prompt([point], mask=mask.clip(-limit, limit)), False)
            for mask in logits
        ]
        logits, scores = (np.concatenate(part) for part in zip(*again, strict=True))
    cut = (
        model.policy.mask_threshold if settings.mask_threshold is None else settings.mask_threshold
    )
    records = []
    for low, score in zip(logits, scores, strict=True):
        full = logits_to_original(torch.from_numpy(low[None]), embedding.geometry, model.policy)[0]
        offset = settings.stability_score_offset
        lax = int((full > cut - offset).sum())
        stability = int((full > cut + offset).sum()) / lax if lax else 0.0
        mask = np.zeros(size_hw, bool)
        mask[y0:y1, x0:x1] = (full > cut).numpy()
        inside = _box(mask[y0:y1, x0:x1])
        box = [inside[0] + x0, inside[1] + y0, inside[2] + x0, inside[3] + y0]
        if (
            score > settings.pred_iou_thresh
            and stability >= settings.stability_score_thresh
            and not near_crop_edge([box], crop_box, size_hw)[0]
        ):
            records.append(
                {
                    "segmentation": mask,
                    "box": box,
                    "predicted_iou": float(score),
                    "stability_score": stability,
                    "point_coords": [[float(point[0]) + x0, float(point[1]) + y0]],
                    "crop_box": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    return records


def _decoded(
    model: PromptableModel, embedding: Any, prompt: Prompt, multimask_output: bool
) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        logits, scores = model([embedding], [[prompt]], multimask_output, return_scores=True)
    return logits[0, 0].numpy(), scores[0, 0].numpy()


def _suppressed(records: list[dict[str, Any]], key: str, threshold: float) -> list[dict[str, Any]]:
    boxes = [record["box"] for record in records]
    return [records[i] for i in nms(boxes, [float(r[key]) for r in records], threshold)]


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max())]
