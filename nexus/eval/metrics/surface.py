"""How far the surfaces of two masks lie apart, in millimetres: NSD and Hausdorff 95.

There are two surfaces to choose from. "voxels", as in MONAI: the voxels (pixels in 2-D) with a
neighbour along an axis outside the mask or outside the image; each counts alike and stands for its
centre. "elements", as in DeepMind's surface-distance package, with which MedSAM was scored: the
pieces of surface that run between voxels, weighted by length or area; see `surface_elements`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.eval.metrics.overlap import Mask, mask_pair
from nexus.eval.metrics.surface_elements import surface_elements

Surface = Literal["voxels", "elements"]
_Values = NDArray[np.float64]
_Points = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distances between two surfaces, from which several measures follow.

    Attributes:
        to_truth_mm: (n,) from each piece of the prediction's surface to the nearest of the truth's;
            infinite if the truth is empty.
        to_predicted_mm: (m,) from each piece of the truth's surface to the nearest of the
            prediction's.
        predicted_weights: (n,) what each piece counts: its length, its area, or 1.
        truth_weights: (m,) likewise.
        surface: What the pieces are.
    """

    to_truth_mm: NDArray[np.float64]
    to_predicted_mm: NDArray[np.float64]
    predicted_weights: NDArray[np.float64]
    truth_weights: NDArray[np.float64]
    surface: Surface = "voxels"

    def share_within(self, tolerance_mm: float) -> float:
        """Return the normalised surface Dice (NSD): the share of both surfaces near the other.

        Returns:
            A number in [0, 1]; 1 if both masks are empty, 0 if one is.

        Raises:
            InputError: A tolerance, how far apart surfaces count as one, below 0 or not finite.
        """
        if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise InputError(f"expected a tolerance of 0 mm or more, got {tolerance_mm}")
        whole = sum(weights.sum() for _, weights in self._both)
        near = sum(weights[mm <= tolerance_mm].sum() for mm, weights in self._both)
        return float(near / whole) if whole else 1.0

    def hausdorff_mm(self, percentile: float = 100.0) -> float:
        """Return the larger of the two directions' percentiles of distance.

        Args:
            percentile: Above 0, at most 100; 100 is the Hausdorff distance itself. Of voxels it is
                interpolated between two distances; of elements it is the first distance within
                which that share of the surface lies.

        Returns:
            Millimetres; 0 if both masks are empty, infinity if one is.

        Raises:
            InputError: A percentile that is not above 0 and at most 100.
        """
        if not 0 < percentile <= 100:
            raise InputError(f"expected a percentile above 0 and at most 100, got {percentile}")
        lengths = len(self.to_truth_mm), len(self.to_predicted_mm)
        if not all(lengths):
            return math.inf if any(lengths) else 0.0
        if self.surface == "voxels":
            return float(max(np.percentile(mm, percentile) for mm, _ in self._both))
        return max(_weighted_percentile(mm, weights, percentile) for mm, weights in self._both)

    @property
    def _both(self) -> list[tuple[_Values, _Values]]:
        distances = self.to_truth_mm, self.to_predicted_mm
        return list(zip(distances, (self.predicted_weights, self.truth_weights), strict=True))


