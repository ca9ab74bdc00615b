from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.augment.geometry import Warp, shift
from nexus.data.augment.sample import Sample
from nexus.data.augment.steps import (
    ColorJitter,
    Draft,
    RandomCrop,
    RandomFlip,
    RandomRotate,
    RandomScale,
)

SIZE_HW = (40, 60)
IMAGE = np.random.default_rng(0).integers(60, 180, (*SIZE_HW, 3), dtype=np.uint8)


def draft(**parts: Any) -> Draft:
    return Draft(Sample(IMAGE, **parts), Warp.identity(SIZE_HW))


def matrices(step: Any, count: int = 400, **parts: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([step.draw(draft(**parts), rng).matrix for _ in range(count)])


def test_flips_come_as_often_as_asked() -> None:
    """A quarter of the images is mirrored, in the direction asked for alone."""
    flipped = matrices(RandomFlip(0.25), 1000)
    both = matrices(RandomFlip(0.5, "both"), 1000)

    assert (flipped[:, 0, 0] == -1).mean() == pytest.approx(0.25, abs=0.05)
    assert (flipped[:, 1, 1] == 1).all()
    assert ((both[:, 0, 0] == -1) & (both[:, 1, 1] == -1)).mean() == pytest.approx(0.25, abs=0.05)
    assert (matrices(RandomFlip(1.0, "vertical"))[:, 0, 0] == 1).all()


def test_turns_are_about_the_centre() -> None:
    """Angles fill the range, and the centre of the image stays where it is."""
    turned = matrices(RandomRotate(15))
    degrees = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))

    assert -15 <= degrees.min() < -14
    assert 14 < degrees.max() <= 15
    assert np.allclose(turned @ (30, 20, 1), (30, 20, 1))


def test_factors_are_about_the_centre() -> None:
    """Factors fill the range, alike for both axes, and the centre stays."""
    scaled = matrices(RandomScale((0.8, 1.2)))
    factors = scaled[:, 0, 0]

    assert 0.8 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2
    assert np.array_equal(factors, scaled[:, 1, 1])
    assert np.allclose(scaled @ (30, 20, 1), (30, 20, 1))


def test_windows_are_within_the_image() -> None:
    """A window has the image's shape, lies in it at whole pixels, and reaches every edge."""
    rng = np.random.default_rng(0)
    warps = [RandomCrop((0.5, 0.8)).draw(draft(), rng) for _ in range(400)]
    x, y = (-np.array([warp.matrix[axis, 2] for warp in warps]) for axis in (0, 1))
    heights, widths = np.array([warp.size_hw for warp in warps]).T

    assert np.array_equal(x, x.round())
    assert (min(x), min(y), max(x + widths), max(y + heights)) == (0, 0, 60, 40)
    assert np.abs(heights / 40 - widths / 60).max() < 0.02
    assert (heights.min(), heights.max()) == (20, 32)


@pytest.mark.parametrize("kind", ["masks", "boxes_xyxy", "points_xy"])
def test_windows_hold_a_piece_of_an_object(kind: str) -> None:
    """Some pixel of an object is in every window, wherever the image was moved before."""
    mask = np.zeros((1, *SIZE_HW), np.bool_)
    mask[0, 2:5, 50:53] = True
    parts = {"masks": mask, "boxes_xyxy": [(50, 2, 53, 5)], "points_xy": [[(51, 3)]]}
    sample = Sample(IMAGE, **{kind: parts[kind]})
    moved = Draft(sample, Warp(shift(-20, 10), SIZE_HW))
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(200):
        warp = RandomCrop((0.2, 0.3)).draw(moved, rng)
        spots = moved.warp.then(warp).points([(x, y) for x in (50, 51, 52) for y in (2, 3, 4)])
        places.add(tuple(warp.matrix[:2, 2]))

        assert ((spots >= 0) & (spots < warp.size_hw[::-1])).all(1).any()
    assert len(places) > 50


