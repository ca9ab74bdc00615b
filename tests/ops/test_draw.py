from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.core.types.masks import Masks
from nexus.ops.draw import PALETTE, overlay

GREY = np.full((60, 80), 100, np.uint8)
SQUARE = np.zeros((60, 80), bool)
SQUARE[20:40, 30:60] = True
NONE = np.zeros((0, 60, 80), bool)


def test_a_mask_is_blended_inside_and_nowhere_else() -> None:
    """Inside, the picture is alpha of the colour; outside, the image itself."""
    picture = overlay(GREY, SQUARE, colors=[(200, 0, 100)], alpha=0.25, outline=False)

    assert picture.shape == (60, 80, 3)
    assert picture.dtype == np.uint8
    assert (picture[~SQUARE] == 100).all()
    assert (picture[SQUARE] == (125, 75, 100)).all()


def test_the_outline_is_the_full_colour_one_pixel_wide_on_a_small_image() -> None:
    """The mask's own border pixels have the colour unmixed, those inside the blend."""
    picture = overlay(GREY, SQUARE, colors=[(200, 0, 100)])
    border = SQUARE.copy()
    border[21:39, 31:59] = False

    assert (picture[border] == (200, 0, 100)).all()
    assert (picture[SQUARE & ~border] == (150, 50, 100)).all()
    assert (picture[~SQUARE] == 100).all()


@pytest.mark.parametrize(("side", "width"), [(200, 1), (800, 2), (2000, 5)])
def test_the_outline_grows_with_the_image(side: int, width: int) -> None:
    """A line is a four-hundredth of the longer side wide, and never less than a pixel."""
    mask = np.zeros((side, side), bool)
    mask[side // 4 : side // 2, side // 4 : side // 2] = True
    picture = overlay(np.zeros((side, side), np.uint8), mask, colors=[(255, 255, 255)], alpha=0.1)

    assert (picture[side // 3, :, 0] == 255).sum() == 2 * width


def test_a_mask_on_the_edge_of_the_image_is_outlined_there() -> None:
    """A mask of the whole image has its outline along the image's border."""
    picture = overlay(GREY, np.ones((60, 80), bool), colors=[(0, 0, 0)], alpha=0)

    assert (picture[[0, -1]] == 0).all()
    assert (picture[:, [0, -1]] == 0).all()
    assert (picture[1:-1, 1:-1] == 100).all()


def test_the_input_is_never_drawn_into() -> None:
    """Image and masks stay as they were."""
    image = np.dstack([GREY] * 3)
    before = image.copy()
    mask = SQUARE.copy()
    overlay(image, mask, boxes_xyxy=[5, 5, 50, 50], points_xy=[10, 10])

    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(mask, SQUARE)


def test_the_later_mask_lies_on_top_and_each_has_its_colour() -> None:
    """Masks take the palette's colours in turn, and the palette has no colour twice."""
    both = np.stack([SQUARE, SQUARE.copy()])
    both[1, :, :45] = False
    picture = overlay(GREY, both, alpha=1)
    many = overlay(np.zeros((1, 9)), np.eye(9, dtype=bool)[:, None], alpha=1)

    assert tuple(picture[30, 35]) == PALETTE[0]
    assert tuple(picture[30, 50]) == PALETTE[1]
    assert [tuple(color) for color in many[0].tolist()] == [*PALETTE, PALETTE[0]]
    assert len(set(PALETTE)) == len(PALETTE)


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (np.array([[0, 128, 255]], np.uint8), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float16), [0, 128, 255]),
        (np.array([[1000, 2000, 3000]], np.uint16), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.uint16), [0, 0, 0]),
    ],
)
def test_every_depth_is_shown_in_8_bits(image: np.ndarray, shown: list[int]) -> None:
    """Floats are scaled by 255; 16 bits are spread from darkest to brightest."""
    for given in (image, image[..., None], np.dstack([image] * 3), np.dstack([image] * 4)):
        picture = overlay(given, np.zeros((0, 1, 3), bool))

        np.testing.assert_array_equal(picture[..., 1], [shown])


def test_masks_of_every_spelling_are_drawn_alike() -> None:
    """One mask, a stack, a list, 0 and 1, and a result of a model give one picture."""
    result = Masks(SQUARE[None], np.ones(1, np.float32), np.zeros((1, 4, 4), np.float32))
    expected = overlay(GREY, SQUARE)

    for masks in (SQUARE[None], [SQUARE], SQUARE.astype(np.uint8), result):
        np.testing.assert_array_equal(overlay(GREY, masks), expected)  # type: ignore[arg-type]


def test_no_masks_leave_the_image() -> None:
    """An empty list, an empty stack and an empty mask change nothing."""
    for masks in ([], NONE, np.zeros((60, 80), bool)):
        assert (overlay(GREY, masks) == 100).all()


