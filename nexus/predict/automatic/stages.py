"""The stages of automatic masks.

    seeds of a crop -> scores of all candidates -> filter by predicted IoU -> draw what is left
    -> mask by mask: full size, stability, box, crop edge, RLE -> suppress within the crop
    -> suppress between crops -> clean small regions -> records

Follows "Segment Anything" (arXiv 2304.02643), section 4 and appendix B, and the originals'
generators. Full-size work is done one mask at a time on each core, and a mask is run lengths from
then on, so that memory depends neither on how many prompts are decoded together nor, beyond those
masks, on the size of the image.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from nexus.core.errors import PromptError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.calls import named
from nexus.models.decoding import EncodedImages
from nexus.models.frame import FramePrompts, logits_to_original, prompts_to_frame
from nexus.models.promptable import PromptableModel
from nexus.nn.batching import in_parts, prompts_at_once
from nexus.ops.boxes import inclusive_box
from nexus.ops.components import clean_mask
from nexus.ops.crops import CropBox, near_crop_edge
from nexus.ops.masks import stability_score
from nexus.ops.nms import nms
from nexus.ops.rle import decode_rle, encode_rle_at
from nexus.predict.automatic.settings import AutomaticSettings, segmentation_of
from nexus.predict.threads import over_cores


@dataclass(frozen=True)
class Seed:
    """What the model is prompted with for a mask, in the image, and what records say of that."""

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
    """Return a seed for each of (K, 4) boxes in pixels of the image; each must touch it."""
    boxes = np.asarray(boxes_xyxy, np.float32)
    if boxes.size == 0:
        return []
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise PromptError(f"expected boxes of shape (K, 4), got shape {boxes.shape}")
    seeds = []
    for index, box in enumerate(boxes):
        with named(f"box {index}"):
            prompt = Prompt(box=box)
            prompt.check_within(size_hw)
        seeds.append(Seed(prompt, {"point_coords": [], "box_prompt": box.tolist()}))
    return seeds


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of an image of `size_hw` in which masks are found: `box`, edges exclusive.

    How many candidates there were, and how many went by which setting, is added up in `tally`.
    """

    model: PromptableModel
    embedding: ImageEmbedding
    box: CropBox
    size_hw: tuple[int, int]
    settings: AutomaticSettings
    tally: Counter[str] = field(default_factory=Counter)

    @torch.no_grad()
    def masks(self, seeds: Sequence[Seed]) -> list[Found]:
        """Find the masks of seeds of one kind, points or boxes; best predicted IoU first."""
        self.model.check_embedding(self.embedding)
        image = self.model.prepare([self.embedding])
        parts = list(in_parts(seeds, self._at_once()))
        each = over_cores(lambda part: self._masks_of(image, part), parts, self.model.device)
        found = [mask for masks, _ in each for mask in masks]
        for _, went in each:  # here, since the parts are done in threads
            self.tally.update(went)
        kept = suppress(found, [mask.iou_score for mask in found], self.settings.box_nms_thresh)
        self.tally["box_nms_thresh"] += len(found) - len(kept)
        return kept

    @torch.no_grad()  # again, since it holds for the thread it is said in
    def _masks_of(
        self, image: EncodedImages, seeds: Sequence[Seed]
    ) -> tuple[list[Found], Counter[str]]:
        """Decode a few seeds together; return their masks that pass, and the tally of them.

        Only what has the predicted IoU is drawn.
        """
        geometry, policy, settings = image.geometries[0], self.model.policy, self.settings
        cut = policy.mask_threshold if settings.mask_threshold is None else settings.mask_threshold
        local = [shift_prompt(seed.prompt, -self.box[0], -self.box[1]) for seed in seeds]
        prompts = prompts_to_frame(local, geometry, image.mask_size_hw, policy)
        prompts = prompts.to(self.model.device)
        # A box says which object is meant; a point on a wheel may mean wheel or car.
        multimask_output = settings.multimask_output and seeds[0].prompt.box is None
        candidates = self.model.score(image, prompts, multimask_output)
        scores, threshold = candidates.iou_scores.float(), _effective(settings.pred_iou_thresh)
        first = -np.inf if settings.use_m2m else threshold
        rows, columns = (scores > first).nonzero(as_tuple=True)
        tally = Counter(candidates=scores.numel(), pred_iou_thresh=scores.numel() - len(rows))
        if not len(rows):
            return [], tally
        masks, scores = candidates.draw(rows, columns).float(), scores[rows, columns]
        if settings.use_m2m:
            masks, scores = self._refined(image, prompts, rows, masks)
        found = []
        for logits, score, row in zip(masks, scores.tolist(), rows.tolist(), strict=True):
            if not score > threshold:
                tally["pred_iou_thresh"] += 1
                continue
            full = logits_to_original(logits[None], geometry, policy)[0].cpu().numpy()
            measured = measure(full, cut, settings, self.box, self.size_hw)
            if isinstance(measured, str):
                tally[measured] += 1
                continue
            rle, area, box, stability = measured
            found.append(Found(rle, area, box, score, stability, seeds[row], self.box))
        return found, tally

    def _refined(
        self, image: EncodedImages, prompts: FramePrompts, rows: Tensor, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give (n, h, w) masks back to the model, beside the prompts that `rows` (n,) names.

        Returns:
            Logits (n, h, w) and scores (n,).
        """
        limit = self.model.policy.logit_limit
        masks = logits if limit is None else logits.clamp(-limit, limit)
        again, scores = [], []
        for places in in_parts(range(len(rows)), self._at_once()):
            part = slice(places[0], places[-1] + 1)
            index, given = rows[part], masks[part].unsqueeze(1)
            repeated = FramePrompts(prompts.point_coords[index], prompts.point_labels[index], given)
            single = self.model.score(image, repeated, multimask_output=False)
            again.append(single.draw_all()[:, 0].float())
            scores.append(single.iou_scores[:, 0].float())
        return torch.cat(again), torch.cat(scores)

    def _at_once(self) -> int:
        """Return how many prompts to decode together."""
        most, device = self.settings.points_per_batch, self.model.device
        # On an accelerator the caller knows the memory there is; on a CPU the cache is the limit.
        return min(most, prompts_at_once(device)) if device.type == "cpu" else most


def measure(
    logits: NDArray[np.float32],
    threshold: float,
    settings: AutomaticSettings,
    crop_box: CropBox,
    size_hw: tuple[int, int],
) -> tuple[dict[str, Any], int, tuple[int, int, int, int], float] | str:
    """Return RLE, area, inclusive box and stability of one mask, or by which rule it is to go.

    It goes by 'stability_score_thresh' if it is not stable enough, and by 'crop_edge' if it comes
    near an edge of the crop inside the image of `size_hw`. Logits are (H, W) of the crop, at full
    size, cut at `threshold`.
    """
    stability = stability_score(logits, threshold, settings.stability_score_offset)
    if stability < _effective(settings.stability_score_thresh):
        return "stability_score_thresh"
    mask = logits > threshold
    x0, y0, x1, y1 = inclusive_box(mask)
    left, top = crop_box[:2]
    box = (x0 + left, y0 + top, x1 + left, y1 + top)
    if near_crop_edge([box], crop_box, size_hw)[0]:
        return "crop_edge"
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
    return {
        "segmentation": segmentation_of(mask.rle, output_mode),
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


def _effective(threshold: float) -> float:
    """Return a threshold, or one that everything passes if it is 0 or less."""
    return threshold if threshold > 0 else -np.inf
