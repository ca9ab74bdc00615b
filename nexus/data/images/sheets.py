"""Pictures about many things: panels with axes, and sheets of tiles with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from nexus.data.images.loading import write_picture

TILE_PX = 200
_CAPTION_PX, _COLUMNS = 18, 6
_INK, _PALE, _BAR = (30, 30, 36), (205, 205, 212), (0, 120, 200)
_BINS = 20

Tile = tuple[Image.Image, str]
"""A picture, of at most 196 pixels a side, and its caption."""


def fitted(picture: NDArray[Any], resample: Image.Resampling) -> Image.Image:
    """Return a picture (H, W) or (H, W, 3) scaled to just fit into a tile."""
    image = Image.fromarray(picture)
    scale = (TILE_PX - 4) / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, resample)


def blank_tile() -> Image.Image:
    """Return a grey tile, for what cannot be shown."""
    return Image.new("RGB", (TILE_PX - 4, TILE_PX - 4), _PALE)


def write_tiles(path: Path, groups: Sequence[tuple[str, Sequence[Tile]]]) -> Path:
    """Draw groups of tiles, each under its title and six in a row, as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    row_px = TILE_PX + _CAPTION_PX
    lines = [max(1, math.ceil(len(tiles) / _COLUMNS)) for _, tiles in groups]
    height = sum(lines) * row_px + 2 * _CAPTION_PX * max(1, len(groups))
    sheet = Image.new("RGB", (_COLUMNS * TILE_PX, height), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (title, tiles), count in zip(groups, lines, strict=True):
        draw.text((6, top + 8), title, fill=_INK, font=_font(15))
        top += 2 * _CAPTION_PX
        for place, (tile, caption) in enumerate(tiles):
            left, down = place % _COLUMNS * TILE_PX, top + place // _COLUMNS * row_px
            sheet.paste(tile, (left + 2, down + 2))
            draw.text((left + 3, down + TILE_PX), _fitting(caption), fill=_INK, font=_font(11))
        top += count * row_px
    return write_picture(path, np.asarray(sheet))


class Panel:
    """Axes from 0 to 1 across, and from 0 to `highest` up, in a box x, y, width, height."""

    def __init__(
        self, sheet: Image.Image, box_xywh: tuple[int, int, int, int], title: str, highest: float
    ) -> None:
        x, y, width, height = box_xywh
        self._draw, self._highest = ImageDraw.Draw(sheet), highest
        self._left, self._right = x + 50, x + width - 20
        self._top, self._bottom = y + 40, y + height - 30
        self._draw.text((self._left, y + 12), title, fill=_INK, font=_font(14))
        self._draw.line((self._left, self._bottom, self._right, self._bottom), fill=_INK)
        self._beside(highest)

    @classmethod
    def histogram(
        cls,
        sheet: Image.Image,
        box_xywh: tuple[int, int, int, int],
        title: str,
        values: ArrayLike,
        span: tuple[float, float],
    ) -> Panel:
        """Draw how values spread over 20 equal parts of a range."""
        heights, _ = np.histogram(values, _BINS, span)
        panel = cls(sheet, box_xywh, title, float(max(1, heights.max())))
        for index, count in enumerate(heights.tolist()):
            if count:
                panel.bar(index / _BINS, (index + 1) / _BINS, count)
        return panel

    def bar(self, start: float, stop: float, value: float) -> None:
        """Fill a bar between two places."""
        (x0, y0), (x1, _) = self._at(start, value), self._at(stop, value)
        self._draw.rectangle((x0, min(y0, self._bottom - 1), x1 - 2, self._bottom - 1), fill=_BAR)

    def line(self, points: Sequence[tuple[float, float]]) -> None:
        """Join points, with a dot on each."""
        places = [self._at(x, y) for x, y in points]
        self._draw.line(places, fill=_BAR, width=2)
        for x, y in places:
            self._draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_BAR)

    def level(self, value: float) -> None:
        """Draw a pale line across at a value, and say which."""
        y = self._at(0, value)[1]
        self._draw.line((self._left, y, self._right, y), fill=_PALE)
        self._beside(value)

    def below(self, place: float, text: str) -> None:
        """Write under the axis."""
        at = (self._at(place, 0)[0], self._bottom + 6)
        self._draw.text(at, text, fill=_INK, font=_font(12), anchor="ma")

    def _beside(self, value: float) -> None:
        at = (self._left - 6, self._at(0, value)[1])
        self._draw.text(at, f"{value:g}", fill=_INK, font=_font(12), anchor="rm")

    def _at(self, across: float, value: float) -> tuple[int, int]:
        share = value / self._highest
        return (
            round(self._left + across * (self._right - self._left)),
            round(self._bottom - share * (self._bottom - self._top)),
        )


def _fitting(text: str) -> str:
    """Shorten a caption from its middle to what fits, without what the font cannot draw."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while len(text) > 8 and _font(11).getlength(text) > TILE_PX - 6:
        text = text[:7] + text[8:]
    return text


def _font(size_px: int) -> Any:
    return ImageFont.load_default(size_px)
