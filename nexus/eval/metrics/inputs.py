"""What the metrics accept: two bool masks of one shape, and pixels that count for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError

Mask = NDArray[np.bool_]


def mask_pair(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    ignored: NDArray[Any] | None = None,
    ranks: tuple[int, ...] | None = None,
) -> tuple[Mask, Mask]:
    """Return both masks without the ignored pixels.

    Args:
        predicted: Bool, any shape.
        truth: Bool, the same shape.
        ignored: Bool, the same shape, True where a pixel counts for nothing; None where all count.
        ranks: Numbers of axes that make sense; None for any.

    Raises:
        InputError: Another type, different shapes, or another number of axes.
    """
    given = {"predicted": predicted, "truth": truth}
    if ignored is not None:
        given["ignored"] = ignored
    arrays = {name: _as_bool(value, name) for name, value in given.items()}
    if len({array.shape for array in arrays.values()}) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"expected masks of one shape, got {shapes}")
    one, two = arrays["predicted"], arrays["truth"]
    if ranks is not None and one.ndim not in ranks:
        wanted = " or ".join(str(rank) for rank in ranks)
        raise InputError(f"expected masks of {wanted} axes, got shape {one.shape}")
    if ignored is None:
        return one, two
    kept = ~arrays["ignored"]
    return one & kept, two & kept


def _as_bool(value: NDArray[Any], name: str) -> Mask:
    array = np.asarray(value)
    if array.dtype != np.bool_:
        raise InputError(
            f"expected {name} to be bool, got {array.dtype}",
            hint="logits: logits > 0; one object of a label map: labels == 3",
        )
    return array
