"""The stages of automatic masks, one function each.

    crops and seeds -> scores of all candidates -> filter by predicted IoU -> draw what is left
    -> mask by mask: full size, stability, box, crop edge, RLE -> suppress within the crop
    -> suppress between crops -> clean small regions -> records

Follows "Segment Anything" (arXiv 2304.02643), section 4 and appendix B, and the originals'
generators. Full-size work is done one mask at a time on each core, and a mask is run lengths from
then on, so that memory depends neither on how many prompts are decoded together nor, beyond those
masks, on the size of the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from nexus.core.errors import PromptError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.frame import FramePrompts, logits_to_original, prompts_to_frame
from nexus.models.policy import Policy
from nexus.models.promptable import PromptableModel
from nexus.ops.components import clean_mask
from nexus.ops.crops import CropBox, near_crop_edge
from nexus.ops.masks import stability_score
from nexus.ops.nms import nms
from nexus.ops.rle import decode_rle, encode_rle_at, rle_counts
from nexus.predict.automatic.settings import AutomaticSettings
from nexus.predict.candidates import EncodedImages
from nexus.predict.threads import over_cores

# Prompts decoded together on a CPU: as many as keep their L x C maps in the cache.
_CPU_CHUNK = 4


@dataclass(frozen=True)
class Seed:
    """What the model is prompted with for a mask.

    Attributes:
        prompt: In pixels of the image.
        record: What records say of it.
    """

    prompt: Prompt
    record: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A mask that passed the filters.

    Attributes:
        rle: In the image, compressed.
        area: Pixels.
        box: x0, y0, x1, y1 of its outermost pixels in the image, all inclusive.
        iou_score: The model's own estimate.
        stability: As in `stability_score`.
        seed: What the model was prompted with.
        crop_box: The crop it was found in, edges exclusive.
    """

    rle: dict[str, Any]
    area: int
    box: tuple[int, int, int, int]
    iou_score: float
    stability: float
    seed: Seed
    crop_box: CropBox


def point_seeds(grid: NDArray[np.float64], crop_box: CropBox) -> list[Seed]:
    """Return a seed for each point of a grid laid over a crop, in pixels of the image."""
    x0, y0, x1, y1 = crop_box
    points = grid * (x1 - x0, y1 - y0) + (x0, y0)
    return [Seed(Prompt(points=[point]), {"point_coords": [point]}) for point in points.tolist()]


def box_seeds(boxes_xyxy: ArrayLike, size_hw: tuple[int, int]) -> list[Seed]:
    """Return a seed for each of (K, 4) boxes in pixels of the image.

    Raises:
        PromptError: Another shape, or a box that is malformed or does not touch the image.
    """
    boxes = np.asarray(boxes_xyxy, np.float32)
    if boxes.size == 0:
        return []
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise PromptError(f"expected boxes of shape (K, 4), got shape {boxes.shape}")
    seeds = []
    for index, box in enumerate(boxes):
        try:
            prompt = Prompt(box=box)
            prompt.check_within(size_hw)
        except PromptError as error:
            raise PromptError(f"box {index}: {error.message}", error.hint) from error
        seeds.append(Seed(prompt, {"point_coords": [], "box_prompt": box.tolist()}))
    return seeds


def masks_of_crop(
    model: PromptableModel,
    embedding: ImageEmbedding,
    seeds: Sequence[Seed],
    crop_box: CropBox,
    size_hw: tuple[int, int],
    settings: AutomaticSettings,
) -> list[Found]:
    """Find the masks of one crop, best predicted IoU first.

    Args:
        model: The model.
        embedding: The encoded crop.
        seeds: Of one kind, points or boxes.
        crop_box: Where the crop lies in the image.
        size_hw: Of the image.
        settings: Thresholds.
    """
    image = EncodedImages(model, [embedding])
    policy = model.policy
    if settings.mask_threshold is not None:
        policy = dataclasses.replace(policy, mask_threshold=settings.mask_threshold)
    chunk = _chunk(model.device, settings)

    def of_chunk(start: int) -> list[Found]:
        part = seeds[start : start + chunk]
        return masks_of_seeds(image, policy, part, crop_box, size_hw, settings)

    starts = range(0, len(seeds), chunk)
    found = [mask for part in over_cores(of_chunk, starts, model.device) for mask in part]
    return suppress(found, [mask.iou_score for mask in found], settings.box_nms_thresh)


