"""IoU and Dice; what all metrics refuse, and how they leave pixels out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from nexus.core.errors import InputError
from nexus.eval import metrics
from nexus.eval.metrics import dice, iou
from nexus.eval.metrics.overlap import mask_pair

SPACED = {"spacing": 1.0}
METRICS: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
    "iou": (metrics.iou, {}),
    "dice": (metrics.dice, {}),
    "boundary_f": (metrics.boundary_f, {}),
    "boundary_iou": (metrics.boundary_iou, {}),
    "nsd": (metrics.normalised_surface_dice, {"tolerance_mm": 1.0, **SPACED}),
    "hausdorff95": (metrics.hausdorff95, SPACED),
}


def square(size: int = 24) -> np.ndarray:
    """Draw a square with a margin of a quarter."""
    mask = np.zeros((size, size), bool)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = True
    return mask


@pytest.mark.parametrize("name", METRICS)
def test_empty_masks_are_defined(name: str) -> None:
    """Two empty masks agree wholly; one empty mask agrees with nothing."""
    metric, options = METRICS[name]
    empty, mask = np.zeros((24, 24), bool), square()
    worst = np.inf if name == "hausdorff95" else 0.0
    best = 0.0 if name == "hausdorff95" else 1.0

    assert metric(empty, empty, **options) == best
    assert metric(mask, empty, **options) == worst
    assert metric(empty, mask, **options) == worst
    assert metric(mask, mask, **options) == best


@pytest.mark.parametrize("name", METRICS)
def test_ignored_pixels_count_for_nothing(name: str) -> None:
    """What the masks say in an ignored region changes no metric."""
    metric, options = METRICS[name]
    truth, predicted, ignored = square(), np.roll(square(), 2, 1), np.zeros((24, 24), bool)
    ignored[:10] = True
    noisy = predicted.copy()
    noisy[:10] = np.random.default_rng(0).random((10, 24)) < 0.5

    assert metric(noisy, truth, **options) != metric(predicted, truth, **options)
    assert metric(noisy, truth, ignored=ignored, **options) == pytest.approx(
        metric(predicted & ~ignored, truth & ~ignored, **options)
    )


@pytest.mark.parametrize("name", METRICS)
def test_everything_ignored_is_two_empty_masks(name: str) -> None:
    """With no pixel left, there is nothing to disagree about."""
    metric, options = METRICS[name]
    everywhere = np.ones((24, 24), bool)

    assert metric(square(), ~square(), ignored=everywhere, **options) == metric(
        ~everywhere, ~everywhere, **options
    )


@pytest.mark.parametrize("name", METRICS)
def test_symmetric_metrics_are_symmetric(name: str) -> None:
    """Prediction and truth may change places."""
    metric, options = METRICS[name]
    one, two = square(), np.roll(square(), (3, 1), (0, 1))

    assert metric(one, two, **options) == pytest.approx(metric(two, one, **options))


@pytest.mark.parametrize("name", METRICS)
def test_other_shapes_are_refused(name: str) -> None:
    """Masks of two sizes are no pair."""
    metric, options = METRICS[name]

    with pytest.raises(InputError, match=r"got predicted \(24, 24\), truth \(20, 20\)"):
        metric(square(), square(20), **options)
    with pytest.raises(InputError, match=r"got .*truth \(24, 24\), ignored \(20, 20\)"):
        metric(square(), square(), ignored=square(20), **options)


@pytest.mark.parametrize("name", METRICS)
def test_other_types_are_refused(name: str) -> None:
    """Logits and label maps are not guessed to be masks."""
    metric, options = METRICS[name]

    with pytest.raises(InputError, match=r"(?s)predicted to be bool, got float32.*logits > 0"):
        metric(square().astype(np.float32), square(), **options)
    with pytest.raises(InputError, match=r"truth to be bool, got uint8"):
        metric(square(), square().astype(np.uint8), **options)
    with pytest.raises(InputError, match=r"ignored to be bool, got int64"):
        metric(square(), square(), ignored=square().astype(np.int64), **options)


@pytest.mark.parametrize("name", ["boundary_f", "boundary_iou", "nsd", "hausdorff95"])
def test_axes_that_make_no_sense_are_refused(name: str) -> None:
    """Boundaries are of pictures; surfaces of pictures and volumes."""
    metric, options = METRICS[name]
    line = np.ones(4, bool)

    with pytest.raises(InputError, match=r"masks of 2( or 3)? axes, got shape \(4,\)"):
        metric(line, line, **options)


def test_nothing_is_changed() -> None:
    """The masks a caller hands over stay as they were."""
    one, two, ignored = square(), np.roll(square(), 1, 0), square()
    before = one.copy(), two.copy(), ignored.copy()
    mask_pair(one, two, ignored)

    assert all((a == b).all() for a, b in zip((one, two, ignored), before, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_iou_equals_that_of_pycocotools(seed: int) -> None:
    """The reference of the field, on random masks."""
    rng = np.random.default_rng(seed)
    one, two = rng.random((30, 20)) < 0.4, rng.random((30, 20)) < 0.6
    packed = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in (one, two)]

    assert iou(one, two) == pytest.approx(coco.iou(packed[:1], packed[1:], [0])[0, 0], abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_dice_follows_from_iou(one: int, two: int) -> None:
    """DSC = 2 J / (1 + J), empty masks included."""
    masks = [np.array([code >> bit & 1 for bit in range(16)], bool) for code in (one, two)]
    overlap = iou(*masks)

    assert dice(*masks) == pytest.approx(2 * overlap / (1 + overlap))


def test_volumes_count_voxels() -> None:
    """Masks of three axes are compared as a whole, not slice by slice."""
    truth = np.zeros((3, 4, 4), bool)
    truth[0, :2] = truth[1, 0, 0] = True
    predicted = truth.copy()
    predicted[1:] = False

    assert iou(predicted, truth) == pytest.approx(8 / 9)
    assert dice(predicted, truth) == pytest.approx(16 / 17)


def test_plain_numbers_come_back() -> None:
    """The results go into JSON as they are."""
    mask = np.ones((2, 2), bool)

    assert [type(metric(mask, mask)) for metric in (iou, dice)] == [float, float]
