"""Measure nuclei: a row for each, and how well the found ones fit true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("image", "number", "x", "y", "area_px", "diameter_px")


@dataclass(frozen=True)
class Score:
    """Nuclei of one image.

    Attributes:
        found: How many were found.
        true: How many there are.
        matched: Found ones whose IoU with a true one is above 0.5. Label maps hold no overlaps,
            so that none can have two partners: the matching is one to one.
    """

    found: int
    true: int
    matched: int


def rows(name: str, labels: NDArray[np.integer]) -> list[tuple[str, int, float, float, int, float]]:
    """Return `COLUMNS` for each nucleus: its centre, area, and the diameter of an equal disc."""
    found = []
    for number in range(1, int(labels.max()) + 1):
        y, x = np.nonzero(labels == number)
        diameter = round(float(np.sqrt(4 * len(x) / np.pi)), 2)
        centre = round(float(x.mean()), 1), round(float(y.mean()), 1)
        found.append((name, number, *centre, len(x), diameter))
    return found


def score(found: NDArray[np.integer], truth: NDArray[np.integer]) -> Score:
    """Compare two label maps (H, W), 0 background."""
    counts = np.zeros((int(found.max()) + 1, int(truth.max()) + 1))
    np.add.at(counts, (found, truth), 1)
    union = counts.sum(1)[:, None] + counts.sum(0) - counts
    good = (counts / np.maximum(union, 1))[1:, 1:] > 0.5
    sizes = counts.sum(1)[1:], counts.sum(0)[1:]
    return Score(int((sizes[0] > 0).sum()), int((sizes[1] > 0).sum()), int(good.sum()))


def summary(scores: list[Score]) -> dict[str, float]:
    """Return the count errors over images, each of which counts the same, and F1 over nuclei.

    Raises:
        ValueError: No image.
    """
    if not scores:
        raise ValueError("expected the scores of at least one image, got none")
    found, true, matched = (
        np.array([getattr(each, name) for each in scores], np.float64)
        for name in ("found", "true", "matched")
    )
    error = found - true
    return {
        "mean absolute error": float(np.abs(error).mean()),
        "mean relative error": float((np.abs(error) / np.maximum(true, 1)).mean()),
        "mean signed error": float(error.mean()),
        "F1 at IoU 0.5": float(2 * matched.sum() / max((found + true).sum(), 1)),
    }
