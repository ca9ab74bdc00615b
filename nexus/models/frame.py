"""Carry images, prompts and masks between the original image and the model frame.

This is the only place where a policy is applied. Nothing here has weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nexus.core.errors import PromptError
from nexus.core.types import Geometry, ImageEmbedding, Prompt
from nexus.models.policy import Policy
from nexus.nn.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, PADDING
from nexus.ops.resize import longest_side_size, resize_image, resize_logits

# A bool mask enters as logits of this size: as sure as the logits SAM itself gives.
_MASK_LOGIT = 10.0


def geometry_of(size_hw: tuple[int, int], policy: Policy) -> Geometry:
    """Return how an image of `size_hw` lies in the frame of `policy`."""
    side = policy.input_side
    resized = (side, side) if policy.resize == "square" else longest_side_size(size_hw, side)
    if policy.box_scale == "longest_side":
        scale = side / max(size_hw)
        scale_xy = (scale, scale)
    else:
        scale_xy = (resized[1] / size_hw[1], resized[0] / size_hw[0])
    return Geometry(size_hw, resized, side, scale_xy)


def image_to_frame(image: NDArray[np.generic], policy: Policy) -> tuple[Tensor, Geometry]:
    """Preprocess one (H, W, 3) RGB image; uint8, uint16, or float32 in [0, 1].

    Returns a float32 (3, S, S) tensor, and how the image lies in it.
    """
    geometry = geometry_of((image.shape[0], image.shape[1]), policy)
    # The type changes, the range of values does not.
    source = image if policy.resize_as == "source" else image.astype(np.float32, copy=False)
    resized = resize_image(source, geometry.resized_size_hw, policy.interpolation)
    values = np.asarray(resized, np.float32)
    if policy.normalize == "min_max":
        low, high = values.min(), values.max()
        values = (values - low) / max(high - low, np.float32(1e-8))
    else:
        # The mean and deviation are stated for 0..255.
        if image.dtype == np.uint16:
            values = values / np.float32(257)
        elif image.dtype != np.uint8:
            values = values * np.float32(255)
        mean, std = (np.asarray(v, np.float32) for v in (policy.pixel_mean, policy.pixel_std))
        values = (values - mean) / std
    height, width = geometry.resized_size_hw
    padding = (0, policy.input_side - width, 0, policy.input_side - height)
    return F.pad(torch.from_numpy(values).permute(2, 0, 1), padding), geometry


class FramePrompts(NamedTuple):
    """The prompts of P objects in the model frame, alike in length and kind.

    Attributes:
        point_coords: (P, N, 2) XY in the model frame.
        point_labels: (P, N).
        mask_input: (P, 1, 4 gh, 4 gw) logits, or None.
    """

    point_coords: Tensor
    point_labels: Tensor
    mask_input: Tensor | None

    def to(self, device: torch.device) -> FramePrompts:
        """Return them on `device`."""
        coords, labels, mask = self
        mask = None if mask is None else mask.to(device)
        return FramePrompts(coords.to(device), labels.to(device), mask)


def token_count(prompt: Prompt, policy: Policy) -> int:
    """Return the number of sparse tokens a prompt becomes; equal counts can share a batch."""
    return len(_tokens(prompt, policy)[1])


def prompts_to_frame(
    prompts: Sequence[Prompt],
    geometry: Geometry | Sequence[Geometry],
    mask_size_hw: tuple[int, int],
    policy: Policy,
) -> FramePrompts:
    """Scale prompts of equal `token_count`, all with or all without a mask, to the model frame.

    Prompts are in original pixels; the geometry is that of the image they are for, or one of each.
    A mask prompt has the size (4 gh, 4 gw).

    Raises:
        PromptError: A mask of another size.
    """
    each = [geometry] * len(prompts) if isinstance(geometry, Geometry) else geometry
    coords, labels, masks = [], [], []
    for prompt, own in zip(prompts, each, strict=True):
        points, kinds = _tokens(prompt, policy)
        coords.append(points * np.asarray(own.scale_xy, np.float64))
        labels.append(kinds)
        if prompt.mask is not None:
            masks.append(mask_to_frame(prompt.mask, own, mask_size_hw))
    return FramePrompts(
        torch.from_numpy(np.stack(coords)).float(),
        torch.from_numpy(np.stack(labels)),
        torch.stack(masks) if masks else None,
    )


def _tokens(prompt: Prompt, policy: Policy) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a prompt's points and box corners as (N, 2) coordinates and (N,) labels."""
    points = np.zeros((0, 2)) if prompt.points is None else prompt.points.astype(np.float64)
    labels = np.zeros(0, np.int64) if prompt.labels is None else prompt.labels
    if prompt.box is not None:
        points = np.concatenate([points, prompt.box.reshape(2, 2)])
        labels = np.concatenate([labels, [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]])
    if len(points) and (prompt.box is None or policy.padding_point == "always"):
        points = np.concatenate([points, np.zeros((1, 2))])
        labels = np.concatenate([labels, [PADDING]])
    return points, labels


