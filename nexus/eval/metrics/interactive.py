"""How many clicks a mask takes: the measures of interactive segmentation.

Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation" (RITM,
ICIP 2022), whose evaluation most later work follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError


@dataclass(frozen=True)
class ClickCount:
    """Number of clicks (NoC) over many objects.

    Attributes:
        threshold: The IoU to reach.
        max_clicks: What an object counts that did not reach it.
        mean: Mean clicks of an object.
        failures: Objects that did not reach the threshold within `max_clicks`.
        objects: All objects.
    """

    threshold: float
    max_clicks: int
    mean: float
    failures: int
    objects: int


def clicks_to_reach(ious: Sequence[float], threshold: float, max_clicks: int = 20) -> int:
    """Return after how many clicks the IoU of one object first is at least a threshold.

    Args:
        ious: IoU after each click, the first click first.
        threshold: In (0, 1].
        max_clicks: How many clicks count; also the result if none of them reaches the threshold.

    Raises:
        InputError: No IoU, one outside [0, 1], a threshold outside (0, 1], or no click allowed.

    Examples:
        >>> clicks_to_reach([0.6, 0.88, 0.84, 0.91], 0.85), clicks_to_reach([0.6, 0.7], 0.9)
        (2, 20)
    """
    if not 0 < threshold <= 1:
        raise InputError(
            f"expected a threshold above 0 and at most 1, got {threshold}",
            hint="NoC@85 is threshold=0.85",
        )
    reached = np.flatnonzero(_curve(ious, max_clicks) >= threshold)
    return int(reached[0]) + 1 if len(reached) else max_clicks


def number_of_clicks(
    curves: Sequence[Sequence[float]], threshold: float, max_clicks: int = 20
) -> ClickCount:
    """Return the mean number of clicks over objects: NoC@85 with a threshold of 0.85.

    A curve for each object, its IoU after each click; they may be of different lengths. The rest
    and the errors are those of `clicks_to_reach`; no object is an InputError too.

    Examples:
        >>> count = number_of_clicks([[0.6, 0.9], [0.5, 0.7]], 0.85)
        >>> count.mean, count.failures
        (11.0, 1)
    """
    counts = [clicks_to_reach(curve, threshold, max_clicks) for curve in _some(curves)]
    failures = sum(max(curve[:max_clicks]) < threshold for curve in curves)
    return ClickCount(threshold, max_clicks, float(np.mean(counts)), failures, len(curves))


def iou_per_click(curves: Sequence[Sequence[float]], max_clicks: int = 20) -> NDArray[np.float64]:
    """Return the mean IoU over objects after each click.

    An object whose clicking stopped early, because nothing was left to correct, keeps its last IoU.
    Arguments and errors are those of `number_of_clicks`.

    Returns:
        (max_clicks,) in [0, 1].

    Examples:
        >>> iou_per_click([[0.5, 1.0], [0.7, 0.8, 0.9]], 3).round(2).tolist()
        [0.6, 0.9, 0.95]
    """
    cut = [_curve(curve, max_clicks) for curve in _some(curves)]
    longest = [np.pad(values, (0, max_clicks - len(values)), "edge") for values in cut]
    return np.asarray(np.mean(longest, axis=0))


def _some(curves: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    if not len(curves):
        raise InputError("expected the curve of at least one object, got none")
    return curves


def _curve(ious: Sequence[float], max_clicks: int) -> NDArray[np.float64]:
    if max_clicks < 1:
        raise InputError(f"expected max_clicks of at least 1, got {max_clicks}")
    values = np.asarray(ious, np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"expected one IoU for each click, got an array of shape {values.shape}")
    # NaN fails the comparison too, and is refused.
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"expected IoUs from 0 to 1, got {values.min()} to {values.max()}")
    return values[:max_clicks]
