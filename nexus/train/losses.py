"""What a mask is trained by: dice, focal, cross entropy, and SAM's mixture with its score head.

Follows "Focal Loss for Dense Object Detection" (arXiv 1708.02002), "V-Net" (arXiv 1606.04797) for
dice, and "Segment Anything" (arXiv 2304.02643), appendix A, for the mixture.

One rule of sizes: where logits (..., h, w) and masks (..., H, W) differ in size, the masks are
resized to the logits, each of which then has the share of its rectangle that is mask. Both must
show the same frame, so that another aspect is refused: the logits of a model cover its square
frame, and `truths_to_frame` brings masks of any image there.

One rule of axes: masks may lack the axis of candidates that logits (..., M, h, w) have, or have 1
there; all candidates then have the same truth. A list of logits, as a model gives for images with
unequal numbers of prompts, goes with a list of masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nexus.core.errors import InputError
from nexus.core.types import Geometry
from nexus.core.words import counted

Reduction = Literal["mean", "none"]
Maps: TypeAlias = Tensor | Sequence[Tensor]


def dice_loss(
    logits: Maps,
    masks: Any,
    *,
    valid: Any = None,
    smooth: float = 1.0,
    reduction: Reduction = "mean",
) -> Any:
    """Return 1 - (2 |A B| + smooth) / (|A| + |B| + smooth) of probabilities and masks.

    Args:
        logits: (..., h, w) before the sigmoid.
        masks: (..., H, W) bool, or float shares in [0, 1].
        valid: Weights of the pixels, 0 for those that count for nothing; broadcast to the logits
            after being resized like the masks. None counts all.
        smooth: Pixels; what lets an empty mask have a gradient.
        reduction: 'mean' over all masks, or 'none' for one value per mask, (...).

    Raises:
        InputError: Shapes that do not go together, or an unknown reduction.
    """

    def each(logits: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
        probs = logits.sigmoid()
        overlap = _total(probs * truth, weight)
        return 1 - (2 * overlap + smooth) / (_total(probs, weight) + _total(truth, weight) + smooth)

    return _over_masks(each, logits, masks, valid, reduction)


def focal_loss(
    logits: Maps,
    masks: Any,
    *,
    valid: Any = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
) -> Any:
    """Return the focal loss, the mean over the pixels of each mask.

    A pixel that is mask by a share s has s times the loss of mask and 1 - s times that of
    background, as the pixels it stands for have together. Mask pixels weigh `alpha`, background
    1 - alpha, or both 1 where it is None; `gamma` is how little what is already right counts, 0
    is cross entropy. Other arguments and errors are those of `dice_loss`.
    """
    inside, outside = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def each(logits: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
        probs = logits.sigmoid()
        as_mask = (1 - probs) ** gamma * F.softplus(-logits)
        as_background = probs**gamma * F.softplus(logits)
        return _mean(inside * truth * as_mask + outside * (1 - truth) * as_background, weight)

    return _over_masks(each, logits, masks, valid, reduction)


def bce_loss(logits: Maps, masks: Any, *, valid: Any = None, reduction: Reduction = "mean") -> Any:
    """Return the binary cross entropy, the mean over the pixels of each mask.

    Arguments and errors are those of `dice_loss`.
    """

    def each(logits: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
        return _mean(loss, weight)

    return _over_masks(each, logits, masks, valid, reduction)


def iou_head_loss(
    scores: Maps, logits: Maps, masks: Any, *, valid: Any = None, reduction: Reduction = "mean"
) -> Any:
    """Return the squared error of predicted IoU against that of the masks drawn.

    A drawn mask is where logits are above 0; a truth where its share is at least a half. Two
    empty ones have IoU 1. The gradient reaches the scores alone, (...) one for each mask. Other
    arguments are those of `dice_loss`.

    Raises:
        InputError: As in `dice_loss`, or scores of another shape than the masks.
    """
    actual = _over_masks(_iou, logits, masks, valid, "none")
    given, wanted = _listed(scores), _listed(actual)
    have, want = ([tuple(tensor.shape) for tensor in group] for group in (given, wanted))
    if have != want:
        raise InputError(f"expected one score for each mask, shape {want}, got {have}")
    losses = [(s.float() - iou).square() for s, iou in zip(given, wanted, strict=True)]
    return _reduced(losses, isinstance(actual, list), reduction)


def sam_loss(
    logits: Maps,
    scores: Maps,
    masks: Any,
    *,
    valid: Any = None,
    focal_weight: float = 20.0,
    dice_weight: float = 1.0,
    iou_weight: float = 1.0,
    reduction: Reduction = "mean",
) -> Any:
    """Return SAM's mixture: focal and dice of the best candidate, and the error of all scores.

    Of several candidates the one with the least focal and dice loss learns, so that each can
    become good at another reading of an ambiguous prompt; every score learns.

    Args:
        logits: (..., M, h, w).
        scores: (..., M) predicted IoU.
        masks: (..., H, W), one truth for each prompt, or (..., 1, H, W).
        valid: As in `dice_loss`.
        focal_weight: Weight of the focal loss.
        dice_weight: Weight of the dice loss.
        iou_weight: Weight of the mean squared error of the scores.
        reduction: 'mean' over all prompts, or 'none' for one value per prompt, (...).

    Raises:
        InputError: As in `iou_head_loss`.
    """
    focal = focal_loss(logits, masks, valid=valid, reduction="none")
    dice = dice_loss(logits, masks, valid=valid, reduction="none")
    iou = iou_head_loss(scores, logits, masks, valid=valid, reduction="none")
    losses = []
    for of_focal, of_dice, of_iou in zip(*map(_listed, (focal, dice, iou)), strict=True):
        if of_focal.ndim < 1:
            raise InputError("expected logits (..., M, h, w) with candidates, got one mask alone")
        drawn = focal_weight * of_focal + dice_weight * of_dice  # (..., M)
        losses.append(drawn.amin(-1) + iou_weight * of_iou.mean(-1))
    return _reduced(losses, isinstance(focal, list), reduction)


def truths_to_frame(
    masks: NDArray[np.bool_] | Tensor,
    geometry: Geometry,
    size_hw: tuple[int, int],
    ignored: NDArray[np.bool_] | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Bring masks of an original image to where the logits of a model show them.

    Each logit covers a rectangle of the original, by fractions of pixels if need be. Padding is
    neither mask nor background: it has weight 0, so that nothing is learnt there.

    Args:
        masks: (P, H, W) bool or float shares, of the original image.
        geometry: How the image lies in the model frame: `embedding.geometry`.
        size_hw: (h, w) of the logits.
        ignored: (H, W) bool, pixels that count for nothing; None for none.

    Returns:
        Shares (P, h, w) in [0, 1], what part of each logit's rectangle is mask; and weights
        (h, w) in [0, 1], what part of it is image and counts, for `valid=`. On the device of the
        masks.

    Raises:
        InputError: Masks or ignored pixels of another size than the image.
    """
    truth = torch.as_tensor(masks)
    original = geometry.original_size_hw
    if truth.ndim != 3 or tuple(truth.shape[-2:]) != original:
        raise InputError(
            f"expected masks of shape (P, {original[0]}, {original[1]}), the image's size, "
            f"got shape {tuple(truth.shape)}"
        )
    rows, columns = (
        _edges(cells, original[axis], geometry.resized_size_hw[axis], geometry.input_side)
        for axis, cells in enumerate(size_hw)
    )
    counted = torch.ones(original, device=truth.device)
    if ignored is not None:
        left_out = torch.as_tensor(ignored, device=truth.device)
        if tuple(left_out.shape) != original:
            raise InputError(
                f"expected ignored pixels of the image's size {original}, "
                f"got shape {tuple(left_out.shape)}"
            )
        counted = counted - left_out.float()
    # Ignored pixels say nothing about the share of the rectangle they are in.
    area = _areas(counted, rows, columns)
    whole = float((rows[1] - rows[0]) * (columns[1] - columns[0]))
    shares = truth.new_zeros(len(truth), *size_hw, dtype=torch.float32)
    for index, mask in enumerate(truth):
        shares[index] = _areas(mask.float() * counted, rows, columns) / area.clamp(min=1e-6 * whole)
    return shares.clamp_(0, 1), (area / whole).clamp_(0, 1)


