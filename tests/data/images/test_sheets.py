from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nexus.data.images.loading import load_image
from nexus.data.images.sheets import Panel, blank_tile, fitted, write_tiles

BLUE = (0, 120, 200)


@pytest.mark.parametrize("size_hw", [(10, 20), (900, 300), (1, 400)])
def test_a_picture_just_fits_into_a_tile(size_hw: tuple[int, int]) -> None:
    """The longer side is that of a tile, and no side is lost."""
    picture = fitted(np.zeros((*size_hw, 3), np.uint8), Image.Resampling.BILINEAR)

    assert max(picture.size) == 196
    assert min(picture.size) >= 1


def test_tiles_stand_six_in_a_row(tmp_path: Path) -> None:
    """The seventh tile begins a second row; a group without tiles has room for its title."""
    tile = (blank_tile(), "caption " * 40)
    heights = [
        load_image(write_tiles(tmp_path / "s.png", [("title", [tile] * count)])).shape[0]
        for count in (0, 6, 7)
    ]

    assert heights == [254, 254, 472]


def test_bars_are_as_high_as_their_counts() -> None:
    """Of two bars the one of twice as many values is twice as high; one value has a bar too."""
    sheet = Image.new("RGB", (420, 250), "white")
    Panel.histogram(sheet, (0, 0, 420, 250), "title", [0.1, 0.1, 0.9], (0.0, 1.0))
    bars = (np.asarray(sheet) == BLUE).all(2).sum(0)

    assert bars[:210].max() == pytest.approx(2 * bars[210:].max(), abs=2)
