"""Captions: where they stand, how large they are, and what is left out where there is no room."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from nexus.core.errors import InputError
from nexus.ops import captions as captions_module
from nexus.ops.captions import Caption, draw_captions
from nexus.ops.draw import PALETTE, overlay

Boxes = dict[int, tuple[int, int, int, int]]


def scene(side: int, count: int, seed: int = 0) -> NDArray[np.bool_]:
    """Return discs at random places of a picture that is 4 wide and 3 high."""
    height, width = side * 3 // 4, side
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    reach = side / (4 if count == 1 else 8 if count == 5 else 28)
    middles = random.random((count, 2)) * (width, height)
    return np.stack([np.hypot(x - cx, y - cy) < max(1, reach) for cx, cy in middles])


def colors(count: int) -> list[tuple[int, int, int]]:
    """Return as many colours, all different."""
    return [(40 + index, 90, 200) for index in range(count)]


def signs(masks: NDArray[np.bool_], texts: list[Caption | str]) -> Boxes:
    """Return the box of each caption that was written, by its object."""
    grounds = colors(len(masks))
    canvas = np.zeros((*masks.shape[1:], 3), np.uint8)
    picture = draw_captions(canvas, masks, texts, grounds)
    found: Boxes = {}
    for index, color in enumerate(grounds):
        rows, columns = (picture == color).all(-1).nonzero()
        if len(rows):
            found[index] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return found


@pytest.mark.parametrize(
    ("side", "count"), [(64, 1), (64, 5), (64, 60), (512, 1), (512, 5), (512, 60), (1500, 5)]
)
def test_captions_stand_in_the_picture_and_not_over_each_other(side: int, count: int) -> None:
    """Whole rectangles, disjoint, at most a line away from their objects."""
    masks = scene(side, count)
    found = signs(masks, [Caption(i + 1, "nucleus", 0.5) for i in range(count)])

    assert found
    assert len(found) == count or side == 64
    for (_, one), (_, two) in itertools.combinations(found.items(), 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart
    for index, (x0, y0, x1, y1) in found.items():
        rows, columns = masks[index].nonzero()
        across = max(x0 - columns.max(), columns.min() - x1, 0)
        down = max(y0 - rows.max(), rows.min() - y1, 0)
        assert max(across, down) <= y1 - y0 + 1


@pytest.mark.parametrize(("side", "least", "most"), [(64, 9, 16), (512, 13, 22), (2000, 45, 75)])
def test_letters_grow_with_the_picture(side: int, least: int, most: int) -> None:
    """A line is about a thirtieth of the picture high, and legible on a small one."""
    (x0, y0, x1, y1) = signs(scene(side, 1), [Caption(1)])[0]

    assert least <= y1 - y0 <= most


def test_a_caption_leaves_its_object_to_be_seen_where_there_is_room_beside_it() -> None:
    """A disc in the middle of the picture has its caption outside."""
    mask = np.zeros((200, 200), bool)
    mask[80:120, 80:120] = True
    (x0, y0, x1, y1) = signs(mask[None], [Caption(1, "cell", 0.9)])[0]

    assert not mask[y0:y1, x0:x1].any()


@pytest.mark.parametrize("color", [*PALETTE, (0, 0, 0), (255, 255, 255), (128, 128, 128)])
def test_letters_stand_out_from_their_ground(color: tuple[int, int, int]) -> None:
    """Black or white, with a contrast of at least 4.5 to 1 as WCAG 2 measures it."""

    def luminance(rgb: tuple[int, ...]) -> float:
        parts = [value / 255 for value in rgb]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ink = captions_module._ink(color)
    light, dark = sorted([luminance(ink), luminance(color)])[::-1]

    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_scores_and_names_go_before_numbers_do() -> None:
    """Five objects in 64 pixels have short captions, and each has one."""
    caption = Caption(7, "polyp", 0.914)

    assert caption.forms == ("7 polyp 0.91", "7 polyp", "7")
    assert Caption(7, score=0.5).forms == ("7: 0.50", "7")
    assert Caption(name="a\nb", score=math.nan).forms == ("a b",)
    assert Caption(score=1.0).forms == ("1.00",)
    assert Caption().forms == ()
    assert len(Caption(name="x" * 99).forms[0]) == 32
    masks = np.zeros((5, 64, 64), bool)
    for index, (row, column) in enumerate([(10, 10), (10, 44), (30, 28), (50, 10), (50, 44)]):
        masks[index, row : row + 9, column : column + 9] = True
    found = signs(masks, [Caption(index, "left lung", 0.5) for index in range(5)])

    assert sorted(found) == [0, 1, 2, 3, 4]


def test_a_text_that_is_too_long_for_the_picture_is_cut() -> None:
    """A caption is never wider than the picture."""
    (x0, _, x1, _) = signs(scene(80, 1), ["posterior horn of the left meniscus"])[0]

    assert 10 < x1 - x0 <= 80


def test_no_text_no_pixel_and_no_room_leave_the_picture() -> None:
    """Empty captions, empty masks and pictures lower than a letter are passed over."""
    empty = np.zeros((1, 40, 40), bool)

    assert signs(scene(64, 1), [""]) == {}
    assert signs(scene(64, 1), [Caption()]) == {}
    assert signs(empty, [Caption(1)]) == {}
    assert signs(np.ones((1, 5, 300), bool), [Caption(1)]) == {}
    assert signs(np.ones((1, 40, 40), bool), [Caption(1)]) != {}


def test_an_empty_mask_is_captioned_at_its_box() -> None:
    """What was pointed at and not found still has its number."""
    empty = np.zeros((1, 100, 100), bool)
    picture = overlay(
        np.zeros((100, 100)), empty, boxes_xyxy=[40, 40, 60, 60], captions=[Caption(1, "cell")]
    )

    assert (picture[:40].max(-1) == 255).sum() > 100
    assert (picture[70:] == 0).all()


def test_captions_cover_no_point() -> None:
    """The click on a large object stays to be seen."""
    image, mask = np.zeros((300, 300), np.uint8), np.ones((300, 300), bool)
    for x, y in ((150, 150), (150, 5), (5, 150)):
        arguments = {"points_xy": [[x, y]], "alpha": 0.0, "outline": False}
        bare = overlay(image, mask, **arguments)  # type: ignore[arg-type]
        told = overlay(image, mask, captions=[Caption(1, "cell")], **arguments)  # type: ignore[arg-type]
        disc = bare.any(-1)

        assert (told != bare).any()
        np.testing.assert_array_equal(told[disc], bare[disc])


def test_the_ground_has_the_colour_of_the_mask() -> None:
    """Whose caption it is, colour says."""
    masks = scene(512, 5)
    picture = overlay(
        np.zeros((384, 512)), masks, captions=[Caption(i) for i in range(5)], alpha=0, outline=False
    )

    for color in PALETTE[:5]:
        assert (picture == color).all(-1).sum() > 80


def test_marks_no_font_has_are_shown_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a font for it an accent goes, and other writing becomes a question mark."""
    monkeypatch.setattr(captions_module, "_found_fonts", lambda _: iter(()))
    captions_module._shaped.cache_clear()
    shown = {text: captions_module._shaped(text, 20)[0] for text in ("Tumör", "肺 1", "cell")}
    captions_module._shaped.cache_clear()

    assert shown == {"Tumör": "Tumor", "肺 1": "? 1", "cell": "cell"}


