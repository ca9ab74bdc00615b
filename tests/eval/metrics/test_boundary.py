"""Boundary F against the definition of DAVIS, boundary IoU against that of its paper."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.eval.metrics import boundary_f, boundary_iou


def blobs(seed: int, size: tuple[int, int] = (60, 90)) -> NDArray[np.bool_]:
    """Draw smooth random shapes, some of them cut by the border."""
    noise = np.random.default_rng(seed).normal(size=size)
    return np.asarray(ndimage.gaussian_filter(noise, 5) > 0.02)


def defined_f(one: NDArray[np.bool_], two: NDArray[np.bool_], radius: int) -> float:
    """Return F by its definition, with loops over pixels and a drawn disk."""

    def edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        height, width = mask.shape
        marked = np.zeros_like(mask)
        for y in range(height):
            for x in range(width):
                near = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
                marked[y, x] = any(
                    mask[y, x] != mask[p]
                    for p in near
                    if p < (height, width + 1) and p[0] < height and p[1] < width
                )
        return marked

    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = rows**2 + columns**2 <= radius**2
    edge_one, edge_two = edges(one), edges(two)
    precision = (edge_one & ndimage.binary_dilation(edge_two, disk)).sum() / edge_one.sum()
    recall = (edge_two & ndimage.binary_dilation(edge_one, disk)).sum() / edge_two.sum()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("bound", "radius"), [(0.008, 1), (0.03, 4), (3, 3)])
def test_f_is_what_its_definition_says(seed: int, bound: float, radius: int) -> None:
    """Dilated disks of the rounded-up share of the diagonal, or of that many pixels."""
    one, two = blobs(seed), np.roll(blobs(seed), 2, 1) ^ (blobs(seed + 10) & blobs(seed + 20))

    assert 0.1 < boundary_f(one, two, bound=bound) < 1
    assert boundary_f(one, two, bound=bound) == pytest.approx(defined_f(one, two, radius))


def test_the_border_of_the_image_is_no_boundary() -> None:
    """A mask that fills the image has none: it agrees with itself and with no other."""
    full, half = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    half[:, :10] = True

    assert boundary_f(full, full) == 1.0
    assert boundary_f(full, half) == 0.0
    assert boundary_f(full, np.zeros_like(full)) == 0.0


def test_f_counts_no_match_as_zero() -> None:
    """Boundaries far apart give neither precision nor recall."""
    one, two = np.zeros((2, 80, 80), bool)
    one[5:10, 5:10] = two[60:70, 60:70] = True

    assert boundary_f(one, two) == 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dilation", [0.001, 0.02, 0.025, 0.05])
def test_boundary_iou_erodes_step_by_step(seed: int, dilation: float) -> None:
    """As in the paper's code: d erosions by a 3 x 3 square, with background outside the image."""
    one, two = blobs(seed), np.roll(blobs(seed), 2, 0)
    steps = max(1, round(dilation * float(np.hypot(*one.shape))))
    square = np.ones((3, 3), bool)
    rims = [mask & ~ndimage.binary_erosion(mask, square, steps) for mask in (one, two)]

    assert boundary_iou(one, two, dilation=dilation) == pytest.approx(
        (rims[0] & rims[1]).sum() / (rims[0] | rims[1]).sum()
    )


def test_boundary_iou_is_stricter_with_large_masks() -> None:
    """One error in width costs a large square more than its IoU says."""
    truth, predicted = np.zeros((2, 200, 200), bool)
    truth[20:180, 20:180] = predicted[23:177, 23:177] = True
    overlap = np.count_nonzero(predicted) / np.count_nonzero(truth)

    assert overlap > 0.92
    assert boundary_iou(predicted, truth) < 0.5


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_widths_that_make_no_sense_are_refused(value: float) -> None:
    """Nothing, less than nothing, and no number."""
    mask = blobs(0)

    with pytest.raises(InputError, match=rf"bound above 0, got {value}"):
        boundary_f(mask, mask, bound=value)
    with pytest.raises(InputError, match=rf"dilation above 0, got {value}"):
        boundary_iou(mask, mask, dilation=value)
