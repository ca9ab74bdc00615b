"""Small pictures, masks and documents, from which the tests lay out datasets as published."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE_HW = (12, 16)


def picture(path: Path, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """Write a picture of noise that is the same for every call of one size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def labels(
    *rectangles: tuple[int, int, int, int, int], size_hw: tuple[int, int] = SIZE_HW
) -> np.ndarray:
    """Draw rectangles of value, x0, y0, x1, y1 into a label map."""
    drawn = np.zeros(size_hw, np.int32)
    for value, x0, y0, x1, y1 in rectangles:
        drawn[y0:y1, x0:x1] = value
    return drawn


def label_map(path: Path, values: np.ndarray, *, palette: bool = False) -> Path:
    """Write a label map as a PNG of 8 or 16 bits, grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8 if values.max() < 256 else np.uint16))
    if palette:
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
    image.save(path)
    return path


def colours(path: Path, values: np.ndarray) -> Path:
    """Write (H, W, 3) values as a PNG in colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def document(path: Path, value: Any) -> Path:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
    return path


@pytest.fixture
def write() -> SimpleNamespace:
    """Give the writers."""
    return SimpleNamespace(
        picture=picture, labels=labels, label_map=label_map, colours=colours, document=document
    )