def test_a_box_is_drawn_in_its_masks_colour_on_the_pixels_it_holds() -> None:
    """The line lies on the box's first and last rows and columns, edges exclusive."""
    picture = overlay(GREY, NONE, boxes_xyxy=[[10, 20, 30, 40], [50, 5, 70, 15]])

    for (x0, y0, x1, y1), color in zip(
        [(10, 20, 30, 40), (50, 5, 70, 15)], PALETTE[:2], strict=True
    ):
        assert (picture[[y0, y1 - 1], x0:x1] == color).all()
        assert (picture[y0:y1, [x0, x1 - 1]] == color).all()
        assert (picture[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] == 100).all()
    assert (picture[45:] == 100).all()


def test_boxes_over_the_edge_are_cut_there() -> None:
    """A box that leaves the image shows the part that is inside."""
    picture = overlay(GREY, NONE, boxes_xyxy=[-1e9, 30, 40, 1e9])

    assert (picture[30, :40] == PALETTE[0]).all()
    assert (picture[30:, 39] == PALETTE[0]).all()
    assert (picture[32:, :38] == 100).all()


def test_points_are_green_or_red_with_a_white_rim_and_a_sign() -> None:
    """Foreground has a plus, background a minus, so that colour is not the only difference."""
    large = np.full((900, 900), 100, np.uint8)
    picture = overlay(large, [], points_xy=[[200, 300], [600, 300]], labels=[1, 0]).astype(int)
    green, red = picture[305, 205], picture[305, 605]

    assert green[1] > 100 > green[0]
    assert red[0] > 150 > red[1]
    for x, vertical in ((200, True), (600, False)):
        assert (picture[300, x - 4] > 200).all()
        assert (picture[296, x] > 200).all() == vertical
        assert (picture[300, x + 12] > 200).all()
        assert (picture[300, x + 30] == 100).all()
    np.testing.assert_array_equal(
        overlay(large, [], points_xy=[200, 300]), overlay(large, [], points_xy=[[200, 300]])
    )


def test_a_point_is_centred_on_its_pixel() -> None:
    """The disc around the middle of pixel (200, 300) is its own mirror image there."""
    picture = overlay(np.zeros((900, 900), np.uint8), [], points_xy=[200.5, 300.5])
    patch = picture[270:331, 170:231]

    assert patch.max() == 255
    np.testing.assert_array_equal(patch, patch[::-1])
    np.testing.assert_array_equal(patch, patch[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 2), (5, 3)])
def test_tiny_and_thin_images_are_drawn(shape: tuple[int, int]) -> None:
    """Every mark is cut at the image, however small it is."""
    picture = overlay(
        np.zeros(shape),
        np.ones(shape, bool),
        boxes_xyxy=[0, 0, shape[1], shape[0]],
        points_xy=[[0, 0], [shape[1], shape[0]]],
        labels=[1, 0],
    )

    assert picture.shape == (*shape, 3)


def test_a_large_image_is_drawn_within_bounded_memory() -> None:
    """3000 x 4000 pixels under a mask of all of them take under 12 bytes a pixel."""
    image = np.zeros((3000, 4000, 3), np.uint8)
    mask = np.ones((3000, 4000), bool)
    tracemalloc.start()
    overlay(image, mask, boxes_xyxy=[10, 10, 3000, 2000], points_xy=[50, 50])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 3000 * 4000 * 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((2, 3, 5))}, r"C of 1, 3 or 4, got shape \(2, 3, 5\)"),
        ({"image": np.zeros((0, 3))}, r"got shape \(0, 3\)"),
        ({"image": GREY.astype(int)}, r"uint8, uint16 or float, got int64\nhint: nexus.data"),
        ({"image": GREY / 1.0}, r"in \[0, 1\], got 100 to 100"),
        ({"image": GREY * np.nan}, r"in \[0, 1\], got nan to nan"),
        ({"masks": SQUARE.T}, r"shape \(M, 60, 80\), as the image is, got shape \(80, 60\)"),
        ({"masks": [SQUARE, SQUARE.T]}, r"masks of one size, got several"),
        ({"masks": SQUARE * 1.0}, r"bool, or of 0 and 1, got float64\nhint: logits: mask > 0"),
        ({"masks": SQUARE * 3}, r"label map"),
        ({"alpha": 2}, r"alpha in \[0, 1\], got 2"),
        ({"colors": [(1, 2)]}, r"RGB triples of 0 to 255, got \[\(1, 2\)\]"),
        ({"colors": [(1, 2, 256)]}, r"RGB triples"),
        ({"boxes_xyxy": [1, 2, 3]}, r"boxes_xyxy as finite numbers of shape \(N, 4\), got"),
        ({"points_xy": [[1, np.nan]]}, r"points_xy as finite numbers of shape \(N, 2\)"),
        ({"points_xy": [1, 2], "labels": [1, 0]}, r"one for each of 1 points, got \[1, 0\]"),
        ({"points_xy": [1, 2], "labels": [2]}, r"labels of 0 or 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: dict[str, object], message: str) -> None:
    """Shapes that do not fit and values out of range say what was expected."""
    with pytest.raises(InputError, match=message):
        overlay(**{"image": GREY, "masks": SQUARE, **arguments})  # type: ignore[arg-type]
