"""How good a generated dataset looks: numbers, plots of them, and its best and worst masks."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nexus.core.errors import NexusError
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.data.images.loading import load_image, write_picture
from nexus.ops.draw import overlay
from nexus.ops.rle import decode_rle

_BINS = 20
_PANEL_WH = (420, 250)
_TILE_PX = 168
_CAPTION_PX = 18
_COLUMNS = 6
_SHOWN = 12
_INK, _PALE, _BAR = (30, 30, 36), (150, 150, 158), (0, 120, 200)


@dataclass(frozen=True)
class _Pick:
    """A mask for the contact sheet."""

    image: DatasetImage
    number: int
    score: float


@dataclass(frozen=True)
class Survey:
    """What one walk over a dataset finds.

    Attributes:
        images: Images.
        masks: Masks of all of them.
        without_masks: Images that have none.
        values: For each quantity that is plotted its values: masks per image, predicted IoU,
            stability score, share of the image that a mask covers.
        best: Masks with the highest predicted IoU, at most one an image, best first.
        worst: Those with the lowest, worst first.
    """

    images: int
    masks: int
    without_masks: int
    values: Mapping[str, NDArray[np.float64]]
    best: Sequence[_Pick]
    worst: Sequence[_Pick]

    def as_json(self) -> dict[str, Any]:
        """Return counts, and of each quantity its least, median, mean and largest value."""
        return {
            "images": self.images,
            "masks": self.masks,
            "images_without_masks": self.without_masks,
            **{name: _summary(values) for name, values in self.values.items()},
        }


def survey(dataset: Dataset) -> Survey:
    """Go over a dataset once."""
    counts, ious, stabilities, shares = [], [], [], []
    best: list[tuple[float, int, _Pick]] = []
    worst: list[tuple[float, int, _Pick]] = []
    for index, image in enumerate(dataset.images):
        counts.append(len(image.masks))
        pixels = image.size_hw[0] * image.size_hw[1]
        scores = [mask["predicted_iou"] for mask in image.masks]
        ious += scores
        stabilities += [mask["stability_score"] for mask in image.masks]
        shares += [mask["area"] / pixels for mask in image.masks]
        if scores:
            top, low = int(np.argmax(scores)), int(np.argmin(scores))
            _keep(best, (scores[top], -index, _pick(image, top, scores[top])))
            _keep(worst, (-scores[low], -index, _pick(image, low, scores[low])))
    values = {
        "masks_per_image": counts,
        "predicted_iou": ious,
        "stability_score": stabilities,
        "share_of_image": shares,
    }
    return Survey(
        images=len(counts),
        masks=len(ious),
        without_masks=sum(count == 0 for count in counts),
        values={name: np.asarray(each, np.float64) for name, each in values.items()},
        best=[pick for _, _, pick in sorted(best, key=lambda each: each[:2], reverse=True)],
        worst=[pick for _, _, pick in sorted(worst, key=lambda each: each[:2], reverse=True)],
    )


def write_statistics(path: Path, found: Survey) -> Path:
    """Draw histograms of the quantities of a survey as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    width, height = _PANEL_WH
    sheet = Image.new("RGB", (2 * width, 2 * height), "white")
    draw = ImageDraw.Draw(sheet)
    titles = {
        "masks_per_image": f"masks per image ({found.images} images)",
        "predicted_iou": f"predicted IoU ({found.masks} masks)",
        "stability_score": "stability score",
        "share_of_image": "share of the image, powers of ten",
    }
    for place, (name, title) in enumerate(titles.items()):
        values = found.values[name]
        if name == "share_of_image" and len(values):
            values = np.log10(values)
        corner = (place % 2 * width, place // 2 * height)
        _histogram(draw, corner, title, values)
    return write_picture(path, np.asarray(sheet))


def write_contact_sheet(path: Path, found: Survey, *, max_pixels: int | None = None) -> Path:
    """Draw the best and the worst masks of a survey as PNG; return the path.

    Args:
        path: A name that ends in .png.
        found: From `survey`.
        max_pixels: As in `nexus.data.images.load_image`.

    Raises:
        OSError: It cannot be written.
    """
    groups = (("best predicted IoU", found.best), ("worst predicted IoU", found.worst))
    rows = [max(1, math.ceil(len(picks) / _COLUMNS)) for _, picks in groups]
    row_px = _TILE_PX + _CAPTION_PX
    sheet = Image.new(
        "RGB", (_COLUMNS * _TILE_PX, sum(rows) * row_px + 2 * 2 * _CAPTION_PX), "white"
    )
    draw = ImageDraw.Draw(sheet)
    top = 0
    for (title, picks), count in zip(groups, rows, strict=True):
        draw.text((6, top + 8), title, fill=_INK, font=_font(15))
        top += 2 * _CAPTION_PX
        for place, pick in enumerate(picks):
            left, down = place % _COLUMNS * _TILE_PX, top + place // _COLUMNS * row_px
            sheet.paste(_tile(pick, max_pixels), (left + 2, down + 2))
            caption = _fitting(f"{pick.score:.3f}  {pick.image.source.name}", _TILE_PX - 6)
            draw.text((left + 3, down + _TILE_PX), caption, fill=_INK, font=_font(11))
        top += count * row_px
    return write_picture(path, np.asarray(sheet))


def _pick(image: DatasetImage, number: int, score: float) -> _Pick:
    """Keep one mask of an image, and none of its others."""
    return _Pick(DatasetImage(image.source, image.size_hw, [image.masks[number]]), number, score)


def _keep(heap: list[tuple[float, int, _Pick]], entry: tuple[float, int, _Pick]) -> None:
    push: Callable[..., Any] = heapq.heappush if len(heap) < _SHOWN else heapq.heappushpop
    push(heap, entry)


def _summary(values: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(values):
        return None
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "mean": math.fsum(values) / len(values),
        "largest": float(values.max()),
    }


def _histogram(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], title: str, values: NDArray[np.float64]
) -> None:
    """Draw bars of 20 equal ranges from the least to the largest value."""
    left, top, right = corner[0] + 20, corner[1] + 40, corner[0] + _PANEL_WH[0] - 20
    bottom = corner[1] + _PANEL_WH[1] - 30
    draw.text((left, corner[1] + 12), title, fill=_INK, font=_font(14))
    draw.line((left, bottom, right, bottom), fill=_PALE)
    if not len(values):
        draw.text((left, (top + bottom) // 2), "nothing", fill=_PALE, font=_font(14))
        return
    low, high = float(values.min()), float(values.max())
    heights, _ = np.histogram(values, _BINS, (low, high if high > low else low + 1))
    step = (right - left) / _BINS
    for index, count in enumerate(heights.tolist()):
        if count:
            up = max(1, round((bottom - top) * count / heights.max()))
            x0 = left + round(index * step)
            draw.rectangle((x0, bottom - up, x0 + round(step) - 2, bottom - 1), fill=_BAR)
    draw.text((left, bottom + 6), f"{low:.3g}", fill=_INK, font=_font(12))
    draw.text((right, bottom + 6), f"{high:.3g}", fill=_INK, font=_font(12), anchor="ra")
    draw.text((right, corner[1] + 14), f"{heights.max()}", fill=_PALE, font=_font(12), anchor="ra")


def _tile(pick: _Pick, max_pixels: int | None) -> Image.Image:
    """Return a mask on the part of its image around it, at most a tile large."""
    side = _TILE_PX - 4
    (mask,) = pick.image.masks
    height, width = pick.image.size_hw
    x0, y0, x1, y1 = mask["box_xyxy"]
    margin = max(4, (x1 - x0) // 4, (y1 - y0) // 4)
    x0, y0 = max(0, x0 - margin), max(0, y0 - margin)
    x1, y1 = min(width, x1 + margin), min(height, y1 + margin)
    shown = decode_rle(mask["segmentation"])[y0:y1, x0:x1]
    try:
        image: NDArray[Any] = load_image(pick.image.source.path, max_pixels=max_pixels)
        part = image[y0:y1, x0:x1]
        if part.shape[:2] != shown.shape:
            return Image.new("RGB", (side, side), _PALE)
    except (NexusError, OSError):  # gone since; the masks are what matters
        return Image.new("RGB", (side, side), _PALE)
    picture = Image.fromarray(overlay(part, shown[None]))
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR)


def _fitting(text: str, width_px: int) -> str:
    """Shorten a caption to what fits, and leave out what the font cannot draw."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while len(text) > 1 and _font(11).getlength(text) > width_px:
        text = text[:-1]
    return text


def _font(size_px: int) -> Any:
    return ImageFont.load_default(size_px)
