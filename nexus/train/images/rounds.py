"""The rounds of a decoder call: point at objects, weigh the answers, correct them.

Everything random comes from the generators of the call, see `nexus.train.images.plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus.core.types import Geometry, ImageEmbedding, Prompt
from nexus.data.clicks.sampling import Click, error_click, jittered_box
from nexus.train.config import BOXES, Kind, LossSettings, PromptSettings
from nexus.train.images.plan import Call
from nexus.train.images.sets import ObjectView
from nexus.train.losses import bce_loss, dice_loss, focal_loss, iou_head_loss

_INNER_DEPTH = 0.3
_NEAR_SPREAD = 0.4  # of the logarithm of a near box's sides
_NEAR_LEAST_PX = 2.0  # half a side
_KNOWN_DICE = 0.9  # what the base answers as well as this is kept


@dataclass(frozen=True)
class Round:
    """What one round of a call gave.

    Attributes:
        loss: The sum that is learnt from, mean over rows, with its gradient.
        parts: Its summands before their weights.
    """

    loss: Tensor
    parts: dict[str, float]


Decode = Callable[[Sequence[ImageEmbedding], Sequence[Prompt], bool], tuple[Tensor, Tensor]]


def rounds_of(
    call: Call,
    decode: Decode,
    embeddings: Sequence[ImageEmbedding],
    prompts: PromptSettings,
    weights: LossSettings,
    logit_limit: float | None = None,
    base: Decode | None = None,
) -> Iterator[Round]:
    """Prompt, yield the loss, correct, and so on.

    The next round needs no gradient of the last one, so that a loss may be freed when it has been
    yielded.

    Args:
        call: The rows.
        decode: As `nexus.models.forward.decode_alike` of a model.
        embeddings: One for each row.
        prompts: Whether a click alone has candidates, and how far boxes are off.
        weights: Of the loss.
        logit_limit: Mask prompts are clipped to this on both sides, as `predict` gives them.
        base: The model as it came, whose answers to boxes are kept if `weights` say so; calls of
            kind 'near_box' need it.
    """
    device = embeddings[0].features.device
    truth, valid = (
        torch.from_numpy(np.stack([getattr(view, name) for view in call.views])).to(device).float()
        for name in ("truth", "valid")
    )
    has_truth = call.kind != "near_box"
    asked = _first_prompts(call, prompts)
    for number in range(len(call.mask_prompts) + 1):
        several = prompts.candidates and number == 0 and call.kind not in BOXES
        logits, scores = decode(embeddings, asked, several)
        logits, scores = logits.float(), scores.float()
        one = Round(logits.new_zeros(()), {})
        if has_truth:
            one = combined_loss(logits, scores, truth, valid, weights)
        if base is not None and weights.keep and number == 0 and call.kind in BOXES:
            with torch.no_grad():
                known = base(embeddings, asked, several)[0].float()
            kept = keeping_loss(logits, known, truth if has_truth else None, valid)
            parts = {**one.parts, "keep": float(kept.detach())}
            one = Round(one.loss + weights.keep * kept, parts)
        yield one
        if number < len(call.mask_prompts):
            best = _best(logits.detach(), scores.detach(), logit_limit)
            asked = _corrected(call, asked, best, call.mask_prompts[number])


def combined_loss(
    logits: Tensor, scores: Tensor, truth: Tensor, valid: Tensor, weights: LossSettings
) -> Round:
    """Weigh the losses; of several candidates the one with the least mask loss learns.

    The score head learns from all candidates.

    Args:
        logits: (P, M, h, w).
        scores: (P, M).
        truth: (P, h, w) shares in [0, 1].
        valid: (P, h, w) weights of the pixels, in [0, 1].
        weights: Of the summands.
    """
    shown: dict[str, Any] = {
        "masks": truth.unsqueeze(1),
        "valid": valid.unsqueeze(1),
        "reduction": "none",
    }
    kinds = {"dice": dice_loss, "bce": bce_loss, "focal": focal_loss}
    each = {name: loss(logits, **shown) for name, loss in kinds.items() if getattr(weights, name)}
    drawn = logits.new_zeros(logits.shape[:2])  # (P, M)
    for name, value in each.items():
        drawn = drawn + getattr(weights, name) * value
    best = drawn.detach().argmin(1, keepdim=True)
    loss = drawn.gather(1, best).mean()
    parts = {name: float(value.detach().gather(1, best).mean()) for name, value in each.items()}
    if weights.iou:
        error = iou_head_loss(scores, logits, **shown).mean()
        loss, parts["iou"] = loss + weights.iou * error, float(error.detach())
    return Round(loss, parts)


def keeping_loss(logits: Tensor, known: Tensor, truth: Tensor | None, valid: Tensor) -> Tensor:
    """Return how far answers have gone from those of the base, the mean over rows.

    Follows "Learning without Forgetting" (arXiv 1606.09282): cross entropy with the base's
    probabilities. Where there is a truth, rows count whose base's Dice with it is at least 0.9,
    and the others are 0.

    Args:
        logits: (P, 1, h, w).
        known: (P, 1, h, w) logits of the base for the same prompts.
        truth: As in `combined_loss`; None counts all rows.
        valid: As in `combined_loss`.
    """
    shown: dict[str, Any] = {"valid": valid.unsqueeze(1), "reduction": "none"}
    drift: Tensor = bce_loss(logits, known.sigmoid(), **shown)  # (P, 1)
    if truth is not None:
        drift = drift * (dice_loss(known, truth.unsqueeze(1), **shown) <= 1 - _KNOWN_DICE)
    kept: Tensor = drift.mean()
    return kept


def _best(logits: Tensor, scores: Tensor, limit: float | None) -> NDArray[np.float32]:
    """Return the (P, h, w) logits of the candidate with the highest score."""
    rows = torch.arange(len(logits), device=logits.device)
    best = logits[rows, scores.argmax(1)]
    given: NDArray[np.float32] = (
        (best if limit is None else best.clamp(-limit, limit)).cpu().numpy()
    )
    return given


def _first_prompts(call: Call, settings: PromptSettings) -> list[Prompt]:
    pairs = zip(call.views, call.generators, strict=True)
    return [_first_prompt(call.kind, view, rng, settings) for view, rng in pairs]


def _first_prompt(
    kind: Kind, view: ObjectView, rng: np.random.Generator, settings: PromptSettings
) -> Prompt:
    if kind == "centre":
        return Prompt(points=[view.centre_xy])
    if kind == "box":
        return Prompt(box=view.box_xyxy)
    if kind == "jittered_box":
        return Prompt(
            box=jittered_box(
                view.box_xyxy,
                view.geometry.original_size_hw,
                rng,
                share=settings.box_jitter,
                limit_px=settings.box_jitter_px,
            )
        )
    if kind == "near_box":
        return Prompt(box=_near_box(view, rng))
    return Prompt(points=[_to_view(_drawn(kind, view, rng), view)])


def _near_box(view: ObjectView, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return a box whose middle is in the object's box, of about its size, within the view."""
    height, width = view.geometry.original_size_hw
    x0, y0, x1, y1 = view.box_xyxy
    x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
    half_w, half_h = np.exp(rng.normal(0, _NEAR_SPREAD, 2)) * ((x1 - x0) / 2, (y1 - y0) / 2)
    half_w, half_h = max(half_w, _NEAR_LEAST_PX), max(half_h, _NEAR_LEAST_PX)
    left, top = max(0.0, x - half_w), max(0.0, y - half_h)
    return left, top, min(float(width), x + half_w), min(float(height), y + half_h)