def masks_of_seeds(
    image: EncodedImages,
    policy: Policy,
    seeds: Sequence[Seed],
    crop_box: CropBox,
    size_hw: tuple[int, int],
    settings: AutomaticSettings,
) -> list[Found]:
    """Decode a few seeds together and find their masks that pass; arguments as in `masks_of_crop`.

    Only what has the predicted IoU is drawn.
    """
    geometry = image.embeddings[0].geometry
    local = [shift_prompt(seed.prompt, -crop_box[0], -crop_box[1]) for seed in seeds]
    prompts = prompts_to_frame(local, geometry, image.mask_size_hw, policy)
    # A box says which object is meant; a point on a wheel may mean wheel or car.
    several = settings.multimask_output and seeds[0].prompt.box is None
    candidates = image.decode(prompts, several)
    threshold = _effective(settings.pred_iou_thresh)
    first = -np.inf if settings.use_m2m else threshold
    rows, columns = (candidates.iou_scores > first).nonzero(as_tuple=True)
    if not len(rows):
        return []
    masks = candidates.draw(rows, columns)
    scores = candidates.iou_scores[rows, columns]
    if settings.use_m2m:
        chunk = _chunk(masks.device, settings)
        masks, scores = refined(image, policy, prompts, rows, masks, chunk)
    found = []
    for logits, score, row in zip(masks, scores.tolist(), rows.tolist(), strict=True):
        if score > threshold:
            full = logits_to_original(logits[None], geometry, policy)[0].cpu().numpy()
            measured = measure(full, policy.mask_threshold, settings, crop_box, size_hw)
            if measured is not None:
                rle, area, box, stability = measured
                found.append(Found(rle, area, box, score, stability, seeds[row], crop_box))
    return found


