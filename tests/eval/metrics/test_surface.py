"""NSD and Hausdorff 95 against distances computed pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.eval.metrics import hausdorff95, normalised_surface_dice, surface_distances

CASES = [
    (seed, shape, spacing)
    for seed in range(3)
    for shape, spacing in [
        ((12, 15), (1.0, 1.0)),
        ((12, 15), (0.7, 2.5)),
        ((6, 9, 8), (1.0, 1.0, 1.0)),
        ((6, 9, 8), (5.0, 0.7, 0.9)),
    ]
]


def pair(seed: int, shape: tuple[int, ...]) -> list[NDArray[np.bool_]]:
    """Draw two smooth random masks that touch the border, and a speck."""
    rng = np.random.default_rng(seed)
    masks = [ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0 for _ in range(2)]
    masks[0][(0,) * len(shape)] = True
    return [np.asarray(mask) for mask in masks]


def by_hand(
    one: NDArray[np.bool_], two: NDArray[np.bool_], spacing: tuple[float, ...]
) -> list[NDArray[np.float64]]:
    """Return both directions' distances between surface voxels, each to all others."""
    surfaces = []
    for mask in (one, two):
        padded = np.pad(mask, 1)
        points = []
        for index in np.argwhere(padded):
            steps = [
                tuple(index + sign * np.eye(mask.ndim, dtype=int)[axis])
                for axis, sign in itertools.product(range(mask.ndim), (-1, 1))
            ]
            if not all(padded[step] for step in steps):
                points.append(index * np.array(spacing))
        surfaces.append(np.array(points))
    apart = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=2)
    return [apart.min(1), apart.min(0)]


@pytest.mark.parametrize(("seed", "shape", "spacing"), CASES)
def test_distances_are_those_of_all_pairs(
    seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    """In 2-D and 3-D, with voxels that are no cubes."""
    one, two = pair(seed, shape)
    found = surface_distances(one, two, spacing=spacing)
    expected = by_hand(one, two, spacing)

    np.testing.assert_allclose(found.to_truth_mm, expected[0], atol=1e-12)
    np.testing.assert_allclose(found.to_predicted_mm, expected[1], atol=1e-12)


@pytest.mark.parametrize(("seed", "shape", "spacing"), CASES)
def test_measures_follow_from_the_distances(
    seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    """NSD is a share of voxels; Hausdorff 95 the larger of two percentiles."""
    one, two = pair(seed, shape)
    directions = by_hand(one, two, spacing)
    near = [distances <= 1.2 for distances in directions]

    assert normalised_surface_dice(one, two, tolerance_mm=1.2, spacing=spacing) == pytest.approx(
        np.concatenate(near).mean()
    )
    assert hausdorff95(one, two, spacing=spacing) == pytest.approx(
        max(np.percentile(distances, 95) for distances in directions)
    )


def test_a_distance_of_the_tolerance_is_within() -> None:
    """Two voxels of 0.7 mm are 1.4 mm apart, wherever in the volume they lie."""
    for column in range(37):
        truth, predicted = np.zeros((2, 3, 40), bool)
        truth[1, column] = predicted[1, column + 2] = truth[0, 0] = predicted[0, 0] = True

        assert (
            normalised_surface_dice(predicted, truth, tolerance_mm=1.4, spacing=(3.0, 0.7)) == 1.0
        )


def test_elements_weigh_by_length() -> None:
    """A square's outline, moved by 3 mm: the two sides across are out of reach, all but their ends.

    A side has 39 mm of straight elements and the outline four cut corners. Of each long side 38 mm
    and a corner lie within 1 mm of the other outline; of one short side its first and last mm.
    """
    truth = np.zeros((60, 60), bool)
    truth[10:50, 10:50] = True
    predicted = np.roll(truth, 3, axis=1)
    share = normalised_surface_dice(predicted, truth, tolerance_mm=1, spacing=1, surface="elements")
    near, outline = 2 * (38 + np.sqrt(0.5)) + 2, 4 * 39 + 4 * np.sqrt(0.5)

    assert share == pytest.approx(near / outline)
    assert hausdorff95(predicted, truth, spacing=1, surface="elements") == 3.0


@pytest.mark.parametrize("percentile", [5, 30, 60, 80, 95, 100])
def test_element_percentiles_are_not_interpolated(percentile: float) -> None:
    """The first distance within which that share of the surface lies, by length, not by count."""
    one, two = pair(1, (12, 15))
    found = surface_distances(one, two, spacing=(0.7, 2.5), surface="elements")
    directions = [
        (found.to_truth_mm, found.predicted_weights),
        (found.to_predicted_mm, found.truth_weights),
    ]
    firsts = [
        min(d for d in mm if weights[mm <= d].sum() >= percentile / 100 * weights.sum() - 1e-9)
        for mm, weights in directions
    ]

    assert found.hausdorff_mm(percentile) == max(firsts)


@pytest.mark.parametrize("surface", ["voxels", "elements"])
def test_empty_surfaces_are_defined(surface: str) -> None:
    """Nothing is 0 mm from nothing, and infinitely far from something."""
    empty, mask = np.zeros((5, 6, 7), bool), np.zeros((5, 6, 7), bool)
    mask[2, 3, 3] = True
    both = surface_distances(empty, empty, spacing=1, surface=surface)  # type: ignore[arg-type]
    one = surface_distances(mask, empty, spacing=1, surface=surface)  # type: ignore[arg-type]

    assert (both.share_within(1), both.hausdorff_mm(95)) == (1.0, 0.0)
    assert (one.share_within(1), one.hausdorff_mm(95)) == (0.0, np.inf)
    assert np.isinf(one.to_truth_mm).all()


def test_wrong_settings_are_refused() -> None:
    """Spacing, tolerance, percentile and surface."""
    mask = np.ones((3, 3), bool)
    distances = surface_distances(mask, mask, spacing=1)

    for spacing in [(1.0, 1.0, 1.0), (1.0, 0.0), -1.0, (1.0, float("nan"))]:
        with pytest.raises(InputError, match=r"(?s)spacing above 0 for each of 2 axes, got .*hint"):
            hausdorff95(mask, mask, spacing=spacing)
    with pytest.raises(InputError, match=r"surface among voxels, elements, got 'mesh'"):
        surface_distances(mask, mask, spacing=1, surface="mesh")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"tolerance of 0 mm or more, got -1"):
        distances.share_within(-1)
    with pytest.raises(InputError, match=r"percentile above 0 and at most 100, got 0"):
        distances.hausdorff_mm(0)
