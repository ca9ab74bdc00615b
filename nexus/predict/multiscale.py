"""One prompt at several scales of the image, put to the vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.core.types import Prompt, PromptLike
from nexus.data.images.loading import ImageLike, load_image
from nexus.models.promptable import PromptableModel
from nexus.ops.masks import vote
from nexus.ops.resize import resize_image


def multiscale_segment(
    image: ImageLike,
    predictor: PromptableModel,
    point: PromptLike,
    scales: Sequence[float] = (0.5, 1.0, 2.0),
) -> NDArray[np.bool_]:
    """Return the mask that more than half of the scales agree on.

    A model resizes every image to its own frame, so that scales below 1 show it a coarser image
    and scales above 1 the same one, interpolated; the vote evens out chance.

    Args:
        image: Whatever `nexus.data.images.load_image` reads.
        predictor: Any model of Nexus.
        point: An (x, y) point or any other prompt, in pixels of the image.
        scales: Factors of the image's sides, each above 0.

    Returns:
        (H, W) bool.

    Raises:
        InputError: No scale, or one that is not above 0.
        ImageError: The image cannot be read or used.
        PromptError: The prompt is malformed or does not fit the image.
    """
    if not scales or not all(scale > 0 for scale in scales):
        raise InputError(f"expected one or more scales above 0, got {list(scales)}")
    array = load_image(image)
    size_hw = (array.shape[0], array.shape[1])
    prompt = Prompt.of(point)
    prompt.check_within(size_hw)
    masks = []
    for scale in scales:
        height, width = (max(1, int(side * scale)) for side in size_hw)
        factor_xy = (width / size_hw[1], height / size_hw[0])
        resized = resize_image(array, (height, width), "bilinear")
        if array.dtype == np.uint16:  # the type says what the values mean
            resized = resized.round().clip(0, 65535).astype(np.uint16)
        scaled = predictor.predict(
            resized,
            _scaled(prompt, factor_xy, (height, width)),
            multimask_output=True if prompt.box is None else None,
        )
        masks.append(_resized_mask(scaled.best, size_hw))
    return vote(masks)


def _scaled(prompt: Prompt, factor_xy: tuple[float, float], size_hw: tuple[int, int]) -> Prompt:
    """Scale a prompt; logits in the model frame stay, since the frame does."""
    factor = np.array(factor_xy, np.float32)
    mask = prompt.mask
    if mask is not None and mask.dtype == np.bool_:
        mask = _resized_mask(mask, size_hw)
    return Prompt(
        None if prompt.points is None else prompt.points * factor,
        prompt.labels,
        None if prompt.box is None else prompt.box * np.tile(factor, 2),
        mask,
    )


def _resized_mask(mask: NDArray[np.bool_], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize a mask bilinearly and cut it in the middle."""
    if mask.shape == size_hw:
        return mask
    share = torch.from_numpy(mask.astype(np.float32))[None, None]
    resized: NDArray[np.bool_] = (
        F.interpolate(share, size=size_hw, mode="bilinear", antialias=True)[0, 0] > 0.5
    ).numpy()
    return resized