def _drawn(kind: Kind, view: ObjectView, rng: np.random.Generator) -> tuple[float, float]:
    """Return a random decoder pixel of the object, one deep inside it for 'inner'."""
    least = rng.uniform(_INNER_DEPTH, 1) * 255 if kind == "inner" else 1
    places = np.flatnonzero(view.depth >= least)
    row, column = divmod(int(places[rng.integers(len(places))]), view.depth.shape[1])
    return float(column), float(row)


def _to_view(frame_xy: tuple[float, float], view: ObjectView) -> tuple[float, float]:
    """Carry a decoder pixel to the pixels of the view, between pixel centres."""
    return frame_to_original(frame_xy, (view.truth.shape[0], view.truth.shape[1]), view.geometry)


def frame_to_original(
    frame_xy: tuple[float, float], frame_hw: tuple[int, int], geometry: Geometry
) -> tuple[float, float]:
    """Return where the centre of a decoder pixel is, as an original pixel index.

    Args:
        frame_xy: Column and row in the decoder's mask.
        frame_hw: Size of the decoder's mask.
        geometry: How the original lies in the model frame.
    """
    x, y = (
        ((place + 0.5) * geometry.input_side / length - 0.5) / scale
        for place, length, scale in zip(
            frame_xy, (frame_hw[1], frame_hw[0]), geometry.scale_xy, strict=True
        )
    )
    height, width = geometry.original_size_hw
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)


def _corrected(
    call: Call, asked: Sequence[Prompt], best: NDArray[np.float32], with_mask: bool
) -> list[Prompt]:
    """Add a click on the largest error to each prompt, and the last mask if wanted."""
    corrected = []
    for view, rng, prompt, logits in zip(call.views, call.generators, asked, best, strict=True):
        click = error_click(view.truth > 0.5, logits > 0, view.valid < 0.5)
        if click is None:
            # Nothing is wrong, but the rows of a call must stay alike: point at it once more.
            click = Click(*_drawn("inner", view, rng), 1)
        place = _to_view((click.x, click.y), view)
        points = [] if prompt.points is None else prompt.points.tolist()
        labels = [] if prompt.labels is None else prompt.labels.tolist()
        corrected.append(
            Prompt(
                points=[*points, place],
                labels=[*labels, click.label],
                box=prompt.box,
                mask=logits if with_mask else None,
            )
        )
    return corrected