def _edges(cells: int, original: int, resized: int, side: int) -> Tensor:
    """Return where the cells of an axis of the frame begin and end in the original, (cells + 1,).

    Those in the padding lie outside, so that no pixel is in them.
    """
    return torch.arange(cells + 1, dtype=torch.float64) * (side / cells * original / resized)


def _areas(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sum (..., H, W) over rectangles, fractions of pixels included: (..., h, w)."""
    return _sums(_sums(x.double(), columns).mT, rows).mT.float()


def _sums(x: Tensor, edges: Tensor) -> Tensor:
    """Sum (..., n) between each two edges: (..., cells)."""
    n = x.shape[-1]
    total = F.pad(x.cumsum(-1), (1, 0))  # (..., n + 1)
    edges = edges.to(x.device).clamp(max=n)
    pixel = edges.long().clamp(max=n - 1)
    return (total[..., pixel] + x[..., pixel] * (edges - pixel)).diff(dim=-1)


_Each = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def _over_masks(each: _Each, logits: Maps, masks: Any, valid: Any, reduction: str) -> Any:
    """Apply a loss (..., h, w) -> (...) to logits and masks brought together."""
    if isinstance(logits, Tensor):
        return _reduced([each(*_aligned(logits, masks, valid))], False, reduction)
    weights = [None] * len(logits) if valid is None else valid
    if not len(logits) == len(masks) == len(weights):
        raise InputError(
            f"expected masks and weights for each of {counted(len(logits), 'image')}, "
            f"got {len(masks)} and {len(weights)}"
        )
    images = zip(logits, masks, weights, strict=True)
    return _reduced([each(*_aligned(*image)) for image in images], True, reduction)


def _listed(maps: Maps) -> list[Tensor]:
    """Return those of a batch, or of images one by one, as a list."""
    return [maps] if isinstance(maps, Tensor) else list(maps)


def _reduced(losses: list[Tensor], listed: bool, reduction: str) -> Any:
    """Return the mean over all masks of all images, or the losses as they are."""
    if reduction == "none":
        return losses if listed else losses[0]
    if reduction != "mean":
        raise InputError(f"expected reduction 'mean' or 'none', got {reduction!r}")
    flat = torch.cat([loss.reshape(-1) for loss in losses])
    # Images without prompts have nothing to learn, and the mean of nothing is not a number.
    return flat.mean() if len(flat) else flat.sum()


def _aligned(logits: Tensor, masks: Any, valid: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bring masks and weights to the size, axes and device of logits, in float32."""
    if not isinstance(logits, Tensor) or logits.ndim < 2 or not logits.is_floating_point():
        raise InputError(f"expected float logits of shape (..., h, w), got {_shown(logits)}")
    truth = _resized(torch.as_tensor(masks, device=logits.device), logits, "masks")
    if truth.ndim == logits.ndim - 1:
        truth = truth.unsqueeze(-3)
    if truth.ndim != logits.ndim or any(
        have != want and not (have == 1 and axis == logits.ndim - 3)
        for axis, (have, want) in enumerate(zip(truth.shape, logits.shape, strict=True))
    ):
        raise InputError(
            f"expected masks for logits of shape {tuple(logits.shape)}, "
            f"got shape {tuple(torch.as_tensor(masks).shape)}",
            hint="one mask for each mask of the logits, or one for all M candidates of a prompt",
        )
    weight = None
    if valid is not None:
        weight = _resized(torch.as_tensor(valid, device=logits.device), logits, "weights")
        lacking = logits.ndim - weight.ndim
        if lacking < 0 or any(
            have not in (1, want)
            for have, want in zip(weight.shape, logits.shape[lacking:], strict=True)
        ):
            raise InputError(
                f"expected weights that broadcast to {tuple(logits.shape)}, "
                f"got shape {tuple(weight.shape)}"
            )
    return logits.float(), truth, weight


def _resized(maps: Tensor, logits: Tensor, what: str) -> Tensor:
    """Resize maps (..., H, W) to (..., h, w) of logits by area."""
    if maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise InputError(f"expected {what} of shape (..., H, W), got {_shown(maps)}")
    (height, width), (h, w) = maps.shape[-2:], logits.shape[-2:]
    if (height, width) == (h, w):
        return maps.float()
    # Rounding a side moves it by half a pixel at most; more is another frame.
    if abs(height * w / width - h) > 0.5:
        raise InputError(
            f"expected {what} of the aspect of the logits, {h} x {w}, got {height} x {width}",
            hint="logits cover the model's square frame; bring masks there with "
            "nexus.train.losses.truths_to_frame(masks, embedding.geometry, logits.shape[-2:])",
        )
    rows, columns = (_edges(cells, n, n, n) for cells, n in ((h, height), (w, width)))
    return _areas(maps, rows, columns) * (h / height * w / width)


def _iou(logits: Tensor, truth: Tensor, weight: Tensor | None) -> Tensor:
    """Return the IoU of drawn and true masks."""
    drawn, true = logits.detach() > 0, truth >= 0.5
    overlap, either = _total((drawn & true).float(), weight), _total((drawn | true).float(), weight)
    return torch.where(either > 0, overlap / either.clamp(min=1e-6), torch.ones_like(either))


def _total(x: Tensor, weight: Tensor | None) -> Tensor:
    """Sum over the pixels of each map."""
    return (x if weight is None else x * weight).sum((-2, -1))


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """Average over the pixels of each map; 0 where none counts."""
    if weight is None:
        return x.mean((-2, -1))
    return _total(x, weight) / weight.expand_as(x).sum((-2, -1)).clamp(min=1e-6)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
