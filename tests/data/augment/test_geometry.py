from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.data.augment.geometry import Warp, about, flip, rotation, shift, zoom

SIZE_HW = (6, 9)


def noise(dtype: type, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    values = np.random.default_rng(0).random((*size_hw, 3))
    top = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    return (values * top).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("x", "y"), [(True, False), (False, True), (True, True)])
def test_flips_are_exact(dtype: type, x: bool, y: bool) -> None:
    """A mirrored image, mask and point are those of NumPy's flip, to the last bit."""
    image = noise(dtype)
    mask = image[..., 0] > image[..., 1]
    warp = Warp(flip(SIZE_HW, x=x, y=y), SIZE_HW)
    axes = tuple(axis for axis, on in ((0, y), (1, x)) if on)
    moved = warp.image(image)
    ((column, row),) = warp.points([2, 1])

    assert moved.dtype == dtype
    assert np.array_equal(moved, np.flip(image, axes))
    assert np.array_equal(warp.mask(mask), np.flip(mask, axes))
    assert np.array_equal(moved[int(row), int(column)], image[1, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_windows_are_exact(dtype: type) -> None:
    """A window by whole pixels is a slice of the image and of the mask."""
    image = noise(dtype)
    mask = image[..., 0] > image[..., 1]
    warp = Warp(shift(-3, -2), (3, 4))

    assert np.array_equal(warp.image(image), image[2:5, 3:7])
    assert np.array_equal(warp.mask(mask), mask[2:5, 3:7])
    assert warp.box((4, 0, 9, 3)).tolist() == [1, 0, 4, 1]


def test_a_quarter_turn_is_exact() -> None:
    """A turn by 90 degrees around the centre of a square is NumPy's, clockwise on the screen."""
    image = noise(np.uint8, (8, 8))
    warp = Warp(about(rotation(90), (4, 4)), (8, 8))

    assert np.abs(warp.image(image).astype(int) - np.rot90(image, -1)).max() <= 1
    assert np.allclose(warp.points([[0, 0]]), [[7, 0]])


def test_nothing_to_do_gives_the_same_array() -> None:
    """The identity neither interpolates nor copies."""
    image = noise(np.float32)
    warp = Warp.identity(SIZE_HW)

    assert warp.image(image) is image
    assert warp.mask(image[..., 0] > 0.5).tolist() == (image[..., 0] > 0.5).tolist()
    assert warp.box((1, 2, 3, 4)).tolist() == [1, 2, 3, 4]


def test_images_are_interpolated_linearly() -> None:
    """On a ramp of colour, values are those of the place a pixel's middle comes from."""
    x = np.arange(40, dtype=np.float32)
    image = np.repeat(np.tile(x / 40, (30, 1))[..., None], 3, axis=2)
    matrix = about(rotation(20) @ zoom(1.3), (20, 15))
    moved = Warp(matrix, (30, 40)).image(image)
    middle = np.linalg.inv(matrix) @ (20.5, 12.5, 1)

    assert moved[12, 20, 0] == pytest.approx((middle[0] - 0.5) / 40, abs=1e-6)


def test_images_agree_with_scipy() -> None:
    """Away from the edge the image is what SciPy's own interpolation of order 1 makes of it."""
    image = ndimage.gaussian_filter(noise(np.float32, (40, 50)), (3, 3, 0))
    matrix = about(rotation(-17) @ zoom(0.9), (25, 20))
    back = np.linalg.inv(matrix)
    rows, columns = np.mgrid[:40, :50] + 0.5
    source = np.einsum("ij,jhw->ihw", back, np.stack([columns, rows, np.ones((40, 50))]))
    at = source[1] - 0.5, source[0] - 0.5
    expected = np.stack([ndimage.map_coordinates(image[..., c], at, order=1) for c in range(3)], 2)
    inside = (at[0] > 1) & (at[0] < 38) & (at[1] > 1) & (at[1] < 48)

    assert inside.mean() > 0.6
    assert np.abs(Warp(matrix, (40, 50)).image(image) - expected)[inside].max() < 1e-5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_was_not_there_has_the_mean_colour(dtype: type) -> None:
    """Beyond the source an image has its mean colour, a mask is empty."""
    image = noise(dtype)
    warp = Warp(shift(3, 0), SIZE_HW)
    mean = image.reshape(-1, 3).mean(0)
    tolerance = 0.5 if np.issubdtype(dtype, np.integer) else 1e-6

    assert np.abs(warp.image(image)[:, :3] - mean).max() <= tolerance + 1e-6
    assert warp.mask(np.ones(SIZE_HW, np.bool_))[0].tolist() == [False] * 3 + [True] * 6


def test_a_mask_is_computed_where_it_can_be_alone() -> None:
    """Computing a part of the output gives what the whole output would."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        mask = np.zeros((40, 50), np.bool_)
        row, column = rng.integers(0, 30), rng.integers(0, 40)
        mask[row : row + 10, column : column + 10] = rng.random((10, 10)) < 0.7
        matrix = about(rotation(rng.uniform(-90, 90)) @ zoom(rng.uniform(0.5, 3)), (25, 20))
        warp = Warp(matrix, (40, 50))
        gray = np.repeat(mask[..., None], 3, axis=2).astype(np.float32)
        # A frame of zeros, so that beyond the mask's image is background here too.
        whole = Warp(matrix @ shift(-9, -9), (40, 50)).image(np.pad(gray, ((9, 9), (9, 9), (0, 0))))
        inside = np.linalg.inv(matrix)[:2] @ np.stack(
            [*(np.mgrid[:40, :50] + 0.5)[::-1].reshape(2, -1), np.ones(2000)]
        )
        far = ((inside > 0.5) & (inside < [[49.5], [39.5]])).all(0).reshape(40, 50)
        # Interpolated in bytes, values a two-hundredth from a half may fall to either side.
        clear = far & (np.abs(whole[..., 0] - 0.5) > 0.005)

        assert np.array_equal(warp.mask(mask)[clear], whole[..., 0][clear] > 0.5)


def test_boxes_are_around_their_corners() -> None:
    """A turned box is the box around its four corners, cut at the image's edge."""
    warp = Warp(about(rotation(45), (10, 10)), (20, 20))
    side = 4 * np.sqrt(2)

    assert np.allclose(warp.box((6, 6, 14, 14)), [10 - side, 10 - side, 10 + side, 10 + side])
    assert warp.box((0, 0, 1, 1)).tolist() == pytest.approx([9.293, 0, 10.707, 0], abs=1e-3)


def test_steps_add_up() -> None:
    """Two steps at once move points as one after the other; a step is undone by its opposite."""
    first, second = Warp(rotation(30), (20, 30)), Warp(shift(2, 5) @ zoom(2), (10, 12))
    points = [[3.0, 4.0], [7.5, 1.0]]
    both = first.then(second)
    undone = Warp(flip((4, 7), x=True, y=True), (4, 7))

    assert both.size_hw == (10, 12)
    assert np.allclose(both.points(points), second.points(first.points(points)))
    assert not undone.then(undone).changes((4, 7))


def test_results_can_be_written() -> None:
    """A moved image and mask are arrays of their own."""
    image = noise(np.uint8)
    warp = Warp(flip(SIZE_HW, x=True, y=False), SIZE_HW)
    moved = warp.image(image)

    assert moved.flags.writeable
    assert warp.mask(image[..., 0] > 9).flags.writeable


@pytest.mark.parametrize(
    ("matrix", "size_hw", "message"),
    [
        (np.eye(2), (4, 4), r"expected a finite matrix of shape \(3, 3\), got"),
        (np.full((3, 3), np.nan), (4, 4), "expected a finite matrix"),
        (np.diag([1, 1, 2]), (4, 4), "expected a matrix whose last row is 0, 0, 1"),
        (np.diag([1, 0, 1]), (4, 4), "expected a matrix that can be undone"),
        (np.eye(3), (0, 4), r"expected an output of at least 1 x 1 pixels, got \(0, 4\)"),
    ],
)
def test_matrices_that_move_nothing_sensibly_are_refused(
    matrix: np.ndarray, size_hw: tuple[int, int], message: str
) -> None:
    """A matrix is finite, affine and can be undone; an output has pixels."""
    with pytest.raises(InputError, match=message):
        Warp(matrix, size_hw)