def test_windows_are_anywhere_without_objects() -> None:
    """Nothing to hold, an object that vanished, or none wanted: any window will do."""
    mask = np.zeros((1, *SIZE_HW), np.bool_)
    wanted = {"masks": mask.copy()}
    wanted["masks"][0, 0, 0] = True
    gone = draft(points_xy=[[]]).anchor_xy(np.random.default_rng(0))
    free = matrices(RandomCrop((0.3, 0.3), on_object=False), **wanted)

    assert draft().anchor_xy(np.random.default_rng(0)) is None
    assert draft(masks=mask).anchor_xy(np.random.default_rng(0)) is None
    assert gone is None
    assert free[:, 0, 2].min() == -42
    assert (matrices(RandomCrop((0.3, 0.3)), **wanted)[:, :2, 2] == 0).all()


def test_an_object_that_left_holds_no_window() -> None:
    """A window is drawn even where the chosen object is outside the image by now."""
    mask = np.zeros((1, *SIZE_HW), np.bool_)
    mask[0, :2, :2] = True
    away = Draft(Sample(IMAGE, mask), Warp(shift(-30, 0), SIZE_HW))
    warp = RandomCrop((0.5, 0.5)).draw(away, np.random.default_rng(0))

    assert warp.size_hw == (20, 30)
    assert -30 <= warp.matrix[0, 2] <= 0


def test_brightness_multiplies() -> None:
    """Without contrast every value is multiplied by one factor within the range."""
    rng = np.random.default_rng(0)
    image = IMAGE.astype(np.float32) / 255
    factors = []
    for _ in range(200):
        ratio = ColorJitter(0.2, 0).recolour(image, rng) / image
        factors.append(ratio.mean())

        assert np.ptp(ratio) < 1e-5
    assert 0.8 <= min(factors) < 0.82
    assert 1.18 < max(factors) <= 1.2001


def test_contrast_keeps_the_mean_brightness() -> None:
    """Without brightness values move from or to the mean of 0.299 R + 0.587 G + 0.114 B."""
    rng = np.random.default_rng(0)
    image = IMAGE.astype(np.float64) / 255
    mean = (image @ (0.299, 0.587, 0.114)).mean()
    spreads = []
    for _ in range(200):
        changed = ColorJitter(0, 0.3).recolour(image, rng)
        spreads.append(float((changed - mean).std() / (image - mean).std()))

        assert np.allclose((changed - mean) / spreads[-1], image - mean)
    assert 0.7 <= min(spreads) < 0.73
    assert 1.27 < max(spreads) <= 1.3


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_colours_stay_in_the_range_of_the_type(dtype: Any, top: int) -> None:
    """Each type is changed as the real numbers it stands for, cut at black and white."""
    shares = np.linspace(0, 1, 48).reshape(4, 4, 3)
    image = (shares * top).astype(dtype)
    changed = ColorJitter(1.0, 1.0).recolour(image, np.random.default_rng(5))
    expected = ColorJitter(1.0, 1.0).recolour(image / top, np.random.default_rng(5))

    assert changed.dtype == dtype
    assert np.abs(changed / top - expected).max() <= max(0.5 / top, 1e-6) + 1e-9
    assert (changed == top).sum() > 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip(1.5), r"expected prob in \[0, 1\], got 1.5"),
        (lambda: RandomFlip(0.5, "left"), "horizontal, vertical, both, got 'left'"),
        (lambda: RandomRotate(-3), r"expected degrees in \[0, 180\], got -3"),
        (lambda: RandomScale((1.2, 0.8)), r"the lower first, got \(1.2, 0.8\)"),
        (lambda: RandomScale((0, 1)), "expected a scale_range above 0"),
        (lambda: RandomCrop((0.5, 1.5)), r"expected a share_range in \(0, 1\]"),
        (lambda: ColorJitter(2), r"expected brightness in \[0, 1\], got 2"),
        (lambda: ColorJitter(0.2, -1), r"expected contrast in \[0, 1\], got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, message: str) -> None:
    """Each step says which number it takes."""
    with pytest.raises(InputError, match=message):
        make()
