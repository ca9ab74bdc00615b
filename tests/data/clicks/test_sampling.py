from __future__ import annotations

import itertools

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.clicks.sampling import (
    Click,
    centre_click,
    depth_map,
    error_click,
    jittered_box,
    random_click,
    random_error_click,
)


def disc(size_hw: tuple[int, int], centre_xy: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return (x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 <= radius**2


def depths(region: np.ndarray) -> np.ndarray:
    """Measure how far each pixel is from the nearest one outside, pair by pair."""
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    depth = np.zeros(padded.shape)
    for place in np.argwhere(padded):
        depth[tuple(place)] = np.hypot(*(outside - place).T).min()
    return depth[1:-1, 1:-1]


def test_the_centre_of_a_square_is_its_middle() -> None:
    """A 5 x 5 square is clicked in its middle, with label 1."""
    mask = np.zeros((9, 12), np.bool_)
    mask[2:7, 4:9] = True

    assert centre_click(mask) == Click(6.0, 4.0, 1)


def test_of_equal_depths_the_first_row_by_row_is_clicked() -> None:
    """Four pixels of a 4 x 4 square are equally deep; the upper left one is clicked."""
    mask = np.zeros((8, 8), np.bool_)
    mask[2:6, 3:7] = True

    assert centre_click(mask) == Click(4.0, 3.0, 1)


def test_outside_the_image_is_background() -> None:
    """A mask that fills the image is clicked in the image's middle, not at its edge."""
    assert centre_click(np.ones((7, 11), np.bool_)) == Click(3.0, 3.0, 1)


def test_the_centre_is_as_deep_as_any_pixel() -> None:
    """On ragged masks a search over all pairs of pixels finds the same first deepest pixel."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((13, 17)) < 0.8
        depth = depths(mask)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)

        assert centre_click(mask) == Click(float(column), float(row), 1)


def test_what_is_missing_gets_a_foreground_click() -> None:
    """Where the prediction lacks the thicker part, the click is there, label 1."""
    mask = disc((60, 80), (50, 30), 20)
    predicted = mask.copy()
    predicted[:, 50:] = False
    click = error_click(mask, predicted)

    assert click is not None
    assert click.label == 1
    assert mask[int(click.y), int(click.x)]
    assert not predicted[int(click.y), int(click.x)]


def test_what_is_too_much_gets_a_background_click() -> None:
    """Where the prediction has too much, the click is in its middle, label 0."""
    mask = disc((60, 80), (20, 30), 10)
    predicted = mask | disc((60, 80), (60, 31), 9)

    assert error_click(mask, predicted) == Click(60.0, 31.0, 0)


def test_the_thicker_error_wins_and_equal_ones_click_the_background() -> None:
    """RITM's rule: the larger maximum of the two distance transforms, a tie to the background."""
    mask, predicted = np.zeros((20, 40), np.bool_), np.zeros((20, 40), np.bool_)
    mask[5:12, 3:10] = True
    predicted[5:12, 20:27] = True
    tie = error_click(mask, predicted)
    mask[5:14, 3:12] = True
    thicker = error_click(mask, predicted)

    assert tie == Click(23.0, 8.0, 0)
    assert thicker == Click(7.0, 9.0, 1)


def test_error_clicks_are_those_of_whole_maps() -> None:
    """Searching every pair of pixels of the whole image gives the same clicks."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        mask, predicted, ignored = (rng.random((11, 14)) < share for share in (0.6, 0.4, 0.1))
        missing, excess = mask & ~predicted & ~ignored, predicted & ~mask & ~ignored
        more, less = depths(missing), depths(excess)
        deeper = more if more.max() > less.max() else less
        row, column = np.unravel_index(int(deeper.argmax()), deeper.shape)
        click = error_click(mask, predicted, ignored)

        assert click == Click(float(column), float(row), int(deeper is more))


def test_nothing_wrong_is_nothing_to_click() -> None:
    """A perfect prediction, or one wrong in ignored pixels alone, gets no click."""
    mask = disc((30, 30), (15, 15), 8)
    rng = np.random.default_rng(0)

    assert error_click(mask, mask) is None
    assert error_click(mask, np.zeros_like(mask), mask) is None
    assert random_error_click(mask, mask, rng) is None


def test_a_clicked_pixel_is_not_clicked_again() -> None:
    """Clicks that changed nothing are followed by clicks elsewhere, until none is left."""
    mask = np.zeros((6, 6), np.bool_)
    mask[2:4, 1:4] = True
    clicks: list[Click] = []
    while (click := error_click(mask, np.zeros_like(mask), clicked=clicks)) is not None:
        clicks.append(click)

    assert len(set(clicks)) == 6


def test_random_clicks_reach_every_pixel_of_the_object() -> None:
    """Each pixel of an object is clicked about equally often, no other one ever."""
    mask = np.zeros((4, 6), np.bool_)
    mask[1, 2:5] = mask[3, 5] = True
    rng = np.random.default_rng(0)
    clicks = [random_click(mask, rng) for _ in range(2000)]
    counts = np.zeros(mask.shape, int)
    for click in clicks:
        counts[int(click.y), int(click.x)] += 1

    assert (counts > 0).tolist() == mask.tolist()
    assert np.abs(counts[mask] - 500).max() < 100


def test_random_errors_carry_the_label_of_what_is_wrong() -> None:
    """A click on what is missing has label 1, on what is too much label 0; both come up."""
    mask, predicted = disc((40, 60), (15, 20), 9), disc((40, 60), (28, 20), 9)
    rng = np.random.default_rng(0)
    labels = set()
    for _ in range(50):
        click = random_error_click(mask, predicted, rng)
        assert click is not None
        labels.add(click.label)
        place = int(click.y), int(click.x)

        assert (bool(mask[place]), bool(predicted[place])) == (click.label == 1, click.label == 0)
    assert labels == {0, 1}


def test_box_noise_has_the_stated_spread_and_limit() -> None:
    """Edges move by a tenth of their side on average, and never past the limit."""
    rng = np.random.default_rng(0)
    box = np.array([200.0, 300.0, 300.0, 500.0])
    moved = np.array([jittered_box(box, (900, 900), rng) for _ in range(4000)]) - box
    free = np.array([jittered_box(box, (900, 900), rng, limit_px=500) for _ in range(4000)]) - box

    assert np.abs(moved).max() == 20
    assert np.allclose(free.std(0), [10, 20, 10, 20], rtol=0.06)
    assert np.abs(free.mean(0)).max() < 1.5


def test_boxes_stay_in_the_image_and_keep_area() -> None:
    """However strong the noise, a box has a pixel of width and height inside the image."""
    rng = np.random.default_rng(0)
    boxes = [(0, 0, 1, 1), (18, 28, 20, 30), (5, 5, 15, 25), (0, 0, 20, 30)]
    for box, _ in itertools.product(boxes, range(200)):
        x0, y0, x1, y1 = jittered_box(box, (30, 20), rng, share=2.0, limit_px=50)

        assert min(x1 - x0, y1 - y0) >= 1 - 1e-9
        assert min(x0, y0, 20 - x1, 30 - y1) >= 0


def test_no_noise_keeps_the_box() -> None:
    """A share of 0 gives the box as it was."""
    rng = np.random.default_rng(0)

    assert jittered_box((3, 4, 9, 12), (20, 20), rng, share=0) == (3.0, 4.0, 9.0, 12.0)


def test_equal_seeds_give_equal_prompts() -> None:
    """All chance comes from the generator."""
    mask = disc((30, 40), (20, 15), 10)
    first, second = (np.random.default_rng(7) for _ in range(2))

    assert [random_click(mask, first) for _ in range(5)] == [
        random_click(mask, second) for _ in range(5)
    ]
    assert jittered_box((3, 4, 9, 12), (20, 20), first) == jittered_box(
        (3, 4, 9, 12), (20, 20), second
    )


def test_an_empty_mask_cannot_be_clicked() -> None:
    """Neither in its middle nor anywhere."""
    empty, rng = np.zeros((4, 5), np.bool_), np.random.default_rng(0)

    with pytest.raises(InputError, match="expected a mask with at least one pixel, got an empty"):
        centre_click(empty)
    with pytest.raises(InputError, match="hint: leave out objects that are not in the image"):
        random_click(empty, rng)


@pytest.mark.parametrize("wrong", [np.zeros((4, 5)), np.zeros((1, 4, 5), np.bool_), [[True]]])
def test_only_bool_masks_are_taken(wrong: np.ndarray) -> None:
    """A mask of another type or shape is named with what it is."""
    with pytest.raises(InputError, match=r"expected mask as a bool array \(H, W\), got"):
        centre_click(wrong)
    with pytest.raises(InputError, match=r"expected predicted as a bool array \(H, W\), got"):
        error_click(np.zeros((4, 5), np.bool_), wrong)


def test_masks_of_one_object_have_one_shape() -> None:
    """A prediction or ignored pixels of another size are refused."""
    mask, other = np.ones((4, 5), np.bool_), np.ones((5, 4), np.bool_)

    with pytest.raises(InputError, match=r"predicted of the mask's shape \(4, 5\), got shape"):
        error_click(mask, other)
    with pytest.raises(InputError, match=r"ignored of the mask's shape \(4, 5\), got shape"):
        error_click(mask, mask, other)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (30, 5, 40, 9), (-9, 5, 0, 9), (1, 2, 3)])
def test_boxes_without_area_in_the_image_are_refused(box: tuple[float, ...]) -> None:
    """There is nothing to move where a box has no area in the image."""
    with pytest.raises(InputError, match="expected a box with area inside the image of 30 x 20"):
        jittered_box(box, (20, 30), np.random.default_rng(0))


def test_noise_below_zero_is_refused() -> None:
    """Neither the share nor the limit is below 0."""
    rng = np.random.default_rng(0)

    with pytest.raises(InputError, match="got a share of -0.1 and at most 20.0 px"):
        jittered_box((1, 2, 3, 4), (20, 30), rng, share=-0.1)
    with pytest.raises(InputError, match="got a share of 0.1 and at most -1 px"):
        jittered_box((1, 2, 3, 4), (20, 30), rng, limit_px=-1)


@pytest.mark.parametrize("radius", range(1, 60))
def test_the_deepest_pixel_is_255(radius: int) -> None:
    """Whatever the size, depth is 255 where an object is deepest, above 0 on it, 0 beside it."""
    y, x = np.mgrid[:128, :128]
    disc = (y - 60) ** 2 + (x - 63) ** 2 <= radius**2

    depth = depth_map(disc)

    assert depth.max() == 255
    assert np.array_equal(depth > 0, disc)