def test_a_pillow_without_freetype_writes_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bitmap font has one size; captions are still there."""
    from PIL import ImageFont

    def bitmap(size: float | None = None) -> object:
        if size is not None:
            raise ImportError("the _imagingft C module is not installed")
        return ImageFont.load_default_imagefont()

    monkeypatch.setattr(ImageFont, "load_default", bitmap)
    monkeypatch.setattr(captions_module, "_found_fonts", lambda _: iter(()))
    for cached in (captions_module._own_font, captions_module._shaped):
        cached.cache_clear()
    found = signs(scene(512, 1), [Caption(1, "肺 cell", 0.5)])
    for cached in (captions_module._own_font, captions_module._shaped):
        cached.cache_clear()

    assert found


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([Caption(1)], "expected a caption for each of 2 masks, got 1"),
        ("ab", "expected a caption for each of 2 masks, got 'ab'"),
    ],
)
def test_as_many_captions_as_masks(captions: object, message: str) -> None:
    """One text for all, or another number of captions, is refused."""
    with pytest.raises(InputError, match=message):
        overlay(np.zeros((9, 9)), np.ones((2, 9, 9), bool), captions=captions)  # type: ignore[arg-type]


def test_captions_do_not_hide_what_they_tell_of() -> None:
    """Of many cells side by side no more than a quarter lies under captions but for numbers."""
    masks = np.zeros((25, 256, 256), bool)
    for index, (row, column) in enumerate(itertools.product(range(5), range(5))):
        masks[index, 50 * row + 4 : 50 * row + 50, 50 * column + 4 : 50 * column + 50] = True
    found = signs(masks, [Caption(i + 1, "a nucleus of a cell", 0.5) for i in range(25)])
    under = np.zeros((256, 256), bool)
    for x0, y0, x1, y1 in found.values():
        under[y0:y1, x0:x1] = True

    assert len(found) == 25
    assert (under & masks.any(0)).sum() <= 0.26 * masks.any(0).sum()
