"""The rounds of a decoder call: point at objects, weigh the answers, correct them.

Everything random comes from the generators of the call, see `nexus.train.images.plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus.core.types import Geometry, ImageEmbedding, Prompt
from nexus.data.clicks.game import Answer, Game, Target
from nexus.data.clicks.sampling import Click
from nexus.train.config import LossSettings, PromptSettings
from nexus.train.images.plan import Call
from nexus.train.images.sets import ObjectView
from nexus.train.losses import bce_loss, dice_loss, focal_loss, iou_head_loss

_KNOWN_DICE = 0.9  # what the base answers as well as this is kept


Losses = tuple[Tensor, dict[str, float]]
Decode = Callable[[Sequence[ImageEmbedding], Sequence[Prompt], bool], tuple[Tensor, Tensor]]


def rounds_of(
    call: Call,
    decode: Decode,
    embeddings: Sequence[ImageEmbedding],
    prompts: PromptSettings,
    weights: LossSettings,
    logit_limit: float | None = None,
    base: Decode | None = None,
) -> Iterator[Losses]:
    """Prompt, yield the loss and its summands, correct, and so on.

    The next round needs no gradient of the last one, so that a loss may be freed when it has been
    yielded.

    Args:
        call: The rows.
        decode: As `nexus.models.promptable.decode_alike` of a model.
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
    targets = [_ViewTarget(*row) for row in zip(call.views, call.generators, strict=True)]
    for target in targets:
        target.point(call.kind, target.rng, prompts.box_jitter, prompts.box_jitter_px)
    game = Game(targets, 1 + len(call.mask_prompts))
    for with_mask in (*call.mask_prompts, False):
        asked = game.prompts
        lone_click = asked[0].box is None and len(targets[0].clicks) == 1
        multimask_output = prompts.candidates and lone_click
        logits, scores = (given.float() for given in decode(embeddings, asked, multimask_output))
        nothing: Losses = (logits.new_zeros(()), {})
        loss, parts = combined_loss(logits, scores, truth, valid, weights) if has_truth else nothing
        if base is not None and weights.keep and not targets[0].clicks:
            with torch.no_grad():
                known = base(embeddings, asked, multimask_output)[0].float()
            kept = keeping_loss(logits, known, truth if has_truth else None, valid)
            loss, parts["keep"] = loss + weights.keep * kept, float(kept.detach())
        yield loss, parts
        game.take(_best(logits.detach(), scores.detach(), logit_limit, with_mask))


def combined_loss(
    logits: Tensor, scores: Tensor, truth: Tensor, valid: Tensor, weights: LossSettings
) -> Losses:
    """Weigh the losses; of several candidates the one with the least mask loss learns.

    The score head learns from all candidates. Takes logits (P, M, h, w), scores (P, M), shares of
    truth (P, h, w) in [0, 1] and weights of the pixels `valid` (P, h, w) in [0, 1]. Returns the
    mean over rows, with its gradient, and its summands before their weights.
    """
    shown: dict[str, Any] = {"masks": truth[:, None], "valid": valid[:, None], "reduction": "none"}
    kinds = {"dice": dice_loss, "bce": bce_loss, "focal": focal_loss}
    each = {name: loss(logits, **shown) for name, loss in kinds.items() if getattr(weights, name)}
    weighed = (getattr(weights, name) * value for name, value in each.items())
    drawn = sum(weighed, logits.new_zeros(logits.shape[:2]))  # (P, M)
    best = drawn.detach().argmin(1, keepdim=True)
    loss = drawn.gather(1, best).mean()
    parts = {name: float(value.detach().gather(1, best).mean()) for name, value in each.items()}
    if weights.iou:
        error = iou_head_loss(scores, logits, **shown).mean()
        loss, parts["iou"] = loss + weights.iou * error, float(error.detach())
    return loss, parts


def keeping_loss(logits: Tensor, known: Tensor, truth: Tensor | None, valid: Tensor) -> Tensor:
    """Return how far answers have gone from those of the base, the mean over rows.

    Follows "Learning without Forgetting" (arXiv 1606.09282): cross entropy with the base's
    probabilities. Where there is a truth, rows count whose base's Dice with it is at least 0.9,
    and the others are 0; without one all rows count. `known` are (P, 1, h, w) logits of the base
    for the prompts of `logits`, of that shape too; others are as in `combined_loss`.
    """
    shown: dict[str, Any] = {"valid": valid.unsqueeze(1), "reduction": "none"}
    drift: Tensor = bce_loss(logits, known.sigmoid(), **shown)  # (P, 1)
    if truth is not None:
        drift = drift * (dice_loss(known, truth.unsqueeze(1), **shown) <= 1 - _KNOWN_DICE)
    kept: Tensor = drift.mean()
    return kept


def frame_to_original(
    frame_xy: tuple[float, float], frame_hw: tuple[int, int], geometry: Geometry
) -> tuple[float, float]:
    """Return where the centre of a pixel of the decoder's mask is, as an original pixel index.

    The mask is `frame_hw` large; `geometry` is how the original lies in the model frame.
    """
    height, width = geometry.original_size_hw
    sizes = frame_hw[::-1]
    places = (np.add(frame_xy, 0.5) * geometry.input_side / sizes - 0.5) / geometry.scale_xy
    x, y = np.clip(places, 0.0, (width - 1, height - 1)).tolist()
    return x, y


class _ViewTarget(Target):
    """An object of a view, compared with answers at the size of the decoder's masks."""

    def __init__(self, view: ObjectView, rng: np.random.Generator) -> None:
        super().__init__(view.truth > 0.5, view.valid < 0.5)
        self.view = view
        self.rng = rng

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.view.geometry.original_size_hw

    @property
    def centre(self) -> Click:
        return Click(*self.view.centre_xy, 1)

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        return self.view.box_xyxy

    def deep(self, share: float = 0.0) -> NDArray[np.bool_]:
        return np.asarray(self.view.depth >= max(share * 255, 1))

    @property
    def clicked(self) -> Sequence[Click]:
        # What was clicked is known in pixels of the image; a pixel may be clicked again.
        return ()

    def in_image(self, click: Click) -> Click:
        frame_hw = (self.truth.shape[0], self.truth.shape[1])
        place = frame_to_original((click.x, click.y), frame_hw, self.view.geometry)
        return Click(*place, click.label)

    def spare_click(self) -> Click:
        # Nothing is wrong, but the rows of a call must stay alike: point at it once more.
        return self.inner_click(self.rng)


def _best(logits: Tensor, scores: Tensor, limit: float | None, with_mask: bool) -> Iterator[Answer]:
    """Yield the (h, w) mask of each row's candidate with the highest score, and its logits."""
    rows = torch.arange(len(logits), device=logits.device)
    best = logits[rows, scores.argmax(1)]
    best = best if limit is None else best.clamp(-limit, limit)
    for row in best.cpu().numpy():
        yield row > 0, row if with_mask else None