def refined(
    image: EncodedImages,
    policy: Policy,
    prompts: FramePrompts,
    rows: Tensor,
    logits: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Give masks back to the model as prompts, beside the prompts they came from.

    Args:
        image: The encoded crop.
        policy: The model's.
        prompts: The P prompts.
        rows: (n,) which prompt each mask came from.
        logits: (n, h, w) the masks.
        chunk: Masks given back together.

    Returns:
        Logits (n, h, w) and scores (n,).
    """
    limit = policy.logit_limit
    masks = logits if limit is None else logits.clamp(-limit, limit)
    again, scores = [], []
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        index = rows[part].to(prompts.point_coords.device)
        repeated = FramePrompts(
            prompts.point_coords[index], prompts.point_labels[index], masks[part].unsqueeze(1)
        )
        single = image.decode(repeated, several=False)
        every = torch.arange(len(index), device=single.iou_scores.device)
        again.append(single.draw(every, torch.zeros_like(every)))
        scores.append(single.iou_scores[:, 0])
    return torch.cat(again), torch.cat(scores)


def measure(
    logits: NDArray[np.float32],
    threshold: float,
    settings: AutomaticSettings,
    crop_box: CropBox,
    size_hw: tuple[int, int],
) -> tuple[dict[str, Any], int, tuple[int, int, int, int], float] | None:
    """Return RLE, area, inclusive box and stability of one mask, or None if it is to go.

    It goes if it is not stable enough, or comes near an edge of the crop inside the image.

    Args:
        logits: (H, W) of the crop, at full size.
        threshold: The cut.
        settings: Thresholds.
        crop_box: Where the crop lies in the image.
        size_hw: Of the image.
    """
    stability = stability_score(logits, threshold, settings.stability_score_offset)
    if stability < _effective(settings.stability_score_thresh):
        return None
    mask = logits > threshold
    x0, y0, x1, y1 = inclusive_box(mask)
    left, top = crop_box[:2]
    box = (x0 + left, y0 + top, x1 + left, y1 + top)
    if near_crop_edge([box], crop_box, size_hw)[0]:
        return None
    part = mask[y0 : y1 + 1, x0 : x1 + 1]
    return encode_rle_at(part, box[:2], size_hw), int(np.count_nonzero(part)), box, stability


def suppress(found: list[Found], scores: Sequence[float], iou_threshold: float) -> list[Found]:
    """Keep the masks that non-maximum suppression of their boxes keeps, best score first."""
    boxes = np.array([mask.box for mask in found], np.float32).reshape(-1, 4)
    return [found[index] for index in nms(boxes, scores, iou_threshold)]


def suppress_between_crops(found: list[Found], iou_threshold: float) -> list[Found]:
    """Keep, of masks found in several crops, the one from the smallest crop."""
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (mask.crop_box for mask in found)]
    return suppress(found, [1 / area for area in areas], iou_threshold)


def clean_regions(found: list[Found], min_area: int, iou_threshold: float) -> list[Found]:
    """Fill small holes and remove small parts; where masks then overlap, the least changed stays.

    The originals prefer unchanged masks to changed ones and leave it to their sort which of two
    changed ones stays. Scores stay those of the mask before.
    """
    cleaned, alike = [], []
    for mask in found:
        before = decode_rle(mask.rle)
        after, changed = clean_mask(before, min_area)
        if changed:
            x0, y0, x1, y1 = box = inclusive_box(after)
            part = after[y0 : y1 + 1, x0 : x1 + 1]
            rle = encode_rle_at(part, (x0, y0), (after.shape[0], after.shape[1]))
            mask = dataclasses.replace(mask, rle=rle, area=int(np.count_nonzero(part)), box=box)
        cleaned.append(mask)
        both, either = (int(np.count_nonzero(m)) for m in (before & after, before | after))
        alike.append(both / max(1, either))
    return suppress(cleaned, alike, iou_threshold)


def record_of(mask: Found, output_mode: str) -> dict[str, Any]:
    """Return a mask as a classic record."""
    x0, y0, x1, y1 = mask.box
    left, top, right, bottom = mask.crop_box
    segmentation: Any = mask.rle
    if output_mode == "binary_mask":
        segmentation = decode_rle(mask.rle)
    elif output_mode == "uncompressed_rle":
        segmentation = {"size": mask.rle["size"], "counts": rle_counts(mask.rle).tolist()}
    return {
        "segmentation": segmentation,
        "area": mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "predicted_iou": mask.iou_score,
        "stability_score": mask.stability,
        "crop_box": [left, top, right - left, bottom - top],
        **mask.seed.record,
    }


def shift_prompt(prompt: Prompt, dx: float, dy: float) -> Prompt:
    """Return a prompt of points or a box moved by (dx, dy) pixels."""
    if dx == 0 and dy == 0:
        return prompt
    return Prompt(
        None if prompt.points is None else prompt.points + np.array((dx, dy), np.float32),
        prompt.labels,
        None if prompt.box is None else prompt.box + np.array((dx, dy, dx, dy), np.float32),
    )


def inclusive_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of a mask's outermost pixels, all inclusive; zeros if it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _chunk(device: torch.device, settings: AutomaticSettings) -> int:
    """Return how many prompts to decode together."""
    limit = _CPU_CHUNK if device.type == "cpu" else settings.points_per_batch
    return min(limit, settings.points_per_batch)


def _effective(threshold: float) -> float:
    """Return a threshold, or one that everything passes if it is 0 or less."""
    return threshold if threshold > 0 else -np.inf
