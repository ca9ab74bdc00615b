"""Smooth masks by growing and shrinking them."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.ops.rle import as_mask


def refine_mask(mask: ArrayLike, kernel_size: int = 5, iterations: int = 2) -> NDArray[np.bool_]:
    """Close gaps, then remove noise, with an elliptic kernel.

    What is outside the image is neither foreground nor background, so that its edge eats nothing.

    Args:
        mask: (H, W) bool.
        kernel_size: Width and height of the kernel, pixels.
        iterations: Times each step of growing or shrinking is repeated.

    Raises:
        InputError: Another shape or type, or a size or count below 1.

    Examples:
        >>> mask = np.ones((9, 9), bool)
        >>> mask[4, 4] = False
        >>> bool(refine_mask(mask, 3, 1).all())
        True
    """
    array = as_mask(mask)
    if kernel_size < 1 or iterations < 1:
        raise InputError(
            "expected a kernel size and iterations of at least 1, "
            f"got {kernel_size} and {iterations}"
        )
    kernel = elliptic_kernel(kernel_size)
    grow = partial(ndimage.binary_dilation, structure=kernel, iterations=iterations)
    shrink = partial(
        ndimage.binary_erosion, structure=kernel, iterations=iterations, border_value=1
    )
    return np.asarray(grow(shrink(shrink(grow(array)))))


def elliptic_kernel(size: int) -> NDArray[np.bool_]:
    """Return the ellipse inscribed in a square of a side of at least 1.

    Examples:
        >>> elliptic_kernel(3).astype(int).tolist()
        [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    radius = size // 2
    kernel = np.zeros((size, size), np.bool_)
    for row in range(size):
        rise = row - radius
        share = 1 - (rise / radius) ** 2 if radius else 1.0
        reach = round(radius * float(np.sqrt(max(share, 0.0))))
        kernel[row, max(radius - reach, 0) : min(radius + reach + 1, size)] = True
    return kernel
