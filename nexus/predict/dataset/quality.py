"""How good a generated dataset looks: numbers, plots of them, and its best and worst masks."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import NexusError
from nexus.core.words import counted
from nexus.data.formats.dataset import Dataset, DatasetImage
from nexus.data.images.loading import load_image, write_picture
from nexus.data.images.sheets import Panel, Tile, blank_tile, fitted, write_tiles
from nexus.ops.draw import overlay
from nexus.ops.rle import decode_rle

_PANEL_WH = (420, 250)
_SHOWN = 12


@dataclass(frozen=True)
class Survey:
    """What one walk over a dataset finds.

    Attributes:
        values: For each quantity that is plotted its values: masks per image, predicted IoU,
            stability score, share of the image that a mask covers.
        best: Images with the mask of theirs that has the highest predicted IoU, best first.
        worst: The same with the lowest, worst first.
    """

    values: Mapping[str, NDArray[np.float64]]
    best: Sequence[DatasetImage]
    worst: Sequence[DatasetImage]

    def as_json(self) -> dict[str, Any]:
        """Return counts, and of each quantity its least, median, mean and largest value."""
        return {
            "images": len(self.values["masks_per_image"]),
            "masks": len(self.values["predicted_iou"]),
            "images_without_masks": int(np.count_nonzero(self.values["masks_per_image"] == 0)),
            **{name: _summary(values) for name, values in self.values.items()},
        }


def survey(dataset: Dataset) -> Survey:
    """Go over a dataset once."""
    counts, ious, stabilities, shares = [], [], [], []
    best: list[tuple[float, int, DatasetImage]] = []
    worst: list[tuple[float, int, DatasetImage]] = []
    for index, image in enumerate(dataset.images):
        counts.append(len(image.masks))
        pixels = image.size_hw[0] * image.size_hw[1]
        scores = [mask["predicted_iou"] for mask in image.masks]
        ious += scores
        stabilities += [mask["stability_score"] for mask in image.masks]
        shares += [mask["area"] / pixels for mask in image.masks]
        for heap, sign in ((best, 1), (worst, -1)) if scores else ():
            rank, number = max((sign * score, -place) for place, score in enumerate(scores))
            # One mask of the image is kept in memory, and none of its others.
            shown = DatasetImage(image.source, image.size_hw, [image.masks[-number]])
            push: Any = heapq.heappush if len(heap) < _SHOWN else heapq.heappushpop
            push(heap, (rank, -index, shown))
    values = {
        "masks_per_image": counts,
        "predicted_iou": ious,
        "stability_score": stabilities,
        "share_of_image": shares,
    }
    return Survey(
        values={name: np.asarray(each, np.float64) for name, each in values.items()},
        best=[shown for _, _, shown in sorted(best, reverse=True)],
        worst=[shown for _, _, shown in sorted(worst, reverse=True)],
    )


def write_statistics(path: Path, found: Survey) -> Path:
    """Draw histograms of the quantities of a survey as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    width, height = _PANEL_WH
    sheet = Image.new("RGB", (2 * width, 2 * height), "white")
    counts = {name: len(values) for name, values in found.values.items()}
    titles = {
        "masks_per_image": f"masks per image ({counted(counts['masks_per_image'], 'image')})",
        "predicted_iou": f"predicted IoU ({counted(counts['predicted_iou'], 'mask')})",
        "stability_score": "stability score",
        "share_of_image": "share of the image, powers of ten",
    }
    for place, (name, title) in enumerate(titles.items()):
        values, box = found.values[name], (place % 2 * width, place // 2 * height, width, height)
        if not len(values):
            Panel(sheet, box, f"{title}: nothing", 1.0)
            continue
        if name == "share_of_image":
            values = np.log10(values)
        low, high = float(values.min()), float(values.max())
        span = (low, high if high > low else low + 1)
        panel = Panel.histogram(sheet, box, title, values, span)
        panel.below(0, f"{low:.3g}")
        panel.below(1, f"{span[1]:.3g}")
    return write_picture(path, np.asarray(sheet))


def write_contact_sheet(path: Path, found: Survey, *, max_pixels: int | None = None) -> Path:
    """Draw the best and the worst masks of a survey as PNG; all else as in `write_statistics`.

    The limit `max_pixels` is that of `nexus.data.images.load_image`.
    """
    groups = (("best predicted IoU", found.best), ("worst predicted IoU", found.worst))
    return write_tiles(
        path, [(title, [_tile(image, max_pixels) for image in shown]) for title, shown in groups]
    )


def _summary(values: NDArray[np.float64]) -> dict[str, float] | None:
    if not len(values):
        return None
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "mean": math.fsum(values) / len(values),
        "largest": float(values.max()),
    }


def _tile(image: DatasetImage, max_pixels: int | None) -> Tile:
    """Return a mask on the part of its image around it, and its score and the image's name."""
    (mask,) = image.masks
    caption = f"{mask['predicted_iou']:.3f}  {image.source.name}"
    x0, y0, x1, y1 = mask["box_xyxy"]
    margin = max(4, (x1 - x0) // 4, (y1 - y0) // 4)
    window = np.s_[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin]
    shown = decode_rle(mask["segmentation"])[window]
    with contextlib.suppress(NexusError, OSError):  # gone since; the masks are what matters
        part = load_image(image.source.path, max_pixels=max_pixels)[window]
        if part.shape[:2] == shown.shape:
            return fitted(overlay(part, shown[None]), Image.Resampling.BILINEAR), caption
    return blank_tile(), caption
