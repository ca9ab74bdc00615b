"""What a clip teaches: SAM 2's mixture of losses over all answers on all frames.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714, appendix D.2): for every
answer on every frame 20 x focal + dice loss of the best candidate, the absolute error of all
predicted IoUs, and cross entropy of whether the object is in the frame. Objects that are not in a
frame teach only the last. Two differences are meant: the losses are taken at the size of the
logits, and averaged over objects, answers and frames rather than summed, so that a longer clip
does not take larger steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nexus.core.errors import InputError
from nexus.train.config import Checked, ranged
from nexus.train.losses import dice_loss, focal_loss, truths_to_frame
from nexus.train.video.clip_forward import Answer, ClipLogits
from nexus.train.video.clip_sampling import ClipSample


@dataclass(frozen=True)
class VideoLossSettings(Checked):
    """Weights of the summands of the loss."""

    focal: float = ranged(20.0, 0)
    dice: float = ranged(1.0, 0)
    iou: float = ranged(1.0, 0)
    object_score: float = ranged(1.0, 0)


def video_loss(
    shown: ClipLogits, sample: ClipSample, settings: VideoLossSettings | None = None
) -> dict[str, Tensor]:
    """Return the loss of a clip and its summands, before their weights, by name.

    Args:
        shown: What the model gave for the clip.
        sample: The clip, with the truth.
        settings: Weights; None for the defaults.

    Returns:
        `loss`, `focal`, `dice`, `iou` and `object_score`.

    Raises:
        InputError: Nothing was decoded: every prompt was a mask and there is no other frame.
    """
    weights = settings or VideoLossSettings()
    height, width = shown.low_res_logits.shape[-2:]
    device = shown.low_res_logits.device
    parts = []
    for answers, masks, ignored in zip(shown.answers, sample.masks, sample.ignored, strict=True):
        truths, valid = truths_to_frame(masks, shown.geometry, (height, width), ignored)
        present = torch.from_numpy((masks & ~ignored).any((1, 2))).to(device)
        truths, valid = truths.to(device), valid.to(device)
        for answer in answers:
            rows = [sample.object_ids.index(k) for k in answer.object_ids]
            parts.append(_answer_losses(answer, truths[rows], valid, present[rows], weights))
    if not parts:
        raise InputError(
            "expected at least one answer of the decoder, got none",
            hint="masks of prompts are taken as they are; add a frame that is tracked",
        )
    means = torch.cat(parts, dim=1).mean(1)  # (4,)
    names = ("focal", "dice", "iou", "object_score")
    losses = dict(zip(names, means, strict=True))
    weighed = (getattr(weights, name) * value for name, value in losses.items())
    return {"loss": sum(weighed, means.new_zeros(())), **losses}


def _answer_losses(
    answer: Answer, truths: Tensor, valid: Tensor, present: Tensor, weights: VideoLossSettings
) -> Tensor:
    """Return (4, n) losses of the n objects of one answer: focal, dice, IoU, object score.

    `truths` are (n, h, w) shares, `valid` (h, w) weights of the pixels, and `present` (n,) tells
    whether the object is in the frame. Which candidate is best depends on the weights.
    """
    logits, scores = answer.candidate_logits, answer.candidate_scores
    focal = focal_loss(logits, truths, valid=valid, reduction="none")  # (n, M)
    dice = dice_loss(logits, truths, valid=valid, reduction="none")
    best = (weights.focal * focal + weights.dice * dice).argmin(1, keepdim=True)
    drawn, true = logits.detach() > 0, (truths >= 0.5)[:, None]
    overlap, either = ((which * valid).sum((-2, -1)) for which in (drawn & true, drawn | true))
    iou = (scores - overlap / either.clamp(min=1e-6)).abs().mean(1)
    seen = present.to(iou.dtype)
    there = F.binary_cross_entropy_with_logits(answer.object_score_logits, seen, reduction="none")
    focal, dice = focal.gather(1, best)[:, 0], dice.gather(1, best)[:, 0]
    return torch.stack([focal * seen, dice * seen, iou * seen, there])
