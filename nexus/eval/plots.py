"""Pictures of an evaluation: histograms, the curve over clicks, and the worst objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nexus.core.errors import NexusError
from nexus.data.images.loading import load_image, write_picture
from nexus.data.truth.labelled import LabelledImage, LabelledVideo
from nexus.ops.draw import overlay
from nexus.ops.rle import decode_rle

_PANEL_WH = (520, 300)
_BINS = 20
_TILE_PX, _CAPTION_PX, _COLUMNS, _SHOWN = 200, 18, 6, 12
_TRUE, _PREDICTED = (0, 190, 130), (255, 120, 0)
_INK, _PALE, _BAR = (30, 30, 36), (205, 205, 212), (0, 120, 200)
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

_Rows = Sequence[Mapping[str, Any]]


def write_histograms(path: Path, rows: _Rows) -> Path:
    """Draw for each protocol how the IoU (for videos J&F) spreads, as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    sheet = Image.new("RGB", (_PANEL_WH[0], _PANEL_WH[1] * max(1, len(protocols))), "white")
    draw = ImageDraw.Draw(sheet)
    for place, protocol in enumerate(protocols):
        metric = main_metric(protocol)
        values = [
            row[metric] for row in rows if row["protocol"] == protocol and row[metric] is not None
        ]
        heights, _ = np.histogram(values, _BINS, (0.0, 1.0))
        title = f"{protocol}: {metric} of {len(values)} objects"
        panel = _Panel(draw, place * _PANEL_WH[1], title, float(max(1, heights.max())))
        for index, count in enumerate(heights.tolist()):
            if count:
                panel.bar(index / _BINS, (index + 1) / _BINS, count)
        for tick in _TICKS:
            panel.below(tick, f"{tick:g}")
    return write_picture(path, np.asarray(sheet))