def surface_distances(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    spacing: float | Sequence[float],
    ignored: NDArray[Any] | None = None,
    surface: Surface = "voxels",
) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks.

    Args:
        predicted: Bool (H, W) or (D, H, W).
        truth: Bool, the same shape.
        spacing: Size of a pixel or voxel along each axis, in the order of the axes, mm; one number
            for all axes.
        ignored: Bool, the same shape: voxels removed from both.
        surface: "voxels" as in MONAI, or "elements" as in DeepMind's package.

    Raises:
        InputError: Masks that are not bool, not of one shape or not of 2 or 3 axes; spacing that
            does not fit them or is not above 0; another surface.

    Examples:
        >>> mask = np.zeros((5, 5), bool)
        >>> mask[1:4, 1:3] = True
        >>> surface_distances(np.roll(mask, 1, 1), mask, spacing=(1, 0.5)).hausdorff_mm()
        0.5
    """
    predicted, truth = mask_pair(predicted, truth, ignored, ranks=(2, 3))
    steps = _spacing(spacing, predicted.ndim)
    pieces = entry(_PIECES, surface, "a surface")
    # The smallest part of the arrays with all of both masks: outside is background anyway.
    part = (*ndimage.find_objects((predicted | truth).astype(np.uint8)), ...)[0]
    (found, found_weights), (wanted, wanted_weights) = (
        pieces(mask[part], steps) for mask in (predicted, truth)
    )
    both_ways = _nearest(found, wanted, steps), _nearest(wanted, found, steps)
    return SurfaceDistances(*both_ways, found_weights, wanted_weights, surface)


def normalised_surface_dice(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    tolerance_mm: float,
    spacing: float | Sequence[float],
    ignored: NDArray[Any] | None = None,
    surface: Surface = "voxels",
) -> float:
    """Return the normalised surface Dice (NSD) of Nikolov et al., arXiv 1809.04430.

    The result, `tolerance_mm` and its error are those of `SurfaceDistances.share_within`, the other
    arguments and errors those of `surface_distances`.

    Examples:
        >>> mask = np.zeros((5, 5), bool)
        >>> mask[1:4, 1:3] = True
        >>> shifted = np.roll(mask, 1, 1)
        >>> normalised_surface_dice(shifted, mask, tolerance_mm=1, spacing=1)
        1.0
        >>> normalised_surface_dice(shifted, mask, tolerance_mm=1, spacing=(1, 2))
        0.5
    """
    return surface_distances(
        predicted, truth, spacing=spacing, ignored=ignored, surface=surface
    ).share_within(tolerance_mm)


def hausdorff95(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    spacing: float | Sequence[float],
    ignored: NDArray[Any] | None = None,
    surface: Surface = "voxels",
) -> float:
    """Return the 95th percentile of the distances between two surfaces, the larger direction.

    The arguments and errors are those of `surface_distances`, the result is that of
    `SurfaceDistances.hausdorff_mm`.

    Examples:
        >>> mask = np.zeros((5, 5), bool)
        >>> mask[2, 1] = True
        >>> hausdorff95(np.roll(mask, 2, axis=1), mask, spacing=(1, 0.75))
        1.5
    """
    return surface_distances(
        predicted, truth, spacing=spacing, ignored=ignored, surface=surface
    ).hausdorff_mm(95)


def _spacing(spacing: float | Sequence[float], axes: int) -> NDArray[np.float64]:
    steps = np.asarray(spacing, np.float64)
    if steps.ndim == 0:
        steps = np.repeat(steps, axes)
    if steps.shape != (axes,) or not (np.isfinite(steps) & (steps > 0)).all():
        raise InputError(
            f"expected a spacing above 0 for each of {axes} axes, got {spacing}",
            hint="in the order of the array's axes: (height, width) or (depth, height, width)",
        )
    return steps


def _surface_voxels(mask: Mask, steps: _Values) -> tuple[_Points, _Values]:
    points = np.argwhere(mask & ~np.asarray(ndimage.binary_erosion(mask)))
    return points, np.ones(len(points))


_PIECES = {"voxels": _surface_voxels, "elements": surface_elements}


def _weighted_percentile(distances: _Values, weights: _Values, percentile: float) -> float:
    order = np.argsort(distances, kind="stable")
    shares = np.cumsum(weights[order]) / weights.sum()
    # Rounding can leave the last share a little below 1.
    index = min(int(np.searchsorted(shares, percentile / 100)), len(order) - 1)
    return float(distances[order[index]])


def _nearest(points: _Points, others: _Points, steps: _Values) -> _Values:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    _, index = KDTree(others * steps).query(points * steps)
    # Differences of whole voxels first, so that two voxels of 0.7 mm are exactly 1.4 mm apart.
    return np.asarray(np.linalg.norm((points - others[index]) * steps, axis=1))
