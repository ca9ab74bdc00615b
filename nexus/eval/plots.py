"""Pictures of an evaluation: histograms, the curve over clicks, and the worst objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import NexusError
from nexus.core.words import counted
from nexus.data.images.loading import load_image, write_picture
from nexus.data.images.sheets import Panel, blank_tile, fitted, write_tiles
from nexus.data.truth.labelled import LabelledImage, LabelledVideo
from nexus.ops.boxes import tight_box
from nexus.ops.draw import overlay
from nexus.ops.rle import decode_rle

_PANEL_WH = (520, 300)
_TRUE, _PREDICTED = (0, 190, 130), (255, 120, 0)
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

_Rows = Sequence[Mapping[str, Any]]
_Source = LabelledImage | LabelledVideo

Sources = Mapping[tuple[str, str], _Source]
"""Images and videos by name of set and of image."""


def write_histograms(path: Path, rows: _Rows) -> Path:
    """Draw for each protocol how the IoU (for videos J&F) spreads, as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    width, height = _PANEL_WH
    sheet = Image.new("RGB", (width, height * max(1, len(protocols))), "white")
    for place, protocol in enumerate(protocols):
        metric = main_metric(protocol)
        values = [row[metric] for row in rows if row["protocol"] == protocol]
        values = [value for value in values if value is not None]
        title = f"{protocol}: {metric} of {counted(len(values), 'object')}"
        panel = Panel.histogram(sheet, (0, place * height, width, height), title, values, (0, 1))
        for tick in _TICKS:
            panel.below(tick, f"{tick:g}")
    return write_picture(path, np.asarray(sheet))


def write_click_curve(path: Path, curve: Sequence[float], title: str) -> Path:
    """Draw the mean IoU after each click as PNG; return the path.

    Raises:
        OSError: It cannot be written.
    """
    sheet = Image.new("RGB", _PANEL_WH, "white")
    panel = Panel(sheet, (0, 0, *_PANEL_WH), title, 1.0)
    for tick in _TICKS:
        panel.level(tick)
    places = [0.5] if len(curve) == 1 else [i / (len(curve) - 1) for i in range(len(curve))]
    panel.line(list(zip(places, curve, strict=True)))
    for index in range(0, len(curve), max(1, math.ceil(len(curve) / 10))):
        panel.below(places[index], str(index + 1))
    return write_picture(path, np.asarray(sheet))


def write_worst(path: Path, rows: _Rows, sources: Sources) -> Path:
    """Draw the worst objects of rows with predictions, by protocol, as PNG; return the path.

    Truth is green and prediction orange; pictures and truth come from `sources`.

    Raises:
        OSError: It cannot be written.
    """
    groups = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        metric, tiles = main_metric(protocol), []
        for row in worst_rows(rows, protocol):
            tile = _tile(row, sources.get((row["set"], row["image"])))
            tiles.append((tile, f"{row[metric]:.3f}  {row['image']} #{row['object_id']}"))
        groups.append((f"{protocol}: lowest {metric}; truth green, prediction orange", tiles))
    return write_tiles(path, groups)


def main_metric(protocol: str) -> str:
    """Return the metric that pictures of a protocol show."""
    return "j_and_f" if protocol == "vos" else "iou"


def worst_rows(rows: _Rows, protocol: str, count: int = 12) -> list[Mapping[str, Any]]:
    """Return the rows of a protocol with the lowest figures, worst first."""
    metric, own = main_metric(protocol), (row for row in rows if row["protocol"] == protocol)
    shown = [row for row in own if row[metric] is not None and "prediction" in row]
    return sorted(shown, key=lambda row: float(row[metric]))[:count]


def _tile(row: Mapping[str, Any], source: _Source | None) -> Image.Image:
    """Return the part of an image around an object, with both outlines; grey if it is gone."""
    try:
        if source is None:
            return blank_tile()
        image, truth = _read(row, source)
    except (NexusError, OSError):  # it was there when it was evaluated; the figures matter more
        return blank_tile()
    masks = truth, decode_rle(row["prediction"])
    both = masks[0] | masks[1]
    x0, y0, x1, y1 = tight_box(both) if both.any() else (0, 0, both.shape[1], both.shape[0])
    margin = 4 + (max(y1 - y0, x1 - x0) - 1) // 5
    window = np.s_[max(0, y0 - margin) : y1 + margin, max(0, x0 - margin) : x1 + margin]
    part = image[window]
    plain = overlay(part, np.zeros((0, *part.shape[:2]), np.bool_))
    shown = np.asarray(fitted(plain, Image.Resampling.BILINEAR))
    # Masks are enlarged before their outlines are drawn, lest a line be as wide as a pixel of old.
    edges = [np.asarray(fitted(mask[window], Image.Resampling.NEAREST)) for mask in masks]
    return Image.fromarray(overlay(shown, np.stack(edges), colors=(_TRUE, _PREDICTED), alpha=0.0))


def _read(row: Mapping[str, Any], source: _Source) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the image and the true mask of a row; an object not there has an empty one."""
    if isinstance(source, LabelledVideo):
        frame = row["worst_frame"]
        return load_image(source.frames[frame]), source.load_labels(frame) == row["object_id"]
    truths = {truth.object_id: truth.mask for truth in source.load_truths()}
    image = source.load_image()
    return image, truths.get(row["object_id"], np.zeros(image.shape[:2], np.bool_))