def write_click_curve(path: Path, curve: Sequence[float], title: str) -> Path:
    """Draw the mean IoU after each click as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    sheet = Image.new("RGB", _PANEL_WH, "white")
    panel = _Panel(ImageDraw.Draw(sheet), 0, title, 1.0)
    for tick in _TICKS:
        panel.level(tick)
    places = [0.5] if len(curve) == 1 else [i / (len(curve) - 1) for i in range(len(curve))]
    panel.line(list(zip(places, curve, strict=True)))
    step = max(1, math.ceil(len(curve) / 10))
    for index in range(0, len(curve), step):
        panel.below(places[index], str(index + 1))
    return write_picture(path, np.asarray(sheet))


def write_worst(
    path: Path,
    rows: _Rows,
    sources: Mapping[tuple[str, str], LabelledImage | LabelledVideo],
) -> Path:
    """Draw the worst objects of each protocol as PNG, truth green and prediction orange.

    Args:
        path: A name that ends in .png.
        rows: With their predictions.
        sources: By name of set and image.

    Raises:
        OSError: It cannot be written.
    """
    groups = {
        protocol: worst_rows(rows, protocol)
        for protocol in dict.fromkeys(row["protocol"] for row in rows)
    }
    row_px = _TILE_PX + _CAPTION_PX
    lines = {name: max(1, math.ceil(len(each) / _COLUMNS)) for name, each in groups.items()}
    height = sum(lines.values()) * row_px + 2 * _CAPTION_PX * max(1, len(groups))
    sheet = Image.new("RGB", (_COLUMNS * _TILE_PX, height), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for protocol, worst in groups.items():
        title = f"{protocol}: lowest {main_metric(protocol)}; truth green, prediction orange"
        draw.text((6, top + 8), title, fill=_INK, font=_font(15))
        top += 2 * _CAPTION_PX
        for place, row in enumerate(worst):
            left, down = place % _COLUMNS * _TILE_PX, top + place // _COLUMNS * row_px
            tile = _tile(row, sources.get((row["set"], row["image"])))
            sheet.paste(tile, (left + 2, down + 2))
            caption = f"{row[main_metric(protocol)]:.3f}  {row['image']} #{row['object_id']}"
            draw.text((left + 3, down + _TILE_PX), _fitting(caption), fill=_INK, font=_font(11))
        top += lines[protocol] * row_px
    return write_picture(path, np.asarray(sheet))


def main_metric(protocol: str) -> str:
    """Return the metric that pictures of a protocol show."""
    return "j_and_f" if protocol == "vos" else "iou"


def worst_rows(rows: _Rows, protocol: str, count: int = _SHOWN) -> list[Mapping[str, Any]]:
    """Return the rows of a protocol with the lowest figures, worst first."""
    metric = main_metric(protocol)
    shown = [
        row
        for row in rows
        if row["protocol"] == protocol and row[metric] is not None and "prediction" in row
    ]
    return sorted(shown, key=lambda row: float(row[metric]))[:count]


class _Panel:
    """Axes from 0 to 1 across, and from 0 to `highest` up."""

    def __init__(self, draw: ImageDraw.ImageDraw, top: int, title: str, highest: float) -> None:
        self._draw = draw
        self._left, self._right = 50, _PANEL_WH[0] - 20
        self._top, self._bottom = top + 40, top + _PANEL_WH[1] - 30
        self._highest = highest
        draw.text((self._left, top + 12), title, fill=_INK, font=_font(14))
        draw.line((self._left, self._bottom, self._right, self._bottom), fill=_INK)
        self._beside(highest)

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


def _tile(row: Mapping[str, Any], source: LabelledImage | LabelledVideo | None) -> Image.Image:
    """Return the part of an image around an object, with both outlines; grey if it is gone."""
    side = _TILE_PX - 4
    try:
        if source is None:
            return Image.new("RGB", (side, side), _PALE)
        image, truth = _read(row, source)
    except (NexusError, OSError):  # it was there when it was evaluated; the figures matter more
        return Image.new("RGB", (side, side), _PALE)
    predicted = decode_rle(row["prediction"])
    both = truth | predicted
    rows, columns = np.flatnonzero(both.any(1)), np.flatnonzero(both.any(0))
    if not len(rows):
        rows, columns = np.array([0, both.shape[0] - 1]), np.array([0, both.shape[1] - 1])
    margin = 4 + int(max(rows[-1] - rows[0], columns[-1] - columns[0])) // 5
    window = np.s_[
        max(0, rows[0] - margin) : rows[-1] + 1 + margin,
        max(0, columns[0] - margin) : columns[-1] + 1 + margin,
    ]
    part = image[window]
    size_hw, scale = part.shape[:2], side / max(part.shape[:2])
    size = (max(1, round(size_hw[1] * scale)), max(1, round(size_hw[0] * scale)))
    plain = Image.fromarray(overlay(part, np.zeros((0, *size_hw), np.bool_)))
    shown = np.asarray(plain.resize(size, Image.Resampling.BILINEAR))
    # Masks are enlarged before their outlines are drawn, lest a line be as wide as a pixel of old.
    outlines = [
        np.asarray(Image.fromarray(mask[window]).resize(size, Image.Resampling.NEAREST))
        for mask in (truth, predicted)
    ]
    return Image.fromarray(
        overlay(shown, np.stack(outlines), colors=(_TRUE, _PREDICTED), alpha=0.0)
    )


def _read(
    row: Mapping[str, Any], source: LabelledImage | LabelledVideo
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the image and the true mask of a row; an object not there has an empty one."""
    if isinstance(source, LabelledVideo):
        frame = row["worst_frame"]
        return load_image(source.frames[frame]), source.load_labels(frame) == row["object_id"]
    truths = {truth.object_id: truth.mask for truth in source.load_truths()}
    image = source.load_image()
    return image, truths.get(row["object_id"], np.zeros(image.shape[:2], np.bool_))


def _fitting(text: str) -> str:
    """Shorten a caption from its middle to what fits, without what the font cannot draw."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while len(text) > 8 and _font(11).getlength(text) > _TILE_PX - 6:
        text = text[:7] + text[8:]
    return text


def _font(size_px: int) -> Any:
    return ImageFont.load_default(size_px)