def mask_to_frame(
    mask: NDArray[np.generic], geometry: Geometry, mask_size_hw: tuple[int, int]
) -> Tensor:
    """Return a mask prompt as (1, 4 gh, 4 gw) logits.

    Raises:
        PromptError: Neither logits of that size nor a bool mask of the original image.
    """
    _check_mask(mask, geometry, mask_size_hw)
    if mask.dtype != np.bool_:
        return torch.from_numpy(np.ascontiguousarray(mask, np.float32)).unsqueeze(0)
    inside = _inside_size(geometry, mask_size_hw)
    source = torch.from_numpy(mask.astype(np.float32))[None, None]
    share = F.interpolate(source, size=inside, mode="bilinear", antialias=True)[0]
    padding = (0, mask_size_hw[1] - inside[1], 0, mask_size_hw[0] - inside[0])
    return (F.pad(share, padding) * 2 - 1) * _MASK_LOGIT


def check_fits(prompt: Prompt, embedding: ImageEmbedding) -> None:
    """Refuse a prompt that an encoded image cannot have.

    Raises:
        PromptError: A point or box outside the image, or a mask of another size.
    """
    prompt.check_within(embedding.original_size_hw)
    if prompt.mask is not None:
        _, gh, gw = embedding.features.shape
        _check_mask(prompt.mask, embedding.geometry, (4 * gh, 4 * gw))


def _check_mask(
    mask: NDArray[np.generic], geometry: Geometry, mask_size_hw: tuple[int, int]
) -> None:
    if mask.dtype != np.bool_:
        if mask.shape != mask_size_hw:
            raise PromptError(
                f"expected mask logits of shape {mask_size_hw}, got {mask.shape}",
                hint="pass low_res_logits of an earlier result, or a bool mask of the image",
            )
    elif mask.shape != geometry.original_size_hw:
        raise PromptError(
            f"expected a bool mask of the image's size {geometry.original_size_hw}, "
            f"got {mask.shape}"
        )


def logits_to_original(logits: Tensor, geometry: Geometry, policy: Policy) -> Tensor:
    """Resize (M, h, w) mask logits of the model frame to (M, H, W) of the original image."""
    if policy.upscale == "via_input":
        side = (geometry.input_side, geometry.input_side)
        height, width = geometry.resized_size_hw
        logits = resize_logits(logits, side)[..., :height, :width]
    else:
        height, width = _inside_size(geometry, (logits.shape[-2], logits.shape[-1]))
        logits = logits[..., :height, :width]
    return resize_logits(logits, geometry.original_size_hw)


def masks_to_original(logits: Tensor, geometry: Geometry, policy: Policy) -> NDArray[np.bool_]:
    """Resize and threshold (M, h, w) logits to bool (M, H, W) masks, one at a time.

    One at a time, because the logits of a large image at full size are four bytes a pixel.
    """
    masks = np.empty((len(logits), *geometry.original_size_hw), np.bool_)
    for index, candidate in enumerate(logits):
        full = logits_to_original(candidate[None], geometry, policy)[0]
        masks[index] = (full > policy.mask_threshold).cpu().numpy()
    return masks


def with_input_side(policy: Policy, input_side: int | None) -> Policy:
    """Return `policy` at another input side; None keeps it."""
    return policy if input_side is None else dataclasses.replace(policy, input_side=input_side)


def _inside_size(geometry: Geometry, frame_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the part of a map of the whole frame that the image covers."""
    height, width = (
        max(1, round(resized * frame / geometry.input_side))
        for resized, frame in zip(geometry.resized_size_hw, frame_hw, strict=True)
    )
    return height, width
